"""What a protocol file says is what is compared, and every mistake in it is named before anything
is trained.
"""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from made_up_protocols import CONTENT, write_protocol

from utils.comparison.arms import DUAL, JOINT, find_arm
from utils.comparison.protocol import COMMON, PRIMARY, Contrast
from utils.comparison.protocol_file import ArmEntry, ProtocolFile, load_protocol
from utils.core.files import ROOT
from utils.core.script import UserError

EXAMPLE = ROOT / "docs/example-protocol.yaml"


def test_what_the_file_says_is_the_protocol(tmp_path: Path):
    path = write_protocol(tmp_path)
    protocol = load_protocol(path)
    assert protocol.data == {
        f"fold{n}": str(tmp_path / f"folds/fold{n}/data.yaml") for n in range(3)
    }
    assert protocol.arms == (find_arm("fixed"), find_arm("gradnorm")) and protocol.seeds == (0, 1)
    assert protocol.counted == (Contrast("gradnorm", "fixed", "mAP50"),) and protocol.margins == {
        "mAP50": 0.08
    }
    assert protocol.options == COMMON | {"size": "n", "epochs": 3} and protocol.split == "val"
    assert protocol.primary == PRIMARY and protocol.source == path
    assert (protocol.planned, protocol.budget.trainings, protocol.budget.hours) == (12, 12, 2)


def test_some_of_the_folds(tmp_path: Path):
    protocol = load_protocol(write_protocol(tmp_path, fold_numbers=[2, 0]))
    assert list(protocol.data) == ["fold2", "fold0"] and protocol.planned == 8


def test_one_data_set_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    write_protocol(tmp_path / "docs", folds=None, data="../mine/data.yaml")
    assert load_protocol("docs/protocol.yaml").data == {"": "mine/data.yaml"}


def test_arms_of_ones_own(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("lr0: 0.002\n")
    own = {
        "fixed": "fixed",
        "gradnorm": {
            "like": "gradnorm",
            "options": {"hyp": "mine.yaml", "epochs": 5, "gradnorm_alpha": 0.5},
        },
        "two": {"script": "dual", "options": {"detection_lr0": 0.01}, "about": "two rates"},
        "boxes": {"script": "joint", "options": {"tasks": ["detection"]}},
        "also-boxes": {"like": "detection-only"},
        "other-name": "ratio-15",
    }
    protocol = load_protocol(write_protocol(tmp_path, arms=own, budget={"trainings": 36}))
    arms = {arm.name: arm for arm in protocol.arms}
    assert list(arms) == list(own)
    options, hyp = protocol.settings(arms["gradnorm"])
    assert (options.epochs, hyp.lr0, hyp.gradnorm_alpha, hyp.initial_classification_weight) == (
        5,
        0.002,
        0.5,
        0.01,
    )
    assert protocol.settings(arms["fixed"])[0].epochs == 3
    assert (arms["two"].script, arms["two"].about, arms["boxes"].script) == (
        DUAL,
        "two rates",
        JOINT,
    )
    assert arms["boxes"].tasks == arms["also-boxes"].tasks == ("detection",)
    assert arms["other-name"].options == find_arm("ratio-15").options


def test_what_an_arm_needs_is_planned_too(tmp_path: Path):
    arms = {"static": {"like": "gradnorm-static"}, "ratio-15": "ratio-15"}
    contrast = {"arm": "ratio-15", "reference": "static", "metric": "mAP50"}
    protocol = load_protocol(
        write_protocol(tmp_path, arms=arms, compare=[contrast], budget={"trainings": 18})
    )
    assert {arm.name for arm in protocol.arms} == {"static", "gradnorm", "ratio-15"}
    assert protocol.planned == 18


def test_an_arm_of_ones_own_may_have_the_name_of_one_that_is_gone(tmp_path: Path):
    own = {"like": "ratio-15", "about": "the best ratio on folds 0 and 1"}
    arms = CONTENT["arms"] | {"tuned": own}
    path = write_protocol(tmp_path, arms=arms, budget={"trainings": 18}, **contrast(arm="tuned"))
    protocol = load_protocol(path)
    assert protocol.arms[-1].about == own["about"]
    assert protocol.counted == (Contrast("tuned", "fixed", "mAP50"),)


def contrast(**changes: str) -> dict:
    return {"compare": [CONTENT["compare"][0] | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": {}}, "unknown key 'arm'; did you mean 'arms'?"),
        ({"arms": None}, "key 'arms' is missing; expected question, seeds, arms"),
        ({"seeds": 3}, "seeds is 3, expected list"),
        ({"seeds": [0, 0]}, "seeds is [0, 0], expected different whole numbers"),
        ({"seeds": [-1]}, "seeds is [-1], expected different whole numbers"),
        ({"seeds": []}, "seeds is [], expected different whole numbers"),
        ({"question": ["a"]}, "question is ['a'], expected str"),
        ({"folds": None}, "expected one of the keys data (a data.yaml) and folds"),
        ({"data": "data.yaml"}, "expected one of the keys data (a data.yaml) and folds"),
        ({"folds": "nowhere"}, "nowhere: 0 folds; expected DIR/*/data.yaml"),
        ({"fold_numbers": [1, 5]}, "fold_numbers: folds has no fold5; found fold0, fold1, fold2"),
        ({"fold_numbers": ["1"]}, "fold_numbers is ['1'], expected different whole numbers"),
        (
            {"folds": None, "data": "x.yaml", "fold_numbers": [1]},
            "fold_numbers is given, but no folds",
        ),
        ({"split": "vall"}, "split is 'vall', expected val or test; did you mean 'val'?"),
        ({"options": {"epoch": 3}}, "options: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"options": {"epochs": "ten"}}, "options: epochs is 'ten', expected int"),
        ({"options": {"epochs": 0}}, "options: --epochs is 0, expected at least 1"),
        ({"options": {"lr0": -1}}, "options: lr0 is -1.0, expected above 0"),
        ({"options": {"hyp": "none.yaml"}}, "options: none.yaml: no such file"),
        ({"options": {"seed": 3}}, "options: 'seed' is not set here but by key seeds"),
        (
            {"options": {"device": "cpu"}},
            "options: 'device' is not set here but by the command line",
        ),
        ({"arms": {}}, "arms is empty"),
        ({"arms": {"fixed": "fixt"}}, "arms: fixed: no arm 'fixt'; expected some of fixed, "),
        ({"arms": {"tuned": "tuned"}}, "arms: tuned: the arm 'tuned' is gone: it was the best of"),
        ({"arms": {"a": {"like": "tuned"}}}, "arms: a: the arm 'tuned' is gone: it was the best"),
        (contrast(reference="tuned"), "compare, entry 1: the arm 'tuned' is gone: it was the best"),
        ({"arms": {"fixed": 3}}, "arms: fixed: is 3, expected a built-in arm's name"),
        ({"arms": {"../x": "fixed"}}, "arms: ../x: expected a name of letters, digits"),
        ({"arms": {7: "fixed"}}, "arms: 7: expected a name of letters, digits"),
        ({"arms": {"a": {"option": {}}}}, "arms: a: unknown key 'option'; did you mean 'options'?"),
        ({"arms": {"a": {}}}, "arms: a: expected one of the keys like"),
        (
            {"arms": {"a": {"like": "fixed", "script": "joint"}}},
            "arms: a: expected one of the keys like",
        ),
        (
            {"arms": {"a": {"script": "jiont"}}},
            "script is 'jiont', expected joint or dual; did you mean 'joint'?",
        ),
        (
            {"arms": {"a": {"like": "fixed", "options": {"imgsz": 100}}}},
            "arms: a: --imgsz is 100, expected a multiple",
        ),
        (
            {"arms": {"a": {"like": "dual", "options": {"tasks": ["detection"]}}}},
            "arms: a: options: unknown key 'tasks'",
        ),
        (
            {"primary": {"detection": "f1"}},
            "primary: detection is 'f1', expected mAP50 or mAP50-95",
        ),
        (
            {"primary": {"boxes": "mAP50"}},
            "primary: task is 'boxes', expected detection or classification",
        ),
        (
            contrast(arm="gradnrom"),
            "compare, entry 1: arm is 'gradnrom', expected fixed or gradnorm; did you mean",
        ),
        (contrast(reference="gradnorm"), "compare, entry 1: gradnorm is compared with itself"),
        (contrast(metric="map50"), "compare, entry 1: metric is 'map50', expected mAP50 or"),
        (contrast(metric="view_accuracy"), "compare, entry 1: margins has no view_accuracy"),
        (
            {"compare": ["gradnorm"]},
            "compare, entry 1: is 'gradnorm', expected the keys arm, reference and metric",
        ),
        (
            {"compare": [{"arm": "fixed", "metric": "mAP50"}]},
            "compare, entry 1: key 'reference' is missing",
        ),
        (
            {"compare": CONTENT["compare"] * 2},
            "compare, entry 2: gradnorm - fixed in mAP50 is there twice",
        ),
        ({"margins": {"mAP50": 0}}, "margins: mAP50 is 0, expected a number above 0 and below 1"),
        ({"margins": {"mAP50": "8%"}}, "margins: mAP50 is '8%', expected a number"),
        ({"margins": {"mAP": 0.1}}, "margins: metric is 'mAP', expected mAP50 or"),
        (
            {"budget": {"trainings": 11}},
            "3 data sets x 2 seeds x 2 arms (fixed, gradnorm) are 12 trainings",
        ),
        ({"budget": {"trainings": 0}}, "budget: is {'trainings': 0}, expected numbers above 0"),
        ({"budget": {"hours": 3}}, "budget: key 'trainings' is missing"),
        ({"budget": {"trainings": 12, "days": 1}}, "budget: unknown key 'days'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict, message: str):
    path = write_protocol(tmp_path, **changes)
    with pytest.raises(UserError) as refused:
        load_protocol(path)
    assert str(refused.value).startswith(f"{path}: ") and message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_arm_without_a_task_is_not_compared_in_its_metric(tmp_path: Path):
    arms = CONTENT["arms"] | {"detection-only": "detection-only"}
    entry = {"arm": "gradnorm", "reference": "detection-only", "metric": "view_accuracy"}
    path = write_protocol(tmp_path, arms=arms, compare=[entry], budget={"trainings": 18})
    with pytest.raises(
        UserError, match="detection-only has no view_accuracy: it is trained for detection"
    ):
        load_protocol(path)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"none\.yaml: no such file; --protocol takes a protocol file"
    ):
        load_protocol(tmp_path / "none.yaml")


def test_an_option_of_an_arm_that_changes_nothing_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    arms = CONTENT["arms"] | {"gradnorm": {"like": "fixed", "options": {"gradnorm_alpha": 1.0}}}
    load_protocol(write_protocol(tmp_path, arms=arms))
    assert "--gradnorm-alpha has no effect beside the balancer fixed" in caplog.text


def test_the_example_is_valid_with_the_folds_of_its_how_to(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "docs")
    for number in range(2):
        fold = tmp_path / f"runs/phantom-folds/fold{number}"
        fold.mkdir(parents=True)
        (fold / "data.yaml").touch()
    protocol = load_protocol(tmp_path / "docs" / EXAMPLE.name)
    assert [arm.name for arm in protocol.arms] == ["fixed", "gradnorm"] and len(protocol.data) == 2
    assert protocol.planned == protocol.budget.trainings == 4
    assert [protocol.options[name] for name in ("size", "imgsz", "epochs")] == ["n", 160, 10]


def test_the_evenings_protocol_is_valid_and_spends_its_budget(tmp_path: Path):
    (tmp_path / "docs/recipe").mkdir(parents=True)
    shutil.copy(ROOT / "docs/recipe/stop_gradient.yaml", tmp_path / "docs/recipe")
    shutil.copy(ROOT / "docs/evening-protocol.yaml", tmp_path / "docs")
    for number in range(5):
        fold = tmp_path / f"runs/folds/fold{number}"
        fold.mkdir(parents=True)
        (fold / "data.yaml").touch()
    protocol = load_protocol(tmp_path / "docs/evening-protocol.yaml")
    assert [arm.name for arm in protocol.arms] == ["fixed", "gradnorm", "stop-gradient"]
    assert protocol.planned == protocol.budget.trainings == 15
    assert [(one.arm, one.reference) for one in protocol.counted] == [
        ("fixed", "stop-gradient"),
        ("gradnorm", "fixed"),
    ]


def test_the_how_to_names_every_key():
    text = (ROOT / "docs/how-to/compare-with-a-protocol.md").read_text(encoding="utf-8")
    keys = [field.name for field in dataclasses.fields(ProtocolFile)]
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == sorted(keys)
    assert all(
        f"{field.name}:" in text or f"`{field.name}`" in text
        for field in dataclasses.fields(ArmEntry)
    )
    commands = [line for line in text.splitlines() if line.startswith("python ")]
    assert (
        f"--protocol {EXAMPLE.relative_to(ROOT)}" in commands[1]
        and "--out runs/phantom-folds" in commands[0]
    )

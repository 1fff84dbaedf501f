"""Checkpoints of our own format that someone made or changed by hand.

One line that names file and key.
"""

import copy
import math
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import mini_models
from small_runs import new_job, run, small_options

import hubconf
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.checkpoints.checkpoint import VERSION, load_checkpoint, save_checkpoint
from utils.checkpoints.model_file import MODELS, load_any, model_from_checkpoint, open_model
from utils.checkpoints.schema import ARGUMENTS, check_checkpoint
from utils.core.device import select_compute
from utils.core.files import ROOT
from utils.core.hyperparameters import HyperParameters
from utils.core.options import JointOptions
from utils.core.script import UserError
from utils.training.run import Run, build_model, start_run
from utils.training.trainer import Trainer, train

GONE = object()
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def sound() -> dict[str, object]:
    """What a checkpoint holds besides the state of a training."""
    model = mini_models()["joint"]
    return {
        "kind": "joint",
        "arguments": model.arguments(),
        "epoch": 3,
        "best": {"joint": {"epoch": 2, "fitness": 0.5}},
        "options": {"imgsz": 64, "data": "data.yaml", "rect": False},
        "hyp": {"lr0": 0.01},
        "names": ["AR", "MR", "PR", "TR"],
        "view_names": ["A4C", "PSAX", "PLAX"],
        "view_prior": {"majority": 1, "by_class": {0: 2, 3: 1}},
        "confidence": 0.25,
        "fingerprint": "1-2",
        "model": model.state_dict(),
        "ema": {"model": model.state_dict()},
    }


def changed(content: dict, path: str, value: object) -> dict:
    """A copy with another value, or none (`GONE`), at a path of keys joined by "/"."""
    content = copy.deepcopy(content)
    *above, last = path.split("/")
    place = content
    for key in above:
        place = place[int(key) if isinstance(place, list) else key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return content


WEIGHT = "model/model.0.conv.weight"
CHANGES = {
    "kind": (GONE, None, "segmenter", 1, ["joint"], "detection", "dual"),
    "arguments": (GONE, None, [], "cfg"),
    "arguments/cfg": (GONE, None, "models/yolov5s.yaml", {}, {"backbone": []}),
    "arguments/nc": (GONE, None, 0, -4, 5, "4", 4.0, True),
    "arguments/views": (GONE, None, 2, -3, "3"),
    "arguments/tasks": ([], ["segmentation"], "detection", ["detection", "detection"], [1], None),
    "arguments/size": ("s", None),
    "arguments/cfg/width_multiple": (NAN, 0, "wide"),
    "arguments/cfg/anchors": (3, [[1, 2], [3, 4]], None),
    "options": (GONE, None, "imgsz", []),
    "options/imgsz": (GONE, None, 0, -64, 100, 64.0, "64", True, 10**9),
    "options/data": (GONE, None, 5, ["a"]),
    "options/rect": (None, 1, "yes"),
    "names": (GONE, None, [], "AR", ["", "1", "2", "3"],
              ["AR"], ["AR", "MR", "PR", "PR"], ["AR", "MR", "PR", 3], {0: "AR"}),
    "view_names": (GONE, None, "A4C", ["A4C"], ["A4C", "A4C", "PLAX"], [0, 1, 2]),
    "confidence": (GONE, NAN, INF, -INF, -0.1, 1.1, "0.5", True, [0.5], torch.tensor(0.5)),
    "thresholds": (None, 0.5, [0.5], {"clip_evidence": NAN}, {"clip_evidence": "0.5"}, {"view_probability": 1.1},
                   {"clip_evidence": 0.5, "view_probability": True}),
    "view_prior": (GONE, 1, {}, [1], {"majority": 3, "by_class": {}}, {"majority": -1, "by_class": {}},
                   {"majority": 0, "by_class": {4: 0}}, {"majority": 0, "by_class": {0: 3}},
                   {"majority": 0, "by_class": [1]},
                   {"majority": 0.5, "by_class": {}}, {"majority": 0, "by_class": {"0": 1}}, {"majority": 0}),
    "fingerprint": (GONE, None, 12, ["1", "2"]),
    "epoch": (-5, -2, 1.5, "3", None, True),
    "best": (None, [], {"joint": None}, {"joint": {}}, {"joint": {"epoch": -2, "fitness": 0.1}},
             {"joint": {"epoch": 1, "fitness": NAN}}, {"joint": {"epoch": 1, "fitness": "good"}}),
    "hyp": (None, "hyp.yaml", [1]),
    "model": (GONE, None, {}, [], torch.zeros(3)),
    "ema": (None, [], {}, {"model": {}}, {"model": None}),
    WEIGHT: (GONE, None, 1.0, [1.0], "w", torch.zeros(3), torch.zeros(()), torch.full((8, 3, 3, 3), NAN),
             torch.full((8, 3, 3, 3), INF), torch.zeros((8, 3, 3, 3), dtype=torch.int64),
             torch.zeros((8, 3, 3, 3), dtype=torch.complex64), torch.zeros((8, 3, 3, 3)).to_sparse(),
             torch.full((8, 3, 3, 3), 1e300, dtype=torch.float64)),
    "model/model.99.weight": (torch.zeros(3),),
    "model/model.0.bn.running_var": (torch.full((8,), NAN),),
}  # fmt: skip
MEMBERS = [(path, value) for path, values in CHANGES.items() for value in values]


def name_of(value: object) -> str:
    return "gone" if value is GONE else " ".join(repr(value).split())[:30]


def opened(path: Path) -> None:
    content = load_checkpoint(path)
    model_from_checkpoint(content, content["model"], path)


@pytest.mark.parametrize(("path", "value"), MEMBERS, ids=name_of)
def test_what_is_wrong_in_a_checkpoint_is_one_line_with_file_and_key(
    sound: dict, tmp_path: Path, path: str, value: object
):
    file = tmp_path / "a.pt"
    save_checkpoint(file, changed(sound, path, value))
    with pytest.raises(UserError) as refused:
        opened(file)
    message = str(refused.value)
    assert message.startswith(f"{file}: ") and "\n" not in message and len(message) < 500
    key = "arguments" if path == "arguments/cfg" else path.split("/")[-1]
    assert key in message or path in (
        "kind",
        "names",
        "view_names",
    )  # which then no longer fit the rest


def test_there_are_many_members():
    assert len(MEMBERS) > 100


def test_a_sound_checkpoint_is_taken(sound: dict, tmp_path: Path):
    save_checkpoint(tmp_path / "a.pt", sound)
    opened(tmp_path / "a.pt")
    for key in ("epoch", "best", "hyp", "ema"):  # of a training only
        check_checkpoint(changed(sound, key, GONE), "a.pt")
    check_checkpoint(changed(changed(sound, "confidence", None), "view_prior", None), "a.pt")


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_is_described(kind: str):
    assert ARGUMENTS.keys() == MODELS.keys()
    detector = DetectionModel(ROOT / "models/yolov5n.yaml", nc=4)
    model = detector if kind == "detection" else mini_models()[kind]
    assert model.kind == kind and model.arguments().keys() == ARGUMENTS[kind].keys()


@pytest.mark.parametrize("where", ["model", "ema/model"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_one_number_that_is_not_finite_is_enough(
    sound: dict, tmp_path: Path, where: str, value: float
):
    weights = copy.deepcopy(sound["model"])
    weights["model.3.cv1.conv.weight"].view(-1)[-1] = value
    save_checkpoint(tmp_path / "a.pt", changed(sound, where, weights))
    with pytest.raises(
        UserError,
        match=r"a\.pt: .*model\.model\.3\.cv1\.conv\.weight has values that are not finite",
    ):
        load_checkpoint(tmp_path / "a.pt")


# ---- every reader --------------------------------------------------------------------------------

FLOAT32 = select_compute("off", torch.device("cpu"))
READERS: dict[str, Callable[[Path], object]] = {
    "val and detect": lambda path: open_model(path, model_from_checkpoint, FLOAT32),
    "export": load_any,
    "hub": lambda path: hubconf.joint(path, device="cpu"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("path", "value"),
    [("confidence", NAN), ("names", GONE), (WEIGHT, torch.full((8, 3, 3, 3), NAN)), ("kind", 1)],
    ids=name_of,
)
def test_every_reader_refuses(sound: dict, tmp_path: Path, reader: str, path: str, value: object):
    save_checkpoint(tmp_path / "a.pt", changed(sound, path, value))
    with pytest.raises(UserError, match=r"a\.pt: "):
        READERS[reader](tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("path", "value"),
    [("confidence", NAN), ("names", GONE), (WEIGHT, torch.full((8, 3, 3, 3), NAN)), ("model", {})],
    ids=name_of,
)
def test_fine_tuning_refuses(sound: dict, tmp_path: Path, path: str, value: object):
    save_checkpoint(tmp_path / "a.pt", changed(sound, path, value))
    asked = Run(
        JointOptions(weights=str(tmp_path / "a.pt")), HyperParameters(), tmp_path / "run", FLOAT32
    )
    with pytest.raises(UserError, match=r"a\.pt: "):
        build_model(asked, YOLOv5WithClassification, **sound["arguments"])


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_flipped_bit_is_seen(sound: dict, tmp_path: Path, place: float, bit: int):
    """In what is stored; not every bit of a zip archive means something."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, sound)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.file_size > 16]
    member = members[int(place * len(members))]
    start = (
        member.header_offset
        + 30
        + int.from_bytes(content[member.header_offset + 26 :][:2], "little")
    )
    start += int.from_bytes(content[member.header_offset + 28 :][:2], "little")
    content[start + int(place * member.file_size)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(
        UserError,
        match=rf"a\.pt: not a readable checkpoint \({member.filename} differs from its checksum",
    ):
        load_checkpoint(path)


def test_a_bare_pickle_is_refused(sound: dict, tmp_path: Path):
    """It has no checksums; PyTorch wrote such files before 1.6, this program never did."""
    torch.save({"format": "yolov5-joint-gradnorm", "version": VERSION, **sound}, tmp_path / "a.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip
    with pytest.raises(UserError, match=r"a\.pt: refused"):
        load_checkpoint(tmp_path / "a.pt")


# ---- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", [0, -1, VERSION + 1, 99, "2", 2.0, True, None, [2], torch.tensor(2)], ids=name_of
)
def test_other_versions_are_refused(sound: dict, tmp_path: Path, version: object):
    save_checkpoint(tmp_path / "a.pt", sound | {"version": version})
    with pytest.raises(UserError, match=r"a\.pt: checkpoint version .*, expected 1 or 2"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("reader", READERS)
def test_the_first_version_evaluates_detects_and_exports(sound: dict, tmp_path: Path, reader: str):
    """Its keys that were passed by then are passed by still, and its confidence 0 is none."""
    old = changed(sound, "arguments/cfg/activation", "nn.ReLU()") | {
        "version": 1,
        "confidence": 0.0,
    }
    save_checkpoint(tmp_path / "a.pt", old)
    READERS[reader](tmp_path / "a.pt")
    content = load_checkpoint(tmp_path / "a.pt")
    assert content["confidence"] is None and content["version"] == 1
    assert hubconf.joint(tmp_path / "a.pt", device="cpu").predictor.confidence == 0.25


def test_the_first_version_fine_tunes(
    sound: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save_checkpoint(tmp_path / "a.pt", sound | {"version": 1})
    caplog.set_level("INFO")
    options = JointOptions(weights=str(tmp_path / "a.pt"))
    asked = Run(options, HyperParameters(), tmp_path / "run", FLOAT32)
    arguments = sound["arguments"]
    model = build_model(asked, YOLOv5WithClassification, **arguments)
    assert torch.equal(
        model.state_dict()["model.0.conv.weight"], sound["model"]["model.0.conv.weight"]
    )
    assert f"transferred {len(sound['model'])} of {len(sound['model'])} tensors" in caplog.text


# ---- resume --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after its second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    options = small_options(tiny_data, folder)
    run(options, folder / "run", epochs=2)
    (folder / "run/summary.json").unlink()
    for name in ("last.pt", "best.pt"):
        path = folder / "run/weights" / name
        save_checkpoint(path, changed(load_checkpoint(path), "options/epochs", 3))
    return folder / "run"


def resumed(folder: Path, tmp_path: Path, name: str, path: str, value: object) -> Trainer:
    shutil.copytree(folder, tmp_path / "run")
    file = tmp_path / "run/weights" / name
    save_checkpoint(file, changed(load_checkpoint(file), path, value))
    return Trainer(new_job({"resume": str(tmp_path / "run/weights/last.pt")}))


OPTIMIZER = "networks/joint/stepper/optimizer"
RESUMED = {
    "networks": (GONE, None, [], {}, {"other": {}}, {"joint": None}, {"joint": {}}),
    "networks/joint/stepper": (GONE, None, {}, []),
    "networks/joint/ema_updates": (GONE, -1, 1.5, "7"),
    "networks/joint/best_parts": (GONE, None, {"detection": NAN}, {"detection": INF}, {"detection": "0.5"}),
    "networks/joint/highest_detection": (GONE, NAN, -0.5, 1.5, "0.5"),
    "networks/joint/best_epoch": (GONE, -2, 0.5),
    OPTIMIZER: (GONE, None, {}, {"state": {}, "param_groups": []}, {"state": {}}),
    f"{OPTIMIZER}/state": (None, {0: {"exp_avg": torch.zeros(5)}}, {0: {"exp_avg": torch.full((16,), NAN)}}),
    f"{OPTIMIZER}/param_groups": ([{"params": [0]}], "groups"),
    "balancer": (GONE, None, {}, {"weights": {}}, {"weights": {"detection": NAN, "classification": 1.0}}),
    "random": (GONE, None, [], [None], [{}], [{"python": 1, "numpy": 2, "torch": 3, "cuda": []}]),
    "epoch": (GONE, -5, 3, 99),
    "precision": (GONE, None, "float8"),
    "hyp": (GONE, {"lr0": "fast"}, {"lr0": -1.0}, {"learning": 1.0}),
    "options/imgsz": (32 * 10**6,),
    "options/epochs": ("many", 0),
    "options/unheard_of": (1,),
    "ema": (GONE, None),
    "fingerprint": ("1-2",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in RESUMED.items() for value in values],
    ids=name_of,
)
def test_what_is_wrong_for_a_resume_is_one_line(
    stopped: Path, tmp_path: Path, path: str, value: object
):
    with pytest.raises(UserError) as refused:
        resumed(stopped, tmp_path, "last.pt", path, value)
    message = str(refused.value)
    assert "\n" not in message and (
        message.startswith(f"{tmp_path}/run/weights/last.pt: ") or path == "fingerprint"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [("best", {}), ("best", GONE), ("confidence", NAN), ("model", {})],
    ids=name_of,
)
def test_a_wrong_best_checkpoint_is_one_line(
    stopped: Path, tmp_path: Path, path: str, value: object
):
    with pytest.raises(UserError, match=r"best\.pt: "):
        resumed(stopped, tmp_path, "best.pt", path, value)


def test_an_older_run_is_not_resumed(stopped: Path, tmp_path: Path):
    with pytest.raises(
        UserError,
        match=r"last\.pt: written by an older version \(format 1, expected 2\), whose defaults",
    ):
        resumed(stopped, tmp_path, "last.pt", "version", 1)


def test_processes_that_start_again_do_not_go_on_with_an_older_run(
    stopped: Path, tmp_path: Path, monkeypatch
):
    """Of the very launch, but begun before the program was replaced."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "launch")
    shutil.copytree(stopped, tmp_path / "run")
    file = tmp_path / "run/weights/last.pt"
    content = load_checkpoint(file)
    given = content["options"] | {"project": str(tmp_path)}
    save_checkpoint(file, content | {"version": 1, "launch": "launch", "options": given})
    with pytest.raises(UserError, match="written by an older version"):
        start_run(given | {"gradnorm_interval": 2}, "joint", JointOptions)


def test_an_unchanged_checkpoint_is_resumed(stopped: Path, tmp_path: Path):
    shutil.copytree(stopped, tmp_path / "run")
    assert train(new_job({"resume": str(tmp_path / "run/weights/last.pt")}))["epochs"] == 3


# ---- as a user calls it --------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["val.py", "export.py"])
def test_a_script_ends_with_one_line_and_exit_code_2(sound: dict, tmp_path: Path, script: str):
    save_checkpoint(tmp_path / "a.pt", sound | {"confidence": math.nan})
    command = [sys.executable, str(ROOT / script), "--weights", str(tmp_path / "a.pt")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(
        f"error: {tmp_path}/a.pt: confidence is nan, expected None, or a number from 0 to 1; "
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]

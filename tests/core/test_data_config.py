"""data.yaml: what it may say, and that mistakes are named."""

import logging
from pathlib import Path

import pytest
from small_files import write_yaml

from utils.core.data_config import DataConfig, load_data_config
from utils.core.files import ROOT
from utils.core.script import UserError

DATA = {
    "train": "images/train",
    "val": "images/val",
    "nc": 2,
    "names": ["AR", "MR"],
    "cls_names": ["A4C", "PSAX"],
}


def test_data_yaml(tmp_path: Path):
    (tmp_path / "yaml").mkdir()
    patterns = {"group_pattern": r"^(P\d+)_", "clip_pattern": r"^(P\d+_.+)_F(\d+)"}
    path = write_yaml(
        tmp_path / "yaml",
        DATA | patterns | {"path": "../set", "test": ["a", "b.txt"], "generate": "x"},
    )
    data = load_data_config(path)
    root = (tmp_path / "set").resolve()
    assert (data.source, data.root, data.generate) == (path, root, "x")
    assert data.splits["train"] == (root / "images/train",)
    assert data.splits["val"] == (root / "images/val",)
    assert data.splits["test"] == (root / "a", root / "b.txt")
    assert (data.names, data.view_names) == (("AR", "MR"), ("A4C", "PSAX"))
    assert data.group_of("anywhere/P07_V1-1_F0003.jpg") == "P07"
    assert data.group_of("anywhere/other.jpg") != data.group_of("anywhere/another.jpg")


@pytest.mark.parametrize(
    ("pattern", "name", "clip"),
    [
        (r"^(P\d+_.+)_F(\d+)", "P07_V1-1_F0013b.jpg", ("P07_V1-1", 13)),
        (r"^(P\d+_.+)_F(\d+)", "P07.jpg", None),
        (r"^(\w+)-(\w*)", "clip-last.png", ("clip", 0)),
        (r"^(\w+)-(\d+)?", "clip-.png", ("clip", 0)),
        (r"^(\w*)-(\d+)", "-5.png", None),
        (None, "P07_V1-1_F0013.jpg", None),
    ],
)
def test_the_clip_of_a_frame_and_its_number(
    pattern: str | None, name: str, clip: tuple[str, int] | None
):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), clip_pattern=pattern)
    assert data.clip_of(Path("P99_V9_F9") / name) == data.clip_of(f"P99_V9_F9/{name}") == clip


def test_paths_without_a_path_key_are_relative_to_the_yaml_file(tmp_path: Path):
    assert load_data_config(write_yaml(tmp_path, DATA)).splits["train"] == (
        tmp_path.resolve() / "images/train",
    )


def test_labels_are_relative_to_the_yaml_file(tmp_path: Path):
    (tmp_path / "yaml").mkdir()
    path = write_yaml(
        tmp_path / "yaml",
        DATA | {"path": "../set", "labels": "../mended", "val": "../lists/val.txt"},
    )
    data = load_data_config(path)
    assert data.labels == (tmp_path / "mended").resolve()
    assert data.splits["val"] == (tmp_path.resolve() / "lists/val.txt",)  # without the ".."
    assert load_data_config(write_yaml(tmp_path, DATA)).labels is None


def test_absolute_paths_stay(tmp_path: Path):
    data = load_data_config(
        write_yaml(tmp_path, DATA | {"path": "/sets/echo", "val": "/elsewhere/val.txt"})
    )
    assert data.splits == {
        "train": (Path("/sets/echo/images/train"),),
        "val": (Path("/elsewhere/val.txt"),),
    }


@pytest.mark.parametrize(
    "names",
    [["AR", "MR"], {0: "AR", 1: "MR"}, {1: "MR", 0: "AR"}],
    ids=["list", "numbered", "numbered, any order"],
)
def test_names_as_list_or_numbered(tmp_path: Path, names: object):
    assert load_data_config(write_yaml(tmp_path, DATA | {"names": names})).names == ("AR", "MR")


def test_nc_and_views_may_be_left_out(tmp_path: Path):
    data = load_data_config(write_yaml(tmp_path, {k: DATA[k] for k in ("train", "val", "names")}))
    assert (data.names, data.view_names, data.group_pattern) == (("AR", "MR"), (), None)
    assert "test" not in data.splits


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param({"nc": 3}, "nc is 3 but names lists 2", id="nc too large"),
        pytest.param({"nc": "two"}, "nc is two", id="nc in words"),
        pytest.param({"train": None}, "'train' is missing", id="no train"),
        pytest.param({"val": None}, "'val' is missing", id="no val"),
        pytest.param({"names": None}, "'names' is missing", id="no names"),
        pytest.param({"names": "AR"}, "names is 'AR'", id="one name"),
        pytest.param(
            {"names": {1: "AR", 2: "MR"}}, r"names has numbers \[1, 2\]", id="numbered from 1"
        ),
        pytest.param({"names": {0: "AR", "x": "MR"}}, "names", id="numbered with a letter"),
        pytest.param({"names": ["AR", "AR"]}, "names repeats", id="names twice"),
        pytest.param({"cls_names": "A4C"}, "cls_names is 'A4C'", id="one view"),
        pytest.param({"train": 3}, "train is 3", id="train a number"),
        pytest.param({"train": {"a": "b"}}, "train is", id="train a mapping"),
        pytest.param({"path": 3}, "path", id="path a number"),
        pytest.param({"labels": ["a"]}, "labels", id="labels a list"),
        pytest.param({"generate": ["x"]}, "generate", id="generate a list"),
        pytest.param(
            {"group_pattern": "(P"},
            "group_pattern '.P' is not a regular expression",
            id="open parenthesis",
        ),
        pytest.param({"group_pattern": "P"}, "group_pattern 'P' has 0 groups", id="no group"),
        pytest.param({"group_pattern": 3}, "group_pattern 3", id="pattern a number"),
        *(
            pytest.param(
                {"bits": bits},
                r"bits is .*, expected a whole number from 8 to 16",
                id=f"bits {bits!r}",
            )
            for bits in (7, 17, 0, -12, 12.0, "12", True, [12], {"DICOM": 12}, float("nan"))
        ),
        pytest.param(
            {"clip_pattern": "(P)"}, "clip_pattern '.P.' has 1 groups", id="one group of two"
        ),
    ],
)
def test_a_wrong_data_yaml_names_file_and_key(tmp_path: Path, change: dict, found: str):
    path = write_yaml(tmp_path, DATA | change)
    with pytest.raises(UserError, match=found) as error:
        load_data_config(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("needed", [None, False, True])
def test_whether_frames_need_colour(tmp_path: Path, needed: bool | None):
    data = load_data_config(write_yaml(tmp_path, DATA | {"needs_colour": needed}))
    assert data.needs_colour == data.settings()["needs_colour"] == bool(needed)
    with pytest.raises(UserError, match="needs_colour is 'yes please', expected true or false"):
        load_data_config(write_yaml(tmp_path, DATA | {"needs_colour": "yes please"}))


@pytest.mark.parametrize("bits", [None, *range(8, 17)])
def test_stored_bits(tmp_path: Path, bits: int | None):
    assert load_data_config(write_yaml(tmp_path, DATA | {"bits": bits})).bits == bits


def test_an_unknown_key_warns_and_names_the_nearest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    load_data_config(write_yaml(tmp_path, DATA | {"group_patern": "(P)"}))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'group_patern'" in record.message and "did you mean 'group_pattern'" in record.message


@pytest.mark.parametrize("path", sorted((ROOT / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_data_files_load(path: Path, caplog: pytest.LogCaptureFixture):
    data = load_data_config(path)
    assert not caplog.records
    assert len(data.names) in (2, 4) and len(data.view_names) == 3
    assert {data.found_group(name) for name in ("P07_V1-1_F0003.jpg", "Q07_01.jpg")} & {
        "P07",
        "Q07",
    }
    assert data.unpaired_sides == []
    assert ROOT / "datasets" in data.root.parents  # git-ignored


# ---- what YAML makes of a value that was meant as text -------------------------------------------

TYPED = {  # as written in the file -> as PyYAML reads it
    **{
        "No": "False",
        "on": "True",
        "{y: 1}": "{'y': 1}",
        "true": "True",
        "010": "8",
        "12:30": "750",
        "7": "7",
    },
    **{"null": "None", "~": "None", "1.5": "1.5", ".inf": "inf", "0x1F": "31", "1_000": "1000"},
    **{
        "2024-05-01": "datetime.date(2024, 5, 1)",
        "[AR]": "['AR']",
        "{AR: 1}": "{'AR': 1}",
    },
}
AS_TEXT = [
    "1e3",
    "'No'",
    '"010"',
    "'null'",
    "No finding",
    "12:30h",
    "0o17",
    "3D",
    "n",
    "AR/MR",
    "\u5fc3",
]


def typed_yaml(folder: Path, **lines: str) -> Path:
    """A data.yaml with these lines as they are."""
    known = {"train": "a", "val": "b", "names": "[AR, MR]", "cls_names": "[A4C, PSAX]"}
    return write_yaml(
        folder, "".join(f"{key}: {value}\n" for key, value in (known | lines).items())
    )


@pytest.mark.parametrize("key", ["names", "cls_names"])
@pytest.mark.parametrize(
    "form", ["[AR, {}]", "\n  - AR\n  - {}", "{{0: AR, 1: {}}}", "\n  1: {}\n  0: AR"]
)
@pytest.mark.parametrize("written", TYPED)
def test_a_name_that_yaml_did_not_read_as_text_is_refused(
    tmp_path: Path, key: str, form: str, written: str
):
    with pytest.raises(UserError, match=rf": {key}: entry 2 is .+, expected text") as error:
        load_data_config(typed_yaml(tmp_path, **{key: form.format(written)}))
    assert TYPED[written] in str(error.value)
    is_nested = TYPED[written][0] in "[{"
    assert is_nested != ("put it in quotes" in str(error.value))


@pytest.mark.parametrize("written", AS_TEXT)
def test_what_yaml_reads_as_text_is_a_name(tmp_path: Path, written: str):
    data = load_data_config(
        typed_yaml(tmp_path, names=f"[AR, {written}]", cls_names=f"[A4C, {written}]")
    )
    assert data.names[1] == data.view_names[1] == written.strip("'\"")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param({"names": "{no: AR, yes: MR}"}, r"names has numbers \[False, True\], expected 0 to 1", id="bools"),
        pytest.param({"names": "{0.0: AR, 1.0: MR}"}, r"names has numbers \[0.0, 1.0\], expected 0", id="floats"),
        pytest.param({"names": "{'0': AR, '1': MR}"}, r"names has numbers \['0', '1'\], expected 0", id="texts"),
        pytest.param({"names": "[AR, ' ']"}, "names: entry 2 is ' ', expected text that is not blank", id="blank"),
        pytest.param({"names": "[AR,, MR]"}, "not readable as YAML", id="two commas"),
        pytest.param({"names": "&a [AR, *a]"}, "an alias of what it lies in", id="a list in itself"),
        pytest.param({"names": '["A\\udce9"]'}, r"names: 'A\\udce9' is not UTF-8", id="a byte"),
        pytest.param({"cls_names": "no"}, "cls_names is False, expected a list", id="views: no"),
        pytest.param({"cls_names": "0"}, "cls_names is 0, expected a list", id="views: 0"),
        pytest.param({"nc": "'2'"}, r"nc is 2 \(text\), expected 2, a whole number", id="nc in quotes"),
        pytest.param({"nc": "2.0"}, r"nc is 2.0 \(float\), expected 2", id="nc with a dot"),
        pytest.param({"nc": "yes"}, r"nc is True \(bool\), expected 2", id="nc: yes"),
        pytest.param({"names": "[AR]", "nc": "true"}, r"nc is True \(bool\), expected 1", id="nc: true, of one"),
        pytest.param({"nc": ""}, r"nc is None .*expected 2", id="nc without a value"),
        pytest.param({"nc": "[2]"}, r"nc is \[2\] \(list\), expected 2", id="nc a list"),
        pytest.param({"train": "2024-05-01"}, r"train is datetime.*, expected text; put it in quotes", id="a date"),
        pytest.param({"train": "[a, 010]"}, "train: entry 2 is 8, expected text; put it in quotes", id="a number"),
        pytest.param({"val": "[a, null]"}, "val: entry 2 is None, expected text", id="nothing in a list"),
        pytest.param({"val": "[a, '']"}, "val: entry 2 is '', expected text that is not blank", id="blank in a list"),
        pytest.param({"val": "[[a]]"}, r"val: entry 1 is \['a'\], expected text", id="a list in a list"),
        pytest.param({"train": "[]"}, r"train is \[\], expected a folder", id="train: []"),
        pytest.param({"train": "''"}, "train is '', expected a folder", id="train: ''"),
        pytest.param({"train": ""}, "key 'train' is missing", id="train without a value"),
        pytest.param({"val": "[]"}, r"val is \[\], expected a folder", id="val: []"),
        pytest.param({"train": "{}"}, "train is {}, expected a folder", id="train: {}"),
        pytest.param({"val": "off"}, "val is False, expected text; put it in quotes", id="val: off"),
        pytest.param({"test": "off"}, "test is False, expected text; put it in quotes", id="test: off"),
        pytest.param({"test": "0"}, "test is 0, expected text; put it in quotes", id="test: 0"),
        pytest.param({"path": "2024"}, "path is 2024, expected text; put it in quotes", id="path a year"),
        pytest.param({"labels": "no"}, "labels is False, expected text; put it in quotes", id="labels: no"),
        pytest.param({"generate": "1"}, "generate is 1, expected text", id="generate a number"),
        pytest.param({"group_pattern": "12:30"}, "group_pattern 750 .*put it in quotes", id="a time as pattern"),
        pytest.param({"group_pattern": "!!binary KGEp"}, "the tag !!binary", id="bytes as pattern"),
        pytest.param({"group_pattern": "'(a{99999999999})'"}, "is not a regular expression", id="too many"),
        pytest.param({"5": "x"}, "key is 5, expected text; put it in quotes", id="a number as key"),
        pytest.param({"no": "x"}, "key is False, expected text; put it in quotes", id="no as key"),
        pytest.param({"name": "0x_"}, "'0x_' is no int", id="a number without digits"),
        pytest.param({"date": "2024-13-45"}, "'2024-13-45' is no timestamp", id="a date that is none"),
        pytest.param({"x": "!!bool maybe"}, "'maybe' is no bool", id="a tag that does not fit"),
        pytest.param({"x": "!!timestamp x"}, "'x' is no timestamp", id="a time that is none"),
        pytest.param({"x": "[" * 3000}, "more than 32 lists", id="lists without end"),
    ],
)  # fmt: skip
def test_yamls_own_types_are_refused_in_one_line(tmp_path: Path, lines: dict, found: str):
    path = typed_yaml(tmp_path, **lines)
    with pytest.raises(UserError, match=found) as error:
        load_data_config(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("written", ["", "''", "[]", "~"])
def test_a_test_split_without_anything_is_none(tmp_path: Path, written: str):
    assert "test" not in load_data_config(typed_yaml(tmp_path, test=written)).splits


def test_data_without_boxes_say_so(tmp_path: Path):
    assert load_data_config(typed_yaml(tmp_path, names="[]", nc="0")).names == ()
    with pytest.raises(
        UserError, match=r"'names' is missing; .*names: \[\] if the data have no boxes"
    ):
        load_data_config(typed_yaml(tmp_path, names=""))


# ---- the patient in a file name ------------------------------------------------------------------

GROUPS = [  # pattern, file name, what it finds
    (r"^(P\d+)_", "P07_x.png", "P07"),
    (r"^(P\d+)_", "Q07_x.png", None),
    (r"^(P\d+)?_", "_x.png", None),
    (r"^(P\d*)?", "x.png", None),
    (r"^(P\d+)?(_.*)?", "P07.png", "P07"),
    (r"^(?:(P\d+)|Q\d+)_", "Q07_x.png", None),
    (r"^(?:(P\d+)|(Q\d+))_", "Q07_x.png", None),
    (r"^(?P<patient>P\d+)_", "P07_x.png", "P07"),
    (r"^(?P<patient>P\d+)?_?", "x.png", None),
    (r"^(?:site(\d+))?-", "-x.png", None),
    (r"^((P)?\d+)_", "07_x.png", "07"),
    (r"^(?:a(?:b(c)?)?)?", "ab.png", None),
    (r"(?=(P\d+))", "xP07.png", "P07"),
    (r"(?!(P\d+))x", "x.png", None),
    (r"(?<=-)(P\d+)", "a-P07.png", "P07"),
    (r"^(P)?(?(1)\d+|x)", "x.png", None),
    (r"^(\d*)_", "_x.png", None),
    (r"^(x|)", "y.png", None),
    (r"(?i)^(p\d+)", "P07.png", "P07"),
    (r"(\w+)\.png$|()", "a b.jpg", None),
    (r"^(.+?)(?:_\d+)?\.", "\u5fc3_1.png", "\u5fc3"),
]


@pytest.mark.parametrize(("pattern", "name", "group"), GROUPS)
def test_the_group_of_a_frame_is_always_text(pattern: str, name: str, group: str | None):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), group_pattern=pattern)
    path = Path("P99_folder") / name
    assert data.found_group(path) == group
    assert data.group_of(path) == data.group_of(str(path)) == (group or str(path))


@pytest.mark.parametrize(
    ("pattern", "clip"),
    [
        (r"^(P\d+)?_F(\d+)", None),
        (r"^(?:(P\d+)|x)_F(\d+)", None),
        (r"^(x)_F(\d+)?", ("x", 3)),
        (r"^(x)_(F)?\d*", ("x", 0)),
        (r"^(x)(?:_G(\d+))?", ("x", 0)),
        (r"^(?P<clip>\w)_F(?P<frame>\d)", ("x", 3)),
        (r"^()x_F(\d+)", None),
        (r"^(y)?|(z)", None),
    ],
)
def test_the_clip_of_a_frame_is_text_and_number_or_nothing(
    pattern: str, clip: tuple[str, int] | None
):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), clip_pattern=pattern)
    assert data.clip_of("x_F3.png") == clip


# ---- where a split lies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "entry", "taken"),
    [
        ("set/train/images", "../train/images", "set/train/images"),  # as Roboflow exports it
        ("train/images", "../train/images", "train/images"),
        ("set/../train", "../train", "train"),
        ("set/train", "train", "set/train"),
        ("elsewhere", "../train/images", "train/images"),  # nothing is there, which is said later
        ("set/train", "../../train", "../train"),  # as in YOLOv5, once only
    ],
)
def test_a_split_one_folder_up_may_lie_beside_the_file(
    tmp_path: Path, caplog, folder: str, entry: str, taken: str
):
    base = tmp_path / "base"
    (base / "set").mkdir(parents=True)
    (base / folder).mkdir(parents=True, exist_ok=True)
    path = write_yaml(base / "set", {"train": entry, "val": entry, "names": ["AR"]})
    data = load_data_config(path)
    assert data.splits["train"] == data.splits["val"] == ((base / taken).resolve(),)
    is_said = f"train: there is no {entry}, so " in caplog.text
    assert is_said == (entry.startswith("../") and taken.startswith("set/"))


@pytest.mark.parametrize("brackets", ["a[1]", "[ab]", "a[!b]"])
def test_brackets_in_a_folder_name_are_no_glob(tmp_path: Path, brackets: str):
    (tmp_path / brackets).mkdir()
    path = write_yaml(tmp_path, {"path": brackets, "train": "x", "val": "y", "names": ["AR"]})
    assert load_data_config(path).splits["train"] == (tmp_path.resolve() / brackets / "x",)

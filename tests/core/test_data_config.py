"""data.yaml: what it may say, and that mistakes are named."""

import logging
from pathlib import Path

import pytest
from small_files import write_yaml

from utils.core.data_config import DataConfig, load_data_config
from utils.core.files import ROOT
from utils.core.script import UserError

DATA = {"train": "images/train", "val": "images/val", "nc": 2, "names": ["AR", "MR"], "cls_names": ["A4C", "PSAX"]}


def test_data_yaml(tmp_path: Path):
    (tmp_path / "yaml").mkdir()
    patterns = {"group_pattern": r"^(P\d+)_", "clip_pattern": r"^(P\d+_.+)_F(\d+)"}
    path = write_yaml(tmp_path / "yaml", DATA | patterns | {"path": "../set", "test": ["a", "b.txt"], "generate": "x"})
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
def test_the_clip_of_a_frame_and_its_number(pattern: str | None, name: str, clip: tuple[str, int] | None):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), clip_pattern=pattern)
    assert data.clip_of(Path("P99_V9_F9") / name) == data.clip_of(f"P99_V9_F9/{name}") == clip


def test_paths_without_a_path_key_are_relative_to_the_yaml_file(tmp_path: Path):
    assert load_data_config(write_yaml(tmp_path, DATA)).splits["train"] == (tmp_path.resolve() / "images/train",)


def test_labels_are_relative_to_the_yaml_file(tmp_path: Path):
    (tmp_path / "yaml").mkdir()
    path = write_yaml(tmp_path / "yaml", DATA | {"path": "../set", "labels": "../mended", "val": "../lists/val.txt"})
    data = load_data_config(path)
    assert data.labels == (tmp_path / "mended").resolve()
    assert data.splits["val"] == (tmp_path.resolve() / "lists/val.txt",)  # without the ".."
    assert load_data_config(write_yaml(tmp_path, DATA)).labels is None


def test_absolute_paths_stay(tmp_path: Path):
    data = load_data_config(write_yaml(tmp_path, DATA | {"path": "/sets/echo", "val": "/elsewhere/val.txt"}))
    assert data.splits == {"train": (Path("/sets/echo/images/train"),), "val": (Path("/elsewhere/val.txt"),)}


@pytest.mark.parametrize(
    "names", [["AR", "MR"], {0: "AR", 1: "MR"}, {1: "MR", 0: "AR"}], ids=["list", "numbered", "numbered, any order"]
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
        pytest.param({"names": {1: "AR", 2: "MR"}}, r"names has numbers \[1, 2\]", id="numbered from 1"),
        pytest.param({"names": {0: "AR", "x": "MR"}}, "names", id="numbered with a letter"),
        pytest.param({"names": ["AR", "AR"]}, "names repeats", id="names twice"),
        pytest.param({"cls_names": "A4C"}, "cls_names is 'A4C'", id="one view"),
        pytest.param({"train": 3}, "train is 3", id="train a number"),
        pytest.param({"train": {"a": "b"}}, "train is", id="train a mapping"),
        pytest.param({"path": 3}, "path", id="path a number"),
        pytest.param({"labels": ["a"]}, "labels", id="labels a list"),
        pytest.param({"generate": ["x"]}, "generate", id="generate a list"),
        pytest.param({"group_pattern": "(P"}, "group_pattern '.P' is not a regular expression", id="open parenthesis"),
        pytest.param({"group_pattern": "P"}, "group_pattern 'P' has 0 groups", id="no group"),
        pytest.param({"group_pattern": 3}, "group_pattern 3", id="pattern a number"),
        *(
            pytest.param({"bits": bits}, r"bits is .*, expected a whole number from 8 to 16", id=f"bits {bits!r}")
            for bits in (7, 17, 0, -12, 12.0, "12", True, [12], {"DICOM": 12}, float("nan"))
        ),
        pytest.param({"clip_pattern": "(P)"}, "clip_pattern '.P.' has 1 groups", id="one group of two"),
    ],
)
def test_a_wrong_data_yaml_names_file_and_key(tmp_path: Path, change: dict, found: str):
    path = write_yaml(tmp_path, DATA | change)
    with pytest.raises(UserError, match=found) as error:
        load_data_config(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("bits", [None, *range(8, 17)])
def test_stored_bits(tmp_path: Path, bits: int | None):
    assert load_data_config(write_yaml(tmp_path, DATA | {"bits": bits})).bits == bits


def test_an_unknown_key_warns_and_names_the_nearest(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    load_data_config(write_yaml(tmp_path, DATA | {"group_patern": "(P)"}))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'group_patern'" in record.message and "did you mean 'group_pattern'" in record.message


@pytest.mark.parametrize("path", sorted((ROOT / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_data_files_load(path: Path, caplog: pytest.LogCaptureFixture):
    data = load_data_config(path)
    assert not caplog.records
    assert len(data.names) == 4 and len(data.view_names) == 3
    assert data.group_of("P07_V1-1_F0003.jpg") == "P07"
    assert ROOT / "datasets" in data.root.parents  # git-ignored

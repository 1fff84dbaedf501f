"""Frames of 12 bits are what their upper 8 bits are, from training to every use of the model."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from deep_images import deepen
from script_processes import run_script_process
from small_runs import TIMES, run, small_options

import val
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.model_file import ModelMetadata
from utils.core.files import ROOT
from utils.core.script import UserError
from utils.plots.frames import read_frame


@pytest.fixture(scope="module")
def sets(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Bits -> the data.yaml of the same frames stored in so many."""
    found = {}
    for bits in (8, 12):
        folder = tmp_path_factory.mktemp(f"bits{bits}")
        shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
        found[bits] = folder / "data.yaml"
    deepen(found[12].parent, 12)
    content = yaml.safe_load(found[12].read_text())
    found[12].write_text(yaml.safe_dump(content | {"bits": 12}))
    return found


@pytest.fixture(scope="module")
def runs(sets: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        bits: run(small_options(data, folder), folder / str(bits), epochs=1)
        for bits, data in sets.items()
    }


def frame(sets: dict[int, Path], bits: int) -> Path:
    return min((sets[bits].parent / "frames/images/val").iterdir())


def test_a_training_is_the_same(runs: dict[int, Path]):
    tables = [pd.read_csv(folder / "results.csv").drop(columns=TIMES) for folder in runs.values()]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert [load_checkpoint(folder / "weights/last.pt")["bits"] for folder in runs.values()] == [
        None,
        12,
    ]


def test_pictures_are_drawn_from_the_same_pixels(runs: dict[int, Path]):
    records = [json.loads((folder / "val_batch.json").read_text()) for folder in runs.values()]
    for shallow, deep in zip(*records, strict=True):
        images = [read_frame(Path(record["path"]), record["bits"]) for record in (shallow, deep)]
        np.testing.assert_array_equal(*images)


def test_the_hub_says_the_same(sets: dict[int, Path], runs: dict[int, Path], tmp_path: Path):
    model = torch.hub.load(
        str(ROOT), "joint", runs[12] / "weights/last.pt", source="local", conf_thres=0.001
    )
    (shallow, view), (deep, other) = (model.predict(frame(sets, bits)) for bits in (8, 12))
    np.testing.assert_array_equal(shallow, deep)
    assert view == other
    old = tmp_path / "old.pt"  # of a training that kept no bits
    save_checkpoint(
        old, {k: v for k, v in load_checkpoint(runs[12] / "weights/last.pt").items() if k != "bits"}
    )
    with pytest.raises(UserError, match="fits 12 bits or fewer, and the model does not say"):
        torch.hub.load(str(ROOT), "joint", old, source="local").predict(frame(sets, 12))


def test_an_export_keeps_them(runs: dict[int, Path]):
    metadata = ModelMetadata.of_checkpoint(load_checkpoint(runs[12] / "weights/last.pt"))
    assert metadata.bits == ModelMetadata.of_properties(metadata.to_properties(), "x").bits == 12


def test_detect_finds_the_same_for_real(
    sets: dict[int, Path], runs: dict[int, Path], tmp_path: Path
):
    tables = []
    for bits in (8, 12):
        source, out = sets[bits].parent / "frames/images/val", tmp_path / str(bits)
        options = (
            "--source",
            source,
            "--project",
            out,
            "--nosave",
            "--save-csv",
            "--conf-thres",
            0.001,
            "--max-det",
            3,
        )
        done = run_script_process("detect.py", "--weights", runs[12] / "weights/last.pt", *options)
        assert done.returncode == 0, done.stderr
        tables.append(pd.read_csv(out / "exp/predictions.csv").drop(columns="image"))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.usefixtures("no_pictures")
def test_val_obeys_the_checkpoint_where_the_data_set_does_not_say(
    sets: dict[int, Path], runs: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = yaml.safe_load(sets[12].read_text())
    del content["bits"]
    silent = sets[12].with_name("silent.yaml")
    silent.write_text(yaml.safe_dump(content))
    figures = []
    for name, data in (("8", sets[8]), ("12", silent)):
        options = ("--data", data, "--project", tmp_path, "--name", name, "--workers", 0)
        command = ("val.py", "--weights", runs[12] / "weights/last.pt", *options)
        monkeypatch.setattr(sys, "argv", [*map(str, command)])
        val.main()
        figures.append(json.loads((tmp_path / name / "metrics.json").read_text())["views"])
    assert figures[0] == figures[1]

"""val.py: the rows that it prints of the same clips."""

import json
import sys
from pathlib import Path

import pytest
from small_files import split_frame_by_frame

import val
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.core.data_config import DataConfig
from utils.core.script import run_script
from utils.curation.reference import same_clip_reference
from utils.data.splits import load_split
from utils.evaluation.results import SAME_CLIP


@pytest.fixture
def mixed(tiny_data: Path, tmp_path: Path) -> DataConfig:
    return split_frame_by_frame(tiny_data, tmp_path)


def reference_of(data: DataConfig, split: str = "val") -> dict | None:
    """With a model of the data's training split."""
    return same_clip_reference(data, load_split(data, split), load_split(data, "train").fingerprint())


def test_val_prints_and_writes_the_reference(mixed: DataConfig, trained: Path, tmp_path: Path, monkeypatch, caplog):
    caplog.set_level("INFO")
    fingerprint = load_split(mixed, "train").fingerprint()
    save_checkpoint(tmp_path / "mixed.pt", load_checkpoint(trained) | {"fingerprint": f"{fingerprint}-of-val"})
    command = ["--weights", tmp_path / "mixed.pt", "--data", mixed.source, "--project", tmp_path, "--name", "out"]
    monkeypatch.setattr(sys, "argv", ["val.py", *map(str, command)])
    run_script(val.main)
    written = json.loads((tmp_path / "out/metrics.json").read_text())["reference"]
    assert written == json.loads(json.dumps(reference_of(mixed)))
    assert f"\n{SAME_CLIP}  " in caplog.text and (tmp_path / "out/FROC_curve.png").exists()

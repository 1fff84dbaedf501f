"""Fixtures shared by the tests."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.yolo import YOLOv5WithClassification
from utils import phantom
from utils.checkpoint import save_checkpoint
from utils.config import TrainOptions, load_data_config, to_mapping
from utils.dataloaders import load_split

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the real data set and the reference figures; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real data and reference figures), which is absent here")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared_dir: Path) -> dict[str, np.ndarray]:
    """Figures computed with the public YOLOv5."""
    with np.load(shared_dir / "reference" / "yolov5_golden.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of a small phantom: 12 training and 8 validation frames. Copy its folder to change it."""
    folder = tmp_path_factory.mktemp("tiny")
    phantom.generate(folder / "frames", seed=0, train_patients=3, val_patients=2)
    content = {
        "path": "frames",
        "train": "images/train",
        "val": "images/val",
        "nc": 4,
        "names": list(phantom.KINDS),
        "cls_names": ["A4C", "PSAX", "PLAX"],
        "group_pattern": r"^(P\d+)_",
        "clip_pattern": r"^(P\d+_.+)_F(\d+)",
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "data.yaml"


@pytest.fixture(scope="session")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that val.py can evaluate (its weights are random)."""
    model = YOLOv5WithClassification(ROOT / TrainOptions.cfg, nc=4, views=3)
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    content = {
        "kind": model.kind,
        "arguments": model.arguments(),
        "model": model.state_dict(),
        "options": to_mapping(TrainOptions(data=str(tiny_data), imgsz=64)),
        "names": ["AR", "MR", "PR", "TR"],
        "view_names": ["A4C", "PSAX", "PLAX"],
        "confidence": 0.25,
        "view_prior": None,
        "fingerprint": load_split(load_data_config(tiny_data), "train").fingerprint() + "-",
    }
    save_checkpoint(path, content)
    return path


class Trap:
    """Unpickling this calls `function(*arguments)`."""

    def __init__(self, function: Callable, *arguments: object):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


@pytest.fixture
def hostile_checkpoint(tmp_path: Path) -> tuple[Path, Path]:
    """A pickle that calls itself a checkpoint, and the file that it would create."""
    path, marker = tmp_path / "hostile.pt", tmp_path / "created"
    content = {"format": "yolov5-joint-gradnorm", "version": 1, "model": Trap(open, str(marker), "w")}
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path, marker

"""Fixtures shared by the tests."""

import os
import pickle
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_once import made_once
from small_runs import small_yaml, write_tiny_data
from traps import Trap

from models.dual_backbone import DualBackbone
from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.core.options import TrainOptions
from utils.core.values import to_mapping
from utils.data.labels import read_label_file
from utils.data.splits import load_split

SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the real data set and the reference figures; without it, tests skip."""
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
    """The data.yaml of a small phantom: 12 training and 8 validation frames.

    Copy its folder to change it.
    """
    return made_once(tmp_path_factory, "tiny", write_tiny_data) / "data.yaml"


@pytest.fixture(scope="session")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that val.py can evaluate (its weights are random)."""

    def fill(folder: Path) -> None:
        model = YOLOv5WithClassification(small_yaml("yolov5s_joint"), nc=4, views=3)
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
        save_checkpoint(folder / "best.pt", content)

    return made_once(tmp_path_factory, "trained", fill) / "best.pt"


@pytest.fixture(scope="session")
def clean_folder(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny phantom with a view in every label file: an audit finds nothing in it."""
    folder = tmp_path_factory.mktemp("clean")
    shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
    for path in (folder / "frames/labels").rglob("*.txt"):
        if read_label_file(path, 4, 3).view < 0:
            view = path.stem.split("_")[1].split("-")[0]
            one_hot = " ".join(str(int(view == name)) for name in ("A4C", "PSAX", "PLAX"))
            path.write_text(f"{path.read_text()}\n{one_hot}\n")
    return folder


@pytest.fixture(scope="session")
def checkpoints(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained small networks: of both tasks, of either task, of two backbones."""
    torch.manual_seed(0)
    joint = small_yaml("yolov5s_joint")
    dual = DualBackbone(small_yaml("yolov5s"), small_yaml("view_classifier"), nc=4, views=3)
    models = {
        "joint": YOLOv5WithClassification(joint, nc=4, views=3),
        "detection": YOLOv5WithClassification(joint, nc=4, views=3, tasks=["detection"]),
        "classification": YOLOv5WithClassification(joint, nc=4, views=3, tasks=["classification"]),
        "dual": dual,
    }
    folder = tmp_path_factory.mktemp("checkpoints")
    content = load_checkpoint(trained)
    for name, model in models.items():
        own = {"kind": model.kind, "arguments": model.arguments(), "model": model.state_dict()}
        save_checkpoint(folder / f"{name}.pt", content | own)
    return {name: folder / f"{name}.pt" for name in models}


@pytest.fixture
def hostile_checkpoint(tmp_path: Path) -> tuple[Path, Path]:
    """A pickle that calls itself a checkpoint, and the file that it would create."""
    path = tmp_path / "hostile.pt"
    marker = tmp_path / "created"
    content = {
        "format": "yolov5-joint-gradnorm",
        "version": 1,
        "model": Trap(open, str(marker), "w"),
    }
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path, marker


@pytest.fixture(scope="session", autouse=True)
def user_caches(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """What goes to the user's cache folder goes to another one, but for matplotlib's fonts."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:
            patch.setenv("MPLCONFIGDIR", str(caches / "matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


def pytest_configure() -> None:
    """Tests send signals that `nohup` and a shell's `&` make every process ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold half characters of file names, which xdist cannot send."""
    report = yield
    sections = []
    for title, text in report.sections:
        sections.append((title, text.encode("utf-8", "backslashreplace").decode()))
    report.sections = sections
    return report

"""Fixtures shared by the tests."""

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


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

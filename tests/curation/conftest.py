"""Fixtures of the audit's tests."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def frames(clean_folder: Path, tmp_path: Path) -> Path:
    """The folder of a clean data set that may be spoilt; its data.yaml lies beside it."""
    shutil.copytree(clean_folder, tmp_path / "set")
    return tmp_path / "set/frames"

"""Batches hold what their samples hold, in the sampler's order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_files import LABEL, make_set

from utils.data.dataset import JointDataset
from utils.data.loader import collate, make_loader
from utils.data.sampling import EpochSampler
from utils.data.splits import load_split


@pytest.fixture
def mixed(tmp_path: Path) -> JointDataset:
    """Two boxes and a view; no box and a view; one box and no view."""
    texts = [LABEL.replace("\n", "\n0 0.25 0.5 0.1 0.2\n", 1), "1 0 0", "3 0.5 0.5 0.5 0.5"]
    data = make_set(tmp_path, {f"{number}.png": text for number, text in enumerate(texts)})
    return JointDataset(load_split(data, "train"), 64)


def test_batch(mixed: JointDataset):
    batch = collate([mixed[2], mixed[1], mixed[0]])
    assert batch["images"].shape == (3, 3, 64, 64) and batch["images"].dtype == torch.uint8
    np.testing.assert_array_equal(batch["images"][2].permute(1, 2, 0), mixed[0][1])
    assert batch["boxes"].dtype == torch.float32
    assert batch["boxes"][:, :2].tolist() == [[0, 3], [2, 1], [2, 0]]  # image, class
    np.testing.assert_array_equal(
        batch["boxes"][:, 2:], np.vstack([mixed[2][2], mixed[0][2]])[:, 1:]
    )
    assert batch["views"].dtype == torch.int64 and batch["views"].tolist() == [-1, 0, 1]
    assert batch["indices"].tolist() == [2, 1, 0]
    assert [Path(path).name for path in batch["paths"]] == ["2.png", "1.png", "0.png"]


def test_batch_without_boxes(mixed: JointDataset):
    batch = collate([mixed[1]])
    assert batch["boxes"].shape == (0, 6) and batch["boxes"].dtype == torch.float32


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_gives_every_frame_once_in_the_samplers_order(mixed: JointDataset, workers: int):
    mixed = mixed if workers == 0 else JointDataset(mixed.split, 64, "off")
    sampler = EpochSampler(3, seed=5)
    batches = list(make_loader(mixed, 2, workers, False, sampler))
    assert [len(batch["paths"]) for batch in batches] == [2, 1]
    assert torch.cat([batch["indices"] for batch in batches]).tolist() == list(sampler)

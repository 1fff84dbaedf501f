"""The shares of several processes come to the mean over all frames; arrays arrive as they are."""

from pathlib import Path

import numpy as np
import pytest
from several_processes import run_in_processes

from utils.core import distributed

# Rank 1 has nothing, rank 0 one row, rank 2 three.
SENDER = """
import sys
import numpy as np
import torch
from utils.core import distributed

distributed.join(torch.device("cpu"))
rows = distributed.rank() + 1
own = {
    "boxes": np.arange(rows * 4, dtype=np.int32).reshape(rows, 4) + distributed.rank(),
    "scores": np.full(rows, 65535, np.uint16),
    "views": np.zeros((rows, 0), np.float32),
}
if distributed.rank() == 1:
    own = {}
shares = distributed.to_main(own)
distributed.leave()
if shares:
    names = [f"{name}{rank}" for rank, share in enumerate(shares) for name in share]
    arrays = [array for share in shares for array in share.values()]
    np.savez(sys.argv[1], **dict(zip(names, arrays, strict=True)))
"""


def test_alone_a_share_is_exactly_one():
    counts = {"frames": 3, "views": 2, "matches0": 7}
    assert set(distributed.rank_weights(counts, distributed.totals(counts)).values()) == {1.0}
    assert distributed.rank_weights({"views": 0}, {"views": 0}) == {"views": 0.0}


def test_the_average_of_shared_means_is_the_mean_of_all(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    parts = [[1.0, 4.0], [2.0], []]
    totals = {"n": sum(map(len, parts))}
    means = [sum(part) / len(part) if part else 0.0 for part in parts]
    terms = [
        m * distributed.rank_weights({"n": len(part)}, totals)["n"]
        for m, part in zip(means, parts, strict=True)
    ]
    assert sum(terms) / 3 == pytest.approx(7 / 3)


def test_arrays_arrive_in_rank_0_alone_and_unchanged(tmp_path: Path):
    script = tmp_path / "sender.py"
    script.write_text(SENDER)
    run_in_processes(3, script, tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as archive:
        found = {name: archive[name] for name in archive.files}
    assert list(found) == ["boxes0", "scores0", "views0", "boxes2", "scores2", "views2"]
    np.testing.assert_array_equal(found["boxes2"], np.arange(12).reshape(3, 4) + 2)
    assert found["scores2"].dtype == np.uint16 and set(found["scores2"]) == {65535}
    assert found["views2"].shape == (3, 0)


def test_alone_arrays_stay_where_they_are():
    own = {"boxes": np.zeros((2, 4))}
    (share,) = distributed.to_main(own)
    assert share["boxes"] is own["boxes"]

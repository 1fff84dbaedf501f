"""The pictures of GradNorm's updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import results_table, updates_table
from pixels import pixels

from utils.plots.gradnorm import _epochs_trained, plot_gradnorm_analysis, plot_weight_evolution


@pytest.mark.parametrize("part", ["weight", "norm", "target", "loss", "cosine", "at_bound"])
def test_every_series_of_the_updates_is_drawn(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("utils.plots.style.DPI", 40)
    table, results = updates_table(2), results_table(2)
    other = table.drop(columns=[column for column in table if column.split("/")[0] == part])
    is_analysis = part in ("loss", "cosine")
    for name, updates in (("with.png", table), ("without.png", other)):
        if is_analysis:
            plot_gradnorm_analysis(updates, results, tmp_path / name)
        else:
            plot_weight_evolution(updates, tmp_path / name)
    assert not np.array_equal(pixels(tmp_path / "with.png"), pixels(tmp_path / "without.png"))


def test_updates_lie_in_their_epoch():
    table = updates_table(5, batches=66, interval=10)
    position = _epochs_trained(table)
    assert position.is_monotonic_increasing
    assert (np.ceil(position) == table["epoch"] + 1).all()
    assert np.allclose(position, (table["step"] + 1) / 66, atol=10 / 66)

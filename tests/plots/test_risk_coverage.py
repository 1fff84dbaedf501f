"""The picture of risk over coverage."""

from pathlib import Path

import pytest
from pixels import count_of

from utils.plots.risk_coverage import plot_risk_coverage
from utils.plots.style import CLASSIFICATION


@pytest.mark.parametrize("risks", [[0.0], [0.0, 0.5, 0.3]])
def test_one_point_and_many_are_drawn(tmp_path: Path, risks: list[float]):
    coverage = [(number + 1) / len(risks) for number in range(len(risks))]
    curve = {"area": 0.2, "coverage": coverage, "risk": risks}
    plot_risk_coverage(curve, tmp_path / "a.png")
    assert count_of(tmp_path / "a.png", CLASSIFICATION) > 30

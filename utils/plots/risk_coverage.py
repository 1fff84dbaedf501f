"""How often the view is wrong over the share of frames that are answered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from utils.core.title import DEFAULT_TITLE, titled
from utils.plots.style import CLASSIFICATION, new_figure


def plot_risk_coverage(curve: Mapping, path: Path, cls_title: str = DEFAULT_TITLE) -> None:
    """Risk over coverage, as the threshold of the view's probability falls.

    Args:
        curve: the part `risk_coverage` of `metrics.json`.
        path: the PNG to write.
        cls_title: what the data set calls a view.
    """
    with new_figure(path, 6, 5) as figure:
        ax = figure.subplots()
        label = f"area {curve['area']:.3f}"
        ax.plot(curve["coverage"], curve["risk"], ".-", color=CLASSIFICATION, label=label)
        ax.set(
            xlabel="coverage: share of frames with an answer", ylabel="risk: share of wrong ones"
        )
        ax.set(xlim=(0, 1.01), ylim=(0, max(0.05, *curve["risk"]) * 1.05))
        title = titled("Views: the least sure left out", cls_title)
        ax.set_title(title, loc="left", fontsize=11, weight="bold")
        ax.legend(loc="lower right")

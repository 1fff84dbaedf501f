"""One style for every picture: colours, fonts, and figures independent of the user's settings.

The colours are Okabe and Ito's (2008), which colour-blind readers can tell apart: detection is blue
and classification vermillion in every picture. Dashed lines are validation losses, targets or
further metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.core.files import write_atomically
from utils.core.terminal import one_line
from utils.plots.fonts import font_families, quiet_drawing

DETECTION, CLASSIFICATION = "#0072B2", "#D55E00"
TASK_COLOURS = {"detection": DETECTION, "classification": CLASSIFICATION}
CLASS_COLOURS = ("#009E73", "#E69F00", "#56B4E9", "#CC79A7")
INK, GREY, PALE = "#222222", "#666666", "#DDDDDD"
DPI = 150

STYLE = {
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": PALE,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0.2,
    "legend.handlelength": 1.7,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 0.9,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,  # a class name may hold any character
}


@contextmanager
def styled_figure(width_in: float, height_in: float, layout: str) -> Iterator[Figure]:
    """A figure in the house style, whatever the user's settings."""
    style = STYLE | {"font.family": font_families()}
    with matplotlib.style.context(["default", style]), quiet_drawing():
        figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout)
        # Keeps its renderer; without it, measuring a text makes a new one each time
        FigureCanvasAgg(figure)
        yield figure


@contextmanager
def new_figure(
    path: Path, width_in: float, height_in: float, layout: str = "constrained"
) -> Iterator[Figure]:
    """A `styled_figure` that is written to `path` (PNG, PDF) when the block ends."""
    with styled_figure(width_in, height_in, layout) as figure:
        yield figure
        kind = path.suffix[1:]
        metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
        options = {"format": kind, "dpi": DPI, "metadata": metadata}
        write_atomically(path, lambda temporary: figure.savefig(temporary, **options))


def shorten(text: str, length: int) -> str:
    """The text, cut to so many characters, the last of which is then an ellipsis.

    What no font can show, such as an escape character, is written out.
    """
    text = one_line(text)
    if len(text) <= length:
        return text
    return f"{text[: length - 1]}…"

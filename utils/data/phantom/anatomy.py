"""What each view shows: chambers, valves and where their jets lie, in units of the sector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("AR", "MR", "PR", "TR")


@dataclass(frozen=True)
class Chamber:
    """A blood pool: a closed outline, (n, 2), and its size when the ventricles are contracted."""

    outline: np.ndarray
    systole: float = 1.0


@dataclass(frozen=True)
class Valve:
    """Two leaflets. Walking from the first hinge to the second, forward flow goes to the left.

    `length`, `width` (half) and `bend` are of its typical jet. An `en_face` valve is seen along the
    flow.
    """

    hinges: np.ndarray
    opens_in_systole: bool
    length: float
    width: float
    bend: float = 0.0
    en_face: bool = False


@dataclass(frozen=True)
class View:
    """What one cut through the heart shows. Valves go by the kind of jet they leak.

    `findings` are the jets of successive frames; MR and TR belong to systole, AR and PR to
    diastole.
    """

    heart: np.ndarray
    chambers: dict[str, Chamber]
    valves: dict[str, Valve]
    findings: tuple[str, ...]


def _points(text: str) -> np.ndarray:
    """ "x,y x,y ..." in percent of a sector unit -> (n, 2)."""
    return np.array([pair.split(",") for pair in text.split()], dtype=np.float64) / 100


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    turns = np.arange(12) * np.pi / 6
    return np.stack([x + radius_x * np.cos(turns), y + radius_y * np.sin(turns)], axis=1) / 100


A4C = View(
    heart=_points("4,9 21,17 37,40 41,62 37,86 18,96 -14,95 -36,85 -41,62 -34,40 -17,20"),
    chambers={
        "left ventricle": Chamber(
            _points("6,15.5 16,22 27,38 31,52 28,61 16,63 5,61 2,50 0.5,32"), 0.84
        ),
        "right ventricle": Chamber(
            _points("-7.5,27 -6,42 -4.5,59 -15,61 -28,59 -31,50 -24,37 -14,29"), 0.86
        ),
        "left atrium": Chamber(
            _points("15,67.5 21,66 29,67.5 34.5,77 29,89 17,92 8,88 10,77"), 1.08
        ),
        "right atrium": Chamber(
            _points("-6,66 -16,63.5 -28,65 -33,75 -28,86 -16,90 -5,87 -2,77"), 1.08
        ),
        "root of the aorta": Chamber(_points("2.5,64 10,64 10.5,70 7,76 3,74 1,69")),
    },
    valves={
        "AR": Valve(_points("10.5,63 3,63"), True, 0.25, 0.062, 0.03),
        "MR": Valve(_points("13.5,65 28.5,65"), False, 0.23, 0.08, -0.02),
        "TR": Valve(_points("-26,62 -6.5,62"), False, 0.23, 0.085, 0.02),
    },
    findings=("MR", "TR", "AR", "MR+TR", "AR", "TR", "MR"),
)

PSAX = View(
    heart=_ellipse(0, 55, 45, 43),
    chambers={
        "right ventricle and its outflow": Chamber(
            _points(
                "-33,43 -23,29.5 -9,20 8,17.5 20.5,22.5 25.5,31 "
                "19,39 10,33.5 -2,31 -12,34 -17.5,43 -25,46"
            ),
            0.95,
        ),
        "pulmonary artery": Chamber(
            _points("20.5,41.5 27.5,34 34.5,45 36.5,58 31,73 23.5,70 25.5,59 23.5,48")
        ),
        "right atrium": Chamber(
            _points("-20,50.5 -30,49 -39,58 -36,73 -25,80 -16.5,75 -15.5,61"), 1.08
        ),
        "left atrium": Chamber(_points("0,66.5 13,68 20,77 14,89 0,92 -12,88 -13,76"), 1.08),
        "aorta": Chamber(_ellipse(2, 48.5, 12.5, 12.5)),
    },
    valves={
        "AR": Valve(_points("-9,48.5 13,48.5"), True, 0.15, 0.08, en_face=True),
        "PR": Valve(_points("27.5,31.5 19.5,40.5"), True, 0.25, 0.068, -0.03),
        "TR": Valve(_points("-32.5,47 -18.5,47.5"), False, 0.25, 0.078),
    },
    findings=("PR", "TR", "PR", "AR+PR", "TR", "PR", "AR+PR"),
)

PLAX = View(
    heart=_points("-44,58 -36,38 -20,20 0,11 20,13 42,28 50,52 44,74 25,83 0,83 -20,82 -37,74"),
    chambers={
        "right ventricle": Chamber(
            _points("-20,26 -5,17.5 11,17 19,22 10,27.5 -6,30 -19,36 -24,33"), 0.92
        ),
        "left ventricle": Chamber(
            _points("-37,60 -30,48 -14,40.5 0,38.5 6,41 5.5,52 1,62 -7,70 -20,73 -33,70"), 0.84
        ),
        "root of the aorta": Chamber(
            _points("7.5,37.5 18,33.5 33,29 39,37 30,45.5 19,48.5 8.5,51")
        ),
        "left atrium": Chamber(
            _points("6,61 13,55 25,53.5 37,55 41,64 35,74 20,78 7,74 3,67"), 1.08
        ),
        "descending aorta": Chamber(_ellipse(20, 88.5, 5, 4)),
    },
    valves={
        "AR": Valve(_points("6.2,38.5 8,50.5"), True, 0.27, 0.062, -0.03),
        "MR": Valve(_points("2,71.5 6,57.5"), False, 0.27, 0.08, 0.02),
    },
    findings=("AR", "MR", "AR", "MR", "AR", "MR", "MR"),
)

VIEWS = {"A4C": A4C, "PSAX": PSAX, "PLAX": PLAX}

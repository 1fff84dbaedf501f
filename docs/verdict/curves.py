"""Two pictures of kept comparisons: accuracy over the view's dose, and over what is shared.

python -m docs.verdict.curves docs/results/verdict/* --out docs/results/verdict \
    --reference stop-gradient --apart stop-gradient dual --depth depth-4 depth-9 ratio-1

Writes weight_curve.png and depth_curve.png. Every point is the mean over folds of a method's
difference to the reference, so folds that are hard for all methods move none of them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from docs.verdict.methods import Gap, Method, gap, read_methods
from utils.core.script import UserError, run_script
from utils.plots.style import CLASSIFICATION, DETECTION, GREY, new_figure, shorten

PANELS = {  # metric -> its name, and its task's colour
    "mAP50": ("mAP50", DETECTION),
    "view_balanced_accuracy": ("balanced view accuracy", CLASSIFICATION),
}
CURVE = "ratio-"  # begins the name of an arm of fixed weights; a line joins them
STEP = 0.35  # between methods without a dose, in powers of ten
NARROWEST = 0.08  # between two methods
LEGEND = "small dots: folds; point and bar: their mean and its 95 % interval, from three folds on"
NAMES_AT = 1.06  # of the first panel's height
LEADER = {"color": GREY, "alpha": 0.4, "shrinkB": 2, "clip_on": False, "in_layout": False}
PANEL_IN = 3.2  # height of a panel
LINE_IN = 0.17  # and of a line of the key
WIDEST = 105  # characters of a line of the key


def draw_weight_curve(methods: Mapping[str, Method], reference: str, path: Path) -> None:
    """Every method at its dose.

    Those with none stand on the left, those that make one gradient of both on the right.

    Args:
        reference: the method that others are compared with.
        path: the PNG to write.
    """
    places = positions(methods)
    in_order = {name: methods[name] for name in sorted(methods, key=places.get)}
    with panels(path, 12, in_order) as (figure, axes):
        found = [gaps(methods, reference, metric) for metric in PANELS]
        for ax, metric, own in zip(axes, PANELS, found, strict=True):
            draw_gaps(ax, own, places, metric, reference)
            curve = [name for name in own if name.startswith(CURVE)]
            draw_line(ax, own, places, sorted(curve, key=places.get), metric)
        name_points(axes, found, places)
        mark_doses(axes[-1], methods, places)
        axes[0].margins(x=0.08)  # room for the last name
        label = (
            "the view's gradient where the heads begin, as a multiple of the detection's, both "
            "times their weights (methods of one value stand side by side)"
        )
        axes[-1].set_xlabel(f"{label}\n{LEGEND}; line: fixed weights", fontsize=9.5, color=GREY)
        title = "What the view's gradient costs the detector"
        figure.suptitle(title, x=0.01, ha="left", weight="bold")


def draw_depth_curve(
    methods: Mapping[str, Method], names: Sequence[str], reference: str, path: Path
) -> None:
    """The named methods from nothing shared to all shared, with parameters and latency.

    Args:
        reference: the method that they are compared with.
        path: the PNG to write.
    """
    chosen = {name: methods[name] for name in sorted(names, key=lambda name: depth(methods[name]))}
    places = {name: float(place) for place, name in enumerate(chosen)}
    shown = {name: methods[name] for name in (*chosen, reference)}
    with panels(path, 2.5 + 2.2 * len(chosen), shown) as (figure, axes):
        for ax, metric in zip(axes, PANELS, strict=True):
            found = gaps(methods, reference, metric)
            own = {name: found[name] for name in chosen if name in found}
            draw_gaps(ax, own, places, metric, reference)
            draw_line(ax, own, places, list(own), metric)
        labels = [describe(method) for method in chosen.values()]
        axes[-1].set_xticks(list(places.values()), labels)
        axes[-1].set_xlim(-0.5, len(chosen) - 0.5)
        axes[-1].set_xlabel(LEGEND, fontsize=9, color=GREY)
        figure.suptitle("What sharing layers costs the detector", x=0.01, ha="left", weight="bold")


@contextmanager
def panels(
    path: Path, width_in: float, methods: Mapping[str, Method]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A panel for every metric, above a key that says what each method is."""
    lines = key_lines(methods)
    key_in = LINE_IN * len(lines)
    heights = [PANEL_IN] * len(PANELS) + [key_in]
    with new_figure(path, width_in, sum(heights) + 2) as figure:
        *axes, key = figure.subplots(len(heights), 1, height_ratios=heights)
        for ax in axes[:-1]:
            ax.sharex(axes[-1])
            ax.tick_params(labelbottom=False)
        key.set_axis_off()
        key.text(0, 1, "\n".join(lines), fontsize=9, va="top", transform=key.transAxes)
        yield figure, axes


def key_lines(methods: Mapping[str, Method]) -> list[str]:
    """What each method is, and on how many folds."""
    lines = []
    for name, method in methods.items():
        folds = len({fold for fold, _ in method.units})
        lines.append(shorten(f"{name}: {method.about} ({folds} folds)", WIDEST))
    return lines


def gaps(methods: Mapping[str, Method], reference: str, metric: str) -> dict[str, Gap]:
    """Of the methods that have the metric."""
    found = {}
    for name, method in methods.items():
        own = gap(method, methods[reference], metric)
        if own is not None:
            found[name] = own
    return found


def depth(method: Method) -> int:
    """For sorting: how many layers are shared."""
    if method.last_shared is None:
        return 0
    return method.last_shared + 1


def describe(method: Method) -> str:
    """The lines below a method in the depth curve."""
    shared = "no layer gets both gradients"
    if method.last_shared is not None:
        shared = f"layers 0 to {method.last_shared} get both gradients"
    size = f"{method.parameters_millions:.2f} M parameters"
    return f"{method.name}\n{shared}\n{size}\n{method.latency_ms:.1f} ms"


def positions(methods: Mapping[str, Method]) -> dict[str, float]:
    """Method -> its place on an axis of powers of ten; those without a dose beside the others."""
    dosed = {name: math.log10(own.dose) for name, own in methods.items() if own.dose}
    places = side_by_side(dosed)
    low = min(places.values(), default=0.0)
    high = max(places.values(), default=0.0)
    for order, name in enumerate(name for name, own in methods.items() if own.dose == 0):
        places[name] = low - 1 - order * STEP
    for order, name in enumerate(name for name, own in methods.items() if own.dose is None):
        places[name] = high + 1 + order * STEP
    return places


def side_by_side(places: Mapping[str, float]) -> dict[str, float]:
    """The places, in ascending order, moved to the right where they lie on top of each other."""
    moved: dict[str, float] = {}
    last = -math.inf
    for name in sorted(places, key=places.get):
        last = max(places[name], last + NARROWEST)
        moved[name] = last
    return moved


def draw_gaps(
    ax: Axes, found: Mapping[str, Gap], places: Mapping[str, float], metric: str, reference: str
) -> None:
    """A point, a bar and the folds' dots for every method."""
    title, colour = PANELS[metric]
    ax.axhline(0, color=GREY, linewidth=1)
    ax.text(1.0, 0, f" as\n {reference}", transform=ax.get_yaxis_transform(), va="center")
    for name, own in found.items():
        place = places[name]
        dots = [place + NARROWEST / 3] * len(own.by_fold)
        ax.plot(dots, own.by_fold, "o", color=colour, markersize=2.5, alpha=0.6)
        ax.plot(place, own.mean, "o", color=colour, markersize=6)
        if own.interval:
            ax.vlines(place, *own.interval, color=colour, linewidth=1.5)
    ax.set_ylabel(f"{title}:\ndifference (below 0: worse)")
    ax.tick_params(axis="both", length=0, labelsize=9)


def draw_line(
    ax: Axes,
    found: Mapping[str, Gap],
    places: Mapping[str, float],
    names: Sequence[str],
    metric: str,
) -> None:
    """A line through the means of the named methods."""
    x = [places[name] for name in names]
    y = [found[name].mean for name in names]
    ax.plot(x, y, color=PANELS[metric][1], alpha=0.5)


def name_points(
    axes: Sequence[Axes], found: Sequence[Mapping[str, Gap]], places: Mapping[str, float]
) -> None:
    """The names above the first panel, evenly spread, each with a line to its point.

    Where the first panel has none, the line goes on to the next.

    Args:
        found: of each panel, the points.
    """
    names = sorted(places, key=places.get)
    spread = np.linspace(min(places.values()), max(places.values()), len(names))
    above = axes[0].get_xaxis_transform()
    for name, x in zip(names, spread, strict=True):
        axes[0].text(x, NAMES_AT, name, transform=above, rotation=50, fontsize=9, va="bottom")
        for ax, own in zip(axes, found, strict=True):
            if name in own:
                end = (places[name], own[name].mean)
                line = ConnectionPatch((x, NAMES_AT), end, above, ax.transData, **LEADER)
                ax.add_artist(line)
                break


def mark_doses(ax: Axes, methods: Mapping[str, Method], places: Mapping[str, float]) -> None:
    """Powers of ten, and what the methods beside them have in place of a dose."""
    doses = [places[name] for name, own in methods.items() if own.dose]
    ticks = {}
    for power in range(math.ceil(min(doses) - 0.5), math.floor(max(doses) + 0.5) + 1):
        ticks[float(power)] = f"{10.0**power:g}"
    zones = {"none reaches\nthe detector": 0, "one gradient\nmade of both": None}
    for label, dose in zones.items():
        own = [places[name] for name, method in methods.items() if method.dose == dose]
        if own:
            ticks[float(np.mean(own))] = label
    ax.set_xticks(list(ticks), list(ticks.values()))


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="of kept comparisons")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--reference", required=True, help="arm that the others are compared with")
    parser.add_argument(
        "--apart", nargs="*", default=[], help="arms whose detector gets no gradient of the view"
    )
    parser.add_argument("--depth", nargs="*", default=[], help="arms of the depth curve")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_args(arguments)
    methods = read_methods(args.folders, args.apart)
    for name in (args.reference, *args.apart, *args.depth):
        if name not in methods:
            raise UserError(f"no arm '{name}'; found {', '.join(methods)}")
    if not any(method.dose for method in methods.values()):
        raise UserError("no arm has a dose; expected one at least whose losses are weighed")
    args.out.mkdir(parents=True, exist_ok=True)
    draw_weight_curve(methods, args.reference, args.out / "weight_curve.png")
    if args.depth:
        path = args.out / "depth_curve.png"
        draw_depth_curve(methods, args.depth, args.reference, path)


if __name__ == "__main__":
    run_script(main)

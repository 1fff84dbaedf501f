"""The report of a comparison and its tables, from the plain data of its result alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.comparison.arms import COINCIDING
from utils.comparison.out_of_fold import out_of_fold_section
from utils.comparison.protocol import protocol_section
from utils.comparison.words import difference_section, relative_span, said
from utils.core.files import markdown_table, write_json, write_text

Columns = Mapping[str, tuple[str, int]]  # key -> heading, digits
ACCURACY = {  # figure -> heading, digits
    "mAP50": ("mAP50", 3),
    "mAP50-95": ("mAP50-95", 3),
    "AP30": ("AP30", 3),
    "precision": ("P", 3),
    "recall": ("R", 3),
    "F1": ("F1", 3),
    "view_accuracy": ("view acc.", 3),
    "view_balanced_accuracy": ("balanced", 3),
    "view_macro_f1": ("macro F1", 3),
    "view_ece": ("ECE", 3),
}
PAPER = ("mAP50", "mAP50-95", "AP30", "view_accuracy", "view_balanced_accuracy")  # in LaTeX
TRAINING = {
    "mse_xywhn": ("detection MSE", 6),
    "matched": ("matched", 3),
    "epochs_to_90_mAP50": ("to 90 % mAP50", 1),
    "epochs_to_90_view_accuracy": ("to 90 % view acc.", 1),
    "spread_mAP50": ("spread mAP50", 3),
    "spread_view_accuracy": ("spread view acc.", 3),
    "best_mAP50": ("best epoch's mAP50", 3),
    "best_view_accuracy": ("best epoch's view acc.", 3),
}
SIZE = {
    "parameters_millions": ("parameters, M", 2),
    "gflops": ("GFLOPs", 2),
    "mAP50_per_million": ("mAP50 / M", 3),
    "view_accuracy_per_million": ("view acc. / M", 3),
}
COSTS = {
    "training_s": ("training, s", 0),
    "peak_memory_mib": ("memory, MiB", 0),
    "latency_ms": ("latency, ms", 1),
}
NOTES = {
    "accuracy": (
        "AP: COCO's, up to 300 detections an image; AP30 at IoU 0.3. P, R, F1 at the confidence "
        "with the best F1 on validation; of folds, at the median of the other folds' (0.25 where "
        "none found a box). ECE: calibration error of the view."
    ),
    "training": (
        "Detection MSE: of normalised xywh over boxes matched at IoU 0.5, whose share is beside "
        "it. To 90 %: the first epoch with 90 % of the last one's value. Spread: standard "
        "deviation over the last fifth of the epochs. The *best epoch* was chosen on the "
        "validation split itself, so its figures flatter."
    ),
    "cost": (
        "GFLOPs and latency: one image of {imgsz} px, forward pass and decoding. Seconds, MiB and "
        "ms are this machine's and moment's."
    ),
    "delta_m": (
        "1 + Delta-m = the geometric mean over both tasks of M / S; M: the arm's mAP50 or view "
        "accuracy, S: that of `detection-only` or `classification-only`. Below zero: worse than "
        "two single networks. Intervals as above, on logarithms; exploratory."
    ),
    "interference": (
        "The two tasks' gradients, batch by batch: at the cut (what the heads are given) and of "
        "all weights of the trunk. The interval is of the mean over trainings (of the folds' "
        "means, where there are folds), t, as the batches of one training are not independent; "
        "for fewer than three there is none. A cosine below zero is a conflict; magnitude "
        "similarity is 2ab / (a² + b²) of the unweighted norms. Layer by layer: "
        "`interference.png`."
    ),
    "claims": (
        "Claims of the reports that this project began with. *Supported* and *contradicted* need a "
        "whole 95 % interval on that side of what was claimed; there is no correction for the "
        "number of claims."
    ),
}


def write_report(folder: Path, results: Mapping) -> None:
    """Write comparison_results.json, comparison.csv, report.md and comparison.tex."""
    write_json(folder / "comparison_results.json", results)
    texts = {
        "comparison.csv": to_csv(results),
        "report.md": to_markdown(results),
        "comparison.tex": to_latex(results),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def to_csv(results: Mapping) -> str:
    """A row for every arm, data set and seed."""
    rows = []
    columns: dict[str, None] = {}  # in order, each once
    for name, arm in results["arms"].items():
        for run in arm["runs"]:
            data, seed = run["unit"]
            row = {"arm": name, "data": data, "seed": seed, **run["figures"], **run["costs"]}
            rows.append(row)
            columns |= dict.fromkeys(row)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def to_markdown(results: Mapping) -> str:
    """The report."""
    sections = (
        _protocol,
        protocol_section,
        _accuracy,
        out_of_fold_section,
        _training,
        _cost,
        difference_section,
        _delta_m,
        _interference,
        _claims,
        _limits,
    )
    texts = [section(results) for section in sections]
    return "\n\n".join(text for text in texts if text) + "\n"


def _protocol(results: Mapping) -> str:
    protocol = results["protocol"]
    lines = [
        "# Comparison of solutions",
        f"{protocol['title']}. Every arm: the same images in the k-th batch, the same initial "
        "values of what it shares with others, the same optimiser, budget and evaluator. Figures "
        f"are of the **last epoch's averaged weights** on the {protocol['split']} split: no epoch "
        f"was selected on it. Mean ± standard deviation over {_counted_units(results)}. "
        f"Data: {protocol['data_line']}.",
        "\n".join(f"- `{name}`: {arm['about']}" for name, arm in results["arms"].items()),
    ]
    for one, other in COINCIDING:
        if {one, other} <= set(results["arms"]):
            lines.append(
                f"`{one}` and `{other}` point the same way for two tasks: "
                "read them as one method, trained twice."
            )
    return "\n\n".join(lines)


def _counted_units(results: Mapping) -> str:
    """What the means and deviations are over."""
    folds = set()
    seeds = set()
    for arm in results["arms"].values():
        for run in arm["runs"]:
            fold, seed = run["unit"]
            folds.add(fold)
            seeds.add(seed)
    trainings = "one training"
    if len(seeds) > 1:
        trainings = f"{len(seeds)} trainings"
    if len(folds) > 1:
        return f"{len(folds)} folds, each the mean of {trainings}"
    return trainings


def _accuracy(results: Mapping) -> str:
    note = said(results, NOTES["accuracy"])
    return f"## Accuracy\n\n{_arm_table(results, ACCURACY, {})}\n\n{note}"


def _training(results: Mapping) -> str:
    return f"## Training\n\n{_arm_table(results, TRAINING, {})}\n\n{NOTES['training']}"


def _cost(results: Mapping) -> str:
    note = NOTES["cost"].format(**results["protocol"])
    return f"## Cost\n\n{_arm_table(results, SIZE, COSTS)}\n\n{note}"


def _delta_m(results: Mapping) -> str:
    if not results["delta_m"]:
        return ""
    rows = []
    for name, gain in results["delta_m"].items():
        rows.append([f"`{name}`", f"{gain['value']:+.1%}", relative_span(gain)])
    table = markdown_table(["arm", "Delta-m", "95 % interval"], rows)
    return f"## Delta-m\n\n{said(results, NOTES['delta_m'])}\n\n{table}"


def _interference(results: Mapping) -> str:
    header = [
        "arm",
        "place",
        "cosine",
        "95 % interval",
        "conflicting",
        "magnitude similarity",
        "batches",
    ]
    rows = []
    for name, places in results["interference"].items():
        for place, own in places.items():
            if place in ("cut", "trunk"):
                rows.append([f"`{name}`", place, *_interference_cells(own)])
    if not rows:
        return ""
    return f"## Interference\n\n{NOTES['interference']}\n\n{markdown_table(header, rows)}"


def _interference_cells(own: Mapping) -> list[object]:
    return [
        f"{own['cosine']:+.4f}",
        _cosine_span(own["cosine_interval"]),
        f"{own['conflicting']:.0%}",
        f"{own['magnitude_similarity']:.4f}",
        own["batches"],
    ]


def _cosine_span(interval: Sequence[float] | None) -> str:
    if interval is None:
        return "-"
    low, high = interval
    return f"[{low:+.4f}, {high:+.4f}]"


def _claims(results: Mapping) -> str:
    if not results["claims"]:
        return ""
    rows = []
    for claim in results["claims"]:
        claimed, measured = (said(results, claim[key]) for key in ("claim", "measured"))
        rows.append([claimed, measured, claim["verdict"]])
    table = markdown_table(["claimed", "measured here", "in words"], rows)
    return f"## The claims\n\n{table}\n\n{NOTES['claims']}"


def _limits(results: Mapping) -> str:
    lines = [f"- {line}" for line in results["protocol"]["limits"]]
    return "## What these data cannot show\n\n" + "\n".join(lines)


def _arm_table(results: Mapping, figures: Columns, costs: Columns) -> str:
    """A row for every arm."""
    columns = (*figures.values(), *costs.values())
    headings = [said(results, heading) for heading, _ in columns]
    rows = []
    for name, arm in results["arms"].items():
        cells = _mean_cells(arm["figures"], figures) + _mean_cells(arm["costs"], costs)
        rows.append([f"`{name}`", *cells])
    return markdown_table(["arm", *headings], rows)


def _mean_cells(means: Mapping[str, Sequence], columns: Columns) -> list[str]:
    return [_mean_sd(means.get(key), digits) for key, (_, digits) in columns.items()]


def _mean_sd(pair: Sequence[float | None] | None, digits: int) -> str:
    if pair is None:
        return "-"
    mean, deviation = pair
    if not deviation:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def to_latex(results: Mapping) -> str:
    """The accuracy table for a paper; needs the package booktabs."""
    columns = {key: ACCURACY[key] for key in PAPER}
    headings = [said(results, heading) for heading, _ in columns.values()]
    rows = []
    for name, arm in results["arms"].items():
        cells = [name, *_mean_cells(arm["figures"], columns)]
        rows.append(" & ".join(_latex(cell) for cell in cells) + " \\\\")
    lines = [
        f"% {results['protocol']['title']}",
        f"\\begin{{tabular}}{{l{'c' * len(columns)}}}",
        "\\toprule",
        " & ".join(["arm", *headings]) + " \\\\",
        "\\midrule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return text.replace(" ± ", " $\\pm$ ").replace("_", "\\_")

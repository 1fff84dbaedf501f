"""The result of a comparison as plain data, and from that alone `report.md`, `comparison.csv` and `comparison.tex`."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils.comparison.arms import COINCIDING, GRID, Arm
from utils.comparison.claims import examine
from utils.comparison.outcomes import Outcome
from utils.comparison.statistics import (
    COMPARED,
    RESAMPLES,
    SINGLE_TASK,
    best_of,
    delta_m,
    difference,
    mean_and_deviation,
)
from utils.core.files import markdown_table, write_atomically, write_json

PAIRS = (("gradnorm", "fixed"), ("gradnorm", "tuned"), ("dual", "gradnorm"))
ACCURACY = {  # figure -> heading, digits
    **{"mAP50": ("mAP50", 3), "mAP50-95": ("mAP50-95", 3), "AP30": ("AP30", 3)},
    **{"precision": ("P", 3), "recall": ("R", 3), "F1": ("F1", 3)},
    **{"view_accuracy": ("view acc.", 3), "view_balanced_accuracy": ("balanced", 3)},
    **{"view_macro_f1": ("macro F1", 3), "view_ece": ("ECE", 3)},
}
TRAINING = {
    **{"mse_xywhn": ("detection MSE", 6), "matched": ("matched", 3)},
    **{"epochs_to_90_mAP50": ("to 90 % mAP50", 1), "epochs_to_90_view_accuracy": ("to 90 % view acc.", 1)},
    **{"spread_mAP50": ("spread mAP50", 3), "spread_view_accuracy": ("spread view acc.", 3)},
    **{"best_mAP50": ("best epoch's mAP50", 3), "best_view_accuracy": ("best epoch's view acc.", 3)},
}
SIZE = {
    **{"parameters_millions": ("parameters, M", 2), "gflops": ("GFLOPs", 2)},
    **{"mAP50_per_million": ("mAP50 / M", 3), "view_accuracy_per_million": ("view acc. / M", 3)},
}
COSTS = {"training_s": ("training, s", 0), "peak_memory_mib": ("memory, MiB", 0), "latency_ms": ("latency, ms", 1)}
METRIC_NAMES = {
    **{"mAP50": "mAP50", "mAP50-95": "mAP50-95"},
    **{"view_accuracy": "view accuracy", "view_balanced_accuracy": "balanced view accuracy"},
}
NOTES = {
    "accuracy": (
        "AP: COCO's, up to 300 detections an image; AP30 at IoU 0.3. P, R, F1 at the confidence with the best F1 on "
        "validation (0.25 where none found a box). ECE: calibration error of the view."
    ),
    "training": (
        "Detection MSE: of normalised xywh over boxes matched at IoU 0.5, whose share is beside it. To 90 %: the "
        "first epoch with 90 % of the last one's value. Spread: standard deviation over the last fifth of the epochs. "
        "The *best epoch* was chosen on the validation split itself, so its figures flatter."
    ),
    "cost": (
        "GFLOPs and latency: one image of {imgsz} px, forward pass and decoding. Seconds, MiB and ms are this "
        "machine's and moment's."
    ),
    "differences": (
        "95 % intervals: percentiles of {resamples} bootstrap resamples of the trainings and, within each, of "
        "{resampled}; the same resamples serve both arms. There is no correction for many comparisons: of twenty "
        "intervals without a true difference one is expected to miss zero."
    ),
    "delta_m": (
        "Delta-m = the mean over both tasks of (M - S) / S; M: the arm's mAP50 or view accuracy, S: that of "
        "`detection-only` or `classification-only`. Below zero: worse than two single networks."
    ),
    "interference": (
        "The two tasks' gradients, batch by batch: at the cut (what the heads are given) and of all weights of the "
        "trunk. ± is a 95 % interval of the mean. A cosine below zero is a conflict; magnitude similarity is "
        "2ab / (a² + b²) of the unweighted norms. Layer by layer: `interference.png`."
    ),
}


def collect(
    protocol: Mapping[str, object],
    arms: Sequence[Arm],
    outcomes: Mapping[str, Sequence[Outcome]],
    interference: Mapping[str, pd.DataFrame],
) -> dict[str, object]:
    """Everything a comparison found, as plain types that JSON can hold.

    Args:
        protocol: how it was done.
        arms: in the order of the tables; `tuned` is made here, from the grid.
        outcomes: arm -> its outcomes.
        interference: arm -> the rows of interference.csv of all its runs.
    """
    outcomes, about = dict(outcomes), {arm.name: arm.about for arm in arms}
    grid = {name: outcomes[name] for name in GRID if name in outcomes}
    tuned = best_of(grid) if set(grid) == set(GRID) else None
    if tuned:
        outcomes["tuned"] = [dataclasses.replace(outcome, arm="tuned") for outcome in outcomes[tuned]]
        about["tuned"] = f"the best of {', '.join(GRID)} on the validation split: {tuned}"
    single = {task: outcomes[name] for task, name in SINGLE_TASK.items() if name in outcomes}
    differences = [_plain_difference(d) for d in _differences(outcomes) if d]
    gains = {name: delta_m(own, single) for name, own in outcomes.items()}
    return {
        "protocol": {**protocol, "resamples": RESAMPLES},
        "tuned": tuned,
        "arms": {name: _arm(about[name], own) for name, own in outcomes.items()},
        "differences": differences,
        "delta_m": {name: gain for name, gain in gains.items() if gain},
        "claims": [dataclasses.asdict(claim) for claim in examine(outcomes)],
        "interference": {name: summarise_interference(rows) for name, rows in interference.items()},
    }


def _arm(about: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    runs = [{"unit": list(o.unit), "figures": dict(o.figures), "costs": dict(o.costs)} for o in outcomes]
    figures, costs = mean_and_deviation(outcomes), mean_and_deviation(outcomes, "costs")
    return {"about": about, "figures": figures, "costs": costs, "runs": runs}


def _differences(outcomes: Mapping[str, Sequence[Outcome]]) -> list:
    pairs = [pair for pair in PAIRS if all(outcomes.get(name) for name in pair)]
    found = [difference(outcomes[a], outcomes[b], m) for a, b in pairs for task in COMPARED for m in COMPARED[task]]
    for task, reference in SINGLE_TASK.items():
        others = [name for name in outcomes if name not in SINGLE_TASK.values() and reference in outcomes]
        found += [difference(outcomes[name], outcomes[reference], m) for name in others for m in COMPARED[task]]
    return found


def _plain_difference(found: object) -> dict[str, object]:
    return dataclasses.asdict(found) | {"word": found.word}


def summarise_interference(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Place -> mean cosine with the half width of its 95 % interval, magnitude similarity, share of conflicts, batches.

    The interval takes measurements as independent; they are some batches apart.
    """
    found = {}
    for place, own in rows.dropna(subset=["cosine"]).groupby("place", sort=False):
        half = 1.96 * own["cosine"].std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else 0.0
        found[str(place)] = {
            "cosine": float(own["cosine"].mean()),
            "cosine_half_width": float(half),
            "magnitude_similarity": float(own["magnitude_similarity"].mean()),
            "conflicting": float((own["cosine"] < 0).mean()),
            "batches": len(own),
        }
    return found


def write_report(folder: Path, results: Mapping) -> None:
    """Write comparison_results.json, comparison.csv, report.md and comparison.tex."""
    write_json(folder / "comparison_results.json", results)
    texts = {"comparison.csv": to_csv(results), "report.md": to_markdown(results), "comparison.tex": to_latex(results)}
    for name, text in texts.items():
        write_atomically(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))


def to_csv(results: Mapping) -> str:
    """A row for every arm, data set and seed."""
    rows = [
        {"arm": name, "data": run["unit"][0], "seed": run["unit"][1], **run["figures"], **run["costs"]}
        for name, arm in results["arms"].items()
        for run in arm["runs"]
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def to_markdown(results: Mapping) -> str:
    """The report."""
    sections = (_protocol, _accuracy, _training, _cost, _difference_table, _delta_m, _interference, _claims, _limits)
    return "\n\n".join(part for part in (section(results) for section in sections) if part) + "\n"


def _protocol(results: Mapping) -> str:
    protocol = results["protocol"]
    lines = [
        "# Comparison of solutions",
        f"{protocol['title']}. Every arm: the same images in the k-th batch, the same initial values of what it shares "
        "with others, the same optimiser, budget and evaluator. Figures are of the **last epoch's averaged weights** "
        f"on the {protocol['split']} split: no epoch was selected on it. Mean ± standard deviation over "
        f"{protocol['units']} trainings (data sets or folds x seeds). Data: {protocol['data_line']}.",
    ]
    lines += ["\n".join(f"- `{name}`: {arm['about']}" for name, arm in results["arms"].items())]
    if set(COINCIDING) <= set(results["arms"]):
        same = " and ".join(f"`{name}`" for name in COINCIDING)
        lines.append(f"{same} point the same way for two tasks: read them as one method, trained twice.")
    return "\n\n".join(lines)


def _accuracy(results: Mapping) -> str:
    return f"## Accuracy\n\n{_arm_table(results, ACCURACY)}\n\n{NOTES['accuracy']}"


def _training(results: Mapping) -> str:
    return f"## Training\n\n{_arm_table(results, TRAINING)}\n\n{NOTES['training']}"


def _cost(results: Mapping) -> str:
    return f"## Cost\n\n{_arm_table(results, SIZE, COSTS)}\n\n{NOTES['cost'].format(**results['protocol'])}"


def _difference_table(results: Mapping) -> str:
    rows = [
        [
            f"`{d['arm']}` - `{d['reference']}`",
            METRIC_NAMES[d["metric"]],
            f"{d['value']:+.3f}",
            f"[{d['low']:+.3f}, {d['high']:+.3f}]",
            d["word"],
        ]
        for d in results["differences"]
    ]
    table = markdown_table(["pair", "metric", "difference", "95 % interval", "verdict"], rows)
    return f"## Differences\n\n{table}\n\n{NOTES['differences'].format(**results['protocol'])}" if rows else ""


def _delta_m(results: Mapping) -> str:
    rows = [
        [f"`{name}`", f"{gain['value']:+.1%}", f"[{gain['low']:+.1%}, {gain['high']:+.1%}]"]
        for name, gain in results["delta_m"].items()
    ]
    table = markdown_table(["arm", "Delta-m", "95 % interval"], rows)
    return f"## Delta-m\n\n{NOTES['delta_m']}\n\n{table}" if rows else ""


def _interference(results: Mapping) -> str:
    rows = [
        [
            f"`{name}`",
            place,
            f"{own['cosine']:+.4f} ± {own['cosine_half_width']:.4f}",
            f"{own['conflicting']:.0%}",
            f"{own['magnitude_similarity']:.4f}",
            own["batches"],
        ]
        for name, places in results["interference"].items()
        for place, own in places.items()
        if place in ("cut", "trunk")
    ]
    table = markdown_table(["arm", "place", "cosine", "conflicting", "magnitude similarity", "batches"], rows)
    return f"## Interference\n\n{NOTES['interference']}\n\n{table}" if rows else ""


def _claims(results: Mapping) -> str:
    if not results["claims"]:
        return ""
    rows = [[claim["claim"], claim["measured"], claim["verdict"]] for claim in results["claims"]]
    return "## The claims\n\n" + markdown_table(["claimed", "measured here", "verdict"], rows)


def _limits(results: Mapping) -> str:
    return "## What these data cannot show\n\n" + "\n".join(f"- {line}" for line in results["protocol"]["limits"])


def _arm_table(results: Mapping, figures: Mapping, costs: Mapping | None = None) -> str:
    columns = [("figures", key, *style) for key, style in figures.items()]
    columns += [("costs", key, *style) for key, style in (costs or {}).items()]
    rows = [
        [f"`{name}`", *(_mean_sd(arm[kind].get(key), digits) for kind, key, _, digits in columns)]
        for name, arm in results["arms"].items()
    ]
    return markdown_table(["arm", *(heading for _, _, heading, _ in columns)], rows)


def _mean_sd(pair: Sequence[float | None] | None, digits: int) -> str:
    if pair is None:
        return "-"
    mean, deviation = pair
    return f"{mean:.{digits}f}" if not deviation else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def to_latex(results: Mapping) -> str:
    """The accuracy table for a paper; needs the package booktabs."""
    chosen = {key: ACCURACY[key] for key in ("mAP50", "mAP50-95", "AP30", "view_accuracy", "view_balanced_accuracy")}
    header = " & ".join(["arm", *(heading for heading, _ in chosen.values())])
    rows = [
        " & ".join([_latex(name), *(_latex(_mean_sd(arm["figures"].get(key), n)) for key, (_, n) in chosen.items())])
        for name, arm in results["arms"].items()
    ]
    body = " \\\\\n".join(rows)
    return (
        f"% {results['protocol']['title']}\n\\begin{{tabular}}{{l{'c' * len(chosen)}}}\n\\toprule\n{header} \\\\\n"
        f"\\midrule\n{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


def _latex(text: str) -> str:
    return text.replace(" ± ", " $\\pm$ ").replace("_", "\\_")

"""The result of a comparison as plain data, and from that alone `report.md`, `comparison.csv` and `comparison.tex`."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils.comparison.arms import COINCIDING, GRID, Arm
from utils.comparison.claims import examine
from utils.comparison.out_of_fold import out_of_fold_section
from utils.comparison.outcomes import Outcome
from utils.comparison.protocol import Contrast, Protocol, protocol_section
from utils.comparison.statistics import (
    COMPARED,
    RESAMPLES,
    SINGLE_TASK,
    Found,
    best_of,
    delta_m,
    difference,
    mean_and_deviation,
    means_by_fold,
)
from utils.comparison.words import difference_section, relative_span, state
from utils.core.files import markdown_table, write_atomically, write_json
from utils.evaluation.intervals import over_units

PAIRS = (("gradnorm", "fixed"), ("gradnorm", "tuned"), ("dual", "gradnorm"))
ACCURACY = {  # figure -> heading, digits
    **{"mAP50": ("mAP50", 3), "mAP50-95": ("mAP50-95", 3), "AP30": ("AP30", 3)},
    **{"precision": ("P", 3), "recall": ("R", 3), "F1": ("F1", 3)},
    **{"view_accuracy": ("view acc.", 3), "view_balanced_accuracy": ("balanced", 3)},
    **{"view_macro_f1": ("macro F1", 3), "view_ece": ("ECE", 3)},
}
TRAINING = {
    **{"mse_xywhn": ("detection MSE", 6), "matched": ("matched", 3)},
    **{
        "epochs_to_90_mAP50": ("to 90 % mAP50", 1),
        "epochs_to_90_view_accuracy": ("to 90 % view acc.", 1),
    },
    **{"spread_mAP50": ("spread mAP50", 3), "spread_view_accuracy": ("spread view acc.", 3)},
    **{
        "best_mAP50": ("best epoch's mAP50", 3),
        "best_view_accuracy": ("best epoch's view acc.", 3),
    },
}
SIZE = {
    **{"parameters_millions": ("parameters, M", 2), "gflops": ("GFLOPs", 2)},
    **{"mAP50_per_million": ("mAP50 / M", 3), "view_accuracy_per_million": ("view acc. / M", 3)},
}
COSTS = {
    "training_s": ("training, s", 0),
    "peak_memory_mib": ("memory, MiB", 0),
    "latency_ms": ("latency, ms", 1),
}
NOTES = {
    "accuracy": (
        "AP: COCO's, up to 300 detections an image; AP30 at IoU 0.3. P, R, F1 at the confidence with the best F1 on "
        "validation; of folds, at the median of the other folds' (0.25 where none found a box). ECE: calibration error "
        "of the view."
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
    "delta_m": (
        "1 + Delta-m = the geometric mean over both tasks of M / S; M: the arm's mAP50 or view accuracy, S: that of "
        "`detection-only` or `classification-only`. Below zero: worse than two single networks. Intervals as above, "
        "on logarithms; exploratory."
    ),
    "interference": (
        "The two tasks' gradients, batch by batch: at the cut (what the heads are given) and of all weights of the "
        "trunk. The interval is of the mean over trainings (of the folds' means, where there are folds), t, as the "
        "batches of one training are not independent; for fewer than three there is none. A cosine below zero is a "
        "conflict; magnitude similarity is 2ab / (a² + b²) of the unweighted norms. Layer by layer: `interference.png`."
    ),
    "claims": (
        "Claims of the reports that this project began with. *Supported* and *contradicted* need a whole 95 % interval "
        "on that side of what was claimed; there is no correction for the number of claims."
    ),
}


def collect(
    about: Mapping[str, object],
    protocol: Protocol,
    arms: Sequence[Arm],
    outcomes: Mapping[str, Sequence[Outcome]],
    interference: Mapping[str, pd.DataFrame],
) -> dict[str, object]:
    """Everything a comparison found, as plain types that JSON can hold.

    Args:
        about: how it was done.
        protocol: the contrasts that count, and the margins.
        arms: in the order of the tables; `tuned` is made here, from the grid.
        outcomes: arm -> its outcomes.
        interference: arm -> the rows of interference.csv of all its runs, with columns `data` and
            `seed`.
    """
    outcomes, lines = dict(outcomes), {arm.name: arm.about for arm in arms}
    grid = {name: outcomes[name] for name in GRID if name in outcomes}
    tuned = best_of(grid) if set(grid) == set(GRID) else None
    if tuned:
        outcomes["tuned"] = [
            dataclasses.replace(outcome, arm="tuned") for outcome in outcomes[tuned]
        ]
        lines["tuned"] = f"the best of {', '.join(GRID)} on the validation split: {tuned}"
    contrasts = dict.fromkeys([*protocol.counted, *_exploratory(outcomes)])
    found = {contrast: difference(outcomes, contrast) for contrast in contrasts}
    statements = state({contrast: own for contrast, own in found.items() if own}, protocol)
    gains = {name: delta_m(outcomes, name) for name in outcomes}
    return {
        "protocol": {**about, "resamples": RESAMPLES},
        "tuned": tuned,
        "arms": {name: _arm(lines[name], own) for name, own in outcomes.items()},
        "differences": [dataclasses.asdict(statement) for statement in statements],
        "delta_m": {name: _gain(gain) for name, gain in gains.items() if gain},
        "claims": [
            dataclasses.asdict(claim)
            for claim in examine(outcomes, about["epochs"], protocol.margins)
        ],
        "interference": {name: summarise_interference(rows) for name, rows in interference.items()},
    }


def _arm(about: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    runs = [
        {"unit": list(o.unit), "figures": dict(o.figures), "costs": dict(o.costs)} for o in outcomes
    ]
    figures, costs = mean_and_deviation(outcomes), mean_and_deviation(outcomes, "costs")
    return {"about": about, "figures": figures, "costs": costs, "runs": runs}


def _exploratory(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Contrast]:
    """What is looked at whether it counts or not: usual pairs, and every arm against the single tasks."""
    pairs = [(pair, task) for pair in PAIRS for task in COMPARED]
    others = [name for name in outcomes if name not in SINGLE_TASK.values()]
    pairs += [
        ((name, reference), task) for task, reference in SINGLE_TASK.items() for name in others
    ]
    return [Contrast(*pair, metric) for pair, task in pairs for metric in COMPARED[task]]


def _gain(found: Found) -> dict[str, object]:
    """A ratio's logarithm as a gain: 0.1 is 10 % more."""
    limits = found.estimate.interval() if found.estimate else (None, None)
    value, low, high = (
        None if number is None else math.expm1(number) for number in (found.value, *limits)
    )
    return {"value": value, "low": low, "high": high, "basis": found.basis}


def summarise_interference(rows: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Place -> means over trainings, or folds, of cosine with its 95 % interval, magnitude similarity, conflicts.

    Args:
        rows: of interference.csv, with the number of their data set and their seed.
    """
    rows = rows.dropna(subset=["cosine"]).assign(conflicting=lambda table: table["cosine"] < 0)
    found = {}
    for place, own in rows.groupby("place", sort=False):
        by_training = own.groupby(["data", "seed"])[
            ["cosine", "magnitude_similarity", "conflicting"]
        ].mean()
        values = {name: means_by_fold(by_training[name].to_dict()) for name in by_training}
        estimate = over_units(values["cosine"])
        found[str(place)] = {
            **{name: float(np.mean(own_values)) for name, own_values in values.items()},
            "cosine_interval": estimate.interval() if estimate else None,
            "batches": len(own),
        }
    return found


def write_report(folder: Path, results: Mapping) -> None:
    """Write comparison_results.json, comparison.csv, report.md and comparison.tex."""
    write_json(folder / "comparison_results.json", results)
    texts = {
        "comparison.csv": to_csv(results),
        "report.md": to_markdown(results),
        "comparison.tex": to_latex(results),
    }
    for name, text in texts.items():
        write_atomically(
            folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8")
        )


def to_csv(results: Mapping) -> str:
    """A row for every arm, data set and seed."""
    rows = [
        {
            "arm": name,
            "data": run["unit"][0],
            "seed": run["unit"][1],
            **run["figures"],
            **run["costs"],
        }
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
    return "\n\n".join(part for part in (section(results) for section in sections) if part) + "\n"


def _protocol(results: Mapping) -> str:
    protocol = results["protocol"]
    lines = [
        "# Comparison of solutions",
        f"{protocol['title']}. Every arm: the same images in the k-th batch, the same initial values of what it shares "
        "with others, the same optimiser, budget and evaluator. Figures are of the **last epoch's averaged weights** "
        f"on the {protocol['split']} split: no epoch was selected on it. Mean ± standard deviation over "
        f"{_counted_units(results)}. Data: {protocol['data_line']}.",
    ]
    lines += ["\n".join(f"- `{name}`: {arm['about']}" for name, arm in results["arms"].items())]
    if set(COINCIDING) <= set(results["arms"]):
        same = " and ".join(f"`{name}`" for name in COINCIDING)
        lines.append(
            f"{same} point the same way for two tasks: read them as one method, trained twice."
        )
    return "\n\n".join(lines)


def _counted_units(results: Mapping) -> str:
    """What the means and deviations are over."""
    units = {tuple(run["unit"]) for arm in results["arms"].values() for run in arm["runs"]}
    folds, seeds = ({unit[column] for unit in units} for column in (0, 1))
    trainings = f"{len(seeds)} trainings" if len(seeds) > 1 else "one training"
    return f"{len(folds)} folds, each the mean of {trainings}" if len(folds) > 1 else trainings


def _accuracy(results: Mapping) -> str:
    return f"## Accuracy\n\n{_arm_table(results, ACCURACY)}\n\n{NOTES['accuracy']}"


def _training(results: Mapping) -> str:
    return f"## Training\n\n{_arm_table(results, TRAINING)}\n\n{NOTES['training']}"


def _cost(results: Mapping) -> str:
    return f"## Cost\n\n{_arm_table(results, SIZE, COSTS)}\n\n{NOTES['cost'].format(**results['protocol'])}"


def _delta_m(results: Mapping) -> str:
    rows = [
        [f"`{name}`", f"{gain['value']:+.1%}", relative_span(gain)]
        for name, gain in results["delta_m"].items()
    ]
    table = markdown_table(["arm", "Delta-m", "95 % interval"], rows)
    return f"## Delta-m\n\n{NOTES['delta_m']}\n\n{table}" if rows else ""


def _interference(results: Mapping) -> str:
    rows = [
        [
            f"`{name}`",
            place,
            f"{own['cosine']:+.4f}",
            _cosine_span(own["cosine_interval"]),
            f"{own['conflicting']:.0%}",
            f"{own['magnitude_similarity']:.4f}",
            own["batches"],
        ]
        for name, places in results["interference"].items()
        for place, own in places.items()
        if place in ("cut", "trunk")
    ]
    table = markdown_table(
        [
            "arm",
            "place",
            "cosine",
            "95 % interval",
            "conflicting",
            "magnitude similarity",
            "batches",
        ],
        rows,
    )
    return f"## Interference\n\n{NOTES['interference']}\n\n{table}" if rows else ""


def _cosine_span(interval: Sequence[float] | None) -> str:
    return f"[{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else "-"


def _claims(results: Mapping) -> str:
    if not results["claims"]:
        return ""
    rows = [[claim["claim"], claim["measured"], claim["verdict"]] for claim in results["claims"]]
    table = markdown_table(["claimed", "measured here", "in words"], rows)
    return f"## The claims\n\n{table}\n\n{NOTES['claims']}"


def _limits(results: Mapping) -> str:
    return "## What these data cannot show\n\n" + "\n".join(
        f"- {line}" for line in results["protocol"]["limits"]
    )


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
    chosen = {
        key: ACCURACY[key]
        for key in ("mAP50", "mAP50-95", "AP30", "view_accuracy", "view_balanced_accuracy")
    }
    header = " & ".join(["arm", *(heading for heading, _ in chosen.values())])
    rows = [
        " & ".join(
            [
                _latex(name),
                *(_latex(_mean_sd(arm["figures"].get(key), n)) for key, (_, n) in chosen.items()),
            ]
        )
        for name, arm in results["arms"].items()
    ]
    body = " \\\\\n".join(rows)
    return (
        f"% {results['protocol']['title']}\n\\begin{{tabular}}{{l{'c' * len(chosen)}}}\n\\toprule\n{header} \\\\\n"
        f"\\midrule\n{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


def _latex(text: str) -> str:
    return text.replace(" ± ", " $\\pm$ ").replace("_", "\\_")

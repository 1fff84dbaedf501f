"""MODEL_CARD.md of a run: what the model was trained on and how, what it reached, what it must not be used for.

After Mitchell et al. 2019, "Model Cards for Model Reporting", in the few lines that a training
knows by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from utils.core.data_config import DataConfig
from utils.core.files import markdown_table
from utils.core.options import TrainOptions
from utils.data.splits import Split
from utils.loggers.balance import describe_balance

DETECTION_FIGURES = {
    **{"mAP50": "mAP_0.5", "mAP50-95": "mAP_0.5:0.95", "AP30": "mAP_0.3"},
    **{"precision": "precision", "recall": "recall", "F1": "f1"},
}
VIEW_FIGURES = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
}
# Options that say nothing of the model
UNSAID = {
    "data",
    "project",
    "name",
    "exist_ok",
    "device",
    "workers",
    "cache",
    "download",
    "tensorboard",
}


def model_card(
    summary: Mapping,
    metrics: Mapping,
    options: TrainOptions,
    data: DataConfig,
    train: Split,
    val: Split,
) -> str:
    """The card's text.

    Args:
        summary: the content of summary.json.
        metrics: what `summarise` says of the last epoch's averaged weights on `val`.
    """
    sections = (
        "# Model card",
        _model(summary, metrics, data, options),
        "## Data",
        _data(summary, data, train, val),
        "## Figures",
        _figures(metrics),
        "## Not for",
        _limits(metrics, data, train, val),
    )
    return "\n\n".join(sections) + "\n"


def _model(summary: Mapping, metrics: Mapping, data: DataConfig, options: TrainOptions) -> str:
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in UNSAID
        and getattr(options, field.name) != getattr(type(options)(), field.name)
    }
    does = [f"finds boxes of {', '.join(data.names)}"] if "detection" in metrics else []
    does += [f"names the view: {', '.join(data.view_names)}"] if "views" in metrics else []
    said = ", ".join(f"{name} {value}" for name, value in given.items()) or "the defaults"
    lines = [
        "; ".join(does),
        f"{summary['parameters'] / 1e6:.2f} million parameters, images of {options.imgsz} px",
        f"trained for {options.epochs} epochs, seed {options.seed}, {summary['precision']}; options: {said}",
        "every hyper-parameter: `hyp.yaml`, every option: `opt.yaml`, beside this file",
    ]
    for network, window in summary["average_window_epochs"].items():
        lines.append(
            f"its weights are a moving average, worth the last {window:.2g} epochs' steps ({network})"
        )
    if "gradnorm" in summary:
        lines.append(describe_balance(summary["gradnorm"]))
    return "\n".join(f"- {line}" for line in lines)


def _data(summary: Mapping, data: DataConfig, train: Split, val: Split) -> str:
    groups = ["groups"] if data.group_pattern else []
    header = ["split", "frames", *groups, *data.names, "without box", *data.view_names]
    table = markdown_table(header, [_counts(data, split) for split in (train, val)])
    return f"`{data.source.name}`, fingerprint `{summary['fingerprint']}`; {_unit(data, train, val)}\n\n{table}"


def _counts(data: DataConfig, split: Split) -> list[object]:
    boxes = [
        sum(int((labels.boxes[:, 0] == number).sum()) for labels in split.labels)
        for number in range(len(data.names))
    ]
    views = [
        sum(labels.view == number for labels in split.labels)
        for number in range(len(data.view_names))
    ]
    empty = sum(not len(labels.boxes) for labels in split.labels)
    return [
        split.name,
        len(split.images),
        *([len(_groups(data, split))] if data.group_pattern else []),
        *boxes,
        empty,
        *views,
    ]


def _groups(data: DataConfig, split: Split) -> set[str]:
    return {data.group_of(image) for image in split.images}


def _without_group(data: DataConfig, *splits: Split) -> int:
    """Images whose file name tells no group."""
    return sum(data.found_group(image) is None for split in splits for image in split.images)


def _unit(data: DataConfig, train: Split, val: Split) -> str:
    """What the split keeps apart."""
    if not data.group_pattern:
        return "no group_pattern is given, so whether a patient is in both splits is unknown"
    unnamed = _without_group(data, train, val)
    if unnamed:
        return f"group_pattern finds no group in {unnamed} file names, so whether a patient is in both is unknown"
    shared = len(_groups(data, train) & _groups(data, val))
    return (
        f"{shared} groups (patients) are in both splits"
        if shared
        else "split by group (patient): none is in both"
    )


def _figures(metrics: Mapping) -> str:
    """The last epoch's averaged weights on the validation split."""
    rows = []
    for title, part, names in (
        ("boxes", "detection", DETECTION_FIGURES),
        ("view", "views", VIEW_FIGURES),
    ):
        found = metrics.get(part, {})
        intervals = found.get("intervals", {})
        rows += [
            [f"{title}: {name}", found.get(key), intervals.get(key)]
            for name, key in names.items()
            if key in found
        ]
    cells = [(name, _number(value), _interval(interval)) for name, value, interval in rows]
    table = markdown_table(["figure", "value", "95 % interval"], cells)
    text = "The last epoch's averaged weights (`last.pt`) on the validation split:"
    lines = "\n".join(f"- {line}" for line in _reading(metrics))
    return f"{text}\n\n{table}\n\n{lines}"


def _reading(metrics: Mapping) -> list[str]:
    """What one must know to read the figures."""
    lines = [
        f"intervals: t x bootstrap standard error over {metrics['interval_unit']}; of this one training: by how much "
        "another training would differ is not in them",
    ]
    if metrics.get("detection", {}).get("confidence_source") == "maximises F1 here":
        lines.append(
            "precision, recall and F1 are at the confidence with the best F1 on this very split: they flatter"
        )
    for part, kind in (("detection", "per_class"), ("views", "per_view")):
        rows = metrics.get(part, {}).get(kind, [])
        if any(row["groups"] is not None for row in rows):
            lines.append(
                "patients behind: " + ", ".join(f"{row['name']} {row['groups']}" for row in rows)
            )
    return lines + _errors(metrics)


def _errors(metrics: Mapping) -> list[str]:
    if "detection" not in metrics:
        return []
    counts = metrics["detection"]["errors"]["counts"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    return [f"boxes by kind, at the confidence of precision and recall: {kinds}; see `errors.png`"]


def _known(metrics: Mapping, data: DataConfig) -> str:
    """What else there may be that a model of these tasks cannot name."""
    classes = [f"{len(data.names)} classes"] if "detection" in metrics else []
    views = [f"{len(data.view_names)} views"] if "views" in metrics else []
    return f"Other classes or views: it knows {' and '.join([*classes, *views])}, and names one of them."


def _limits(metrics: Mapping, data: DataConfig, train: Split, val: Split) -> str:
    lines = [
        "It is research software and no medical device: no diagnosis, no screening, no decision about a person.",
        _known(metrics, data),
        "Images from other machines, of other sizes or settings than in training: nothing is known about them.",
    ]
    is_shared = _groups(data, train) & _groups(data, val)
    if not data.group_pattern or _without_group(data, train, val) or is_shared:
        lines.append(
            "Patients it has not seen: the figures above may be of patients that it has seen."
        )
    if all(len(labels.boxes) for labels in val.labels):
        lines.append(
            "Images without a finding: false alarms were not measured, as every validation frame has a box."
        )
    return "\n".join(f"- {line}" for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(limits: Sequence[float | None] | None) -> str:
    return "-" if not limits or None in limits else f"{limits[0]:.3f} to {limits[1]:.3f}"

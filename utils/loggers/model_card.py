"""MODEL_CARD.md of a run: what the model was trained on, what it reached, what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting", in the few lines that a training
knows by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from utils.core.data_config import DataConfig
from utils.core.files import markdown_table
from utils.core.options import TrainOptions
from utils.core.title import DEFAULT_TITLE, plural
from utils.data.splits import Split
from utils.loggers.balance import describe_balance

# Word on the card -> key in metrics.json.
DETECTION_METRICS = {
    "mAP50": "mAP_0.5",
    "mAP50-95": "mAP_0.5:0.95",
    "AP30": "mAP_0.3",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
}
VIEW_METRICS = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
}
# Options that say nothing of the model.
LEFT_OUT = {
    "data",
    "project",
    "name",
    "exist_ok",
    "device",
    "workers",
    "cache",
    "index",
    "download",
    "tensorboard",
    "report",
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
        _metrics(metrics),
        "## Not for",
        _limits(metrics, data, train, val),
    )
    return "\n\n".join(sections) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _model(summary: Mapping, metrics: Mapping, data: DataConfig, options: TrainOptions) -> str:
    purposes = []
    if "detection" in metrics:
        purposes.append(f"finds boxes of {', '.join(data.names)}")
    if "views" in metrics:
        purposes.append(f"names the {data.cls_title}: {', '.join(data.view_names)}")
    trained = f"trained for {options.epochs} epochs, seed {options.seed}, {summary['precision']}"
    lines = [
        "; ".join(purposes),
        f"{summary['parameters'] / 1e6:.2f} million parameters, images of {options.imgsz} px",
        f"{trained}; options: {_given_options(options)}",
        "every hyper-parameter: `hyp.yaml`, every option: `opt.yaml`, beside this file",
    ]
    for part, window in summary["average_window_epochs"].items():
        average = f"a moving average, worth the last {window:.2g} epochs' steps"
        lines.append(f"its weights are {average} ({part})")
    if "gradnorm" in summary:
        lines.append(describe_balance(summary["gradnorm"]))
    return _bullets(lines)


def _given_options(options: TrainOptions) -> str:
    """Those that differ from the defaults and say something of the model."""
    defaults = type(options)()
    given = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in LEFT_OUT and value != getattr(defaults, field.name):
            given.append(f"{field.name} {value}")
    return ", ".join(given) or "the defaults"


def _data(summary: Mapping, data: DataConfig, train: Split, val: Split) -> str:
    header = ["split", "frames"]
    if data.group_pattern:
        header.append("groups")
    header += [*data.names, "without box", *data.view_names]
    table = markdown_table(header, [_counts(data, train), _counts(data, val)])
    about = f"`{data.source.name}`, fingerprint `{summary['fingerprint']}`"
    return f"{about}; {_unit(data, train, val)}\n\n{table}"


def _counts(data: DataConfig, split: Split) -> list[object]:
    """A row of the table of splits."""
    classes = split.labels.boxes[:, 0]
    views = split.labels.views
    row: list[object] = [split.name, len(split.images)]
    if data.group_pattern:
        row.append(len(_groups(data, split)))
    row += [int((classes == number).sum()) for number in range(len(data.names))]
    row.append(int((split.labels.counts == 0).sum()))
    row += [int((views == number).sum()) for number in range(len(data.view_names))]
    return row


def _groups(data: DataConfig, split: Split) -> set[str]:
    texts = split.images.texts
    found = data.found_groups(texts)
    return {group or text for group, text in zip(found, texts, strict=True)}


def _without_group(data: DataConfig, *splits: Split) -> int:
    """Images whose file name tells no group."""
    return sum(data.found_groups(split.images.texts).count(None) for split in splits)


def _unit(data: DataConfig, train: Split, val: Split) -> str:
    """What the split keeps apart."""
    if not data.group_pattern:
        return "no group_pattern is given, so whether a patient is in both splits is unknown"
    unnamed = _without_group(data, train, val)
    if unnamed:
        return (
            f"group_pattern finds no group in {unnamed} file names, "
            "so whether a patient is in both is unknown"
        )
    shared = len(_groups(data, train) & _groups(data, val))
    if shared:
        return f"{shared} groups (patients) are in both splits"
    return "split by group (patient): none is in both"


def _metrics(metrics: Mapping) -> str:
    """The last epoch's averaged weights on the validation split."""
    cells = _cells("boxes", metrics.get("detection", {}), DETECTION_METRICS)
    cells += _cells(metrics.get("cls_title", DEFAULT_TITLE), metrics.get("views", {}), VIEW_METRICS)
    table = markdown_table(["figure", "value", "95 % interval"], cells)
    text = "The last epoch's averaged weights (`last.pt`) on the validation split:"
    return f"{text}\n\n{table}\n\n{_bullets(_reading(metrics))}"


def _cells(title: str, found: Mapping, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """A row a metric: its name, value and interval."""
    intervals = found.get("intervals", {})
    rows = []
    for name, key in names.items():
        if key in found:
            interval = _interval(intervals.get(key))
            rows.append((f"{title}: {name}", _number(found[key]), interval))
    return rows


def _reading(metrics: Mapping) -> list[str]:
    """What one must know to read the metrics."""
    lines = [
        f"intervals: t x bootstrap standard error over {metrics['interval_unit']}; of this one "
        "training: by how much another training would differ is not in them",
    ]
    if metrics.get("detection", {}).get("confidence_source") == "maximises F1 here":
        lines.append(
            "precision, recall and F1 are at the confidence with the best F1 on this very split: "
            "they flatter"
        )
    for task, of_each in (("detection", "per_class"), ("views", "per_view")):
        rows = metrics.get(task, {}).get(of_each, [])
        if any(row["groups"] is not None for row in rows):
            counts = [f"{row['name']} {row['groups']}" for row in rows]
            lines.append(f"patients behind: {', '.join(counts)}")
    return lines + _errors(metrics)


def _errors(metrics: Mapping) -> list[str]:
    if "detection" not in metrics:
        return []
    counts = metrics["detection"]["errors"]["counts"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    return [f"boxes by kind, at the confidence of precision and recall: {kinds}; see `errors.png`"]


def _known(metrics: Mapping, data: DataConfig) -> str:
    """What else there may be that a model of these tasks cannot name."""
    known = []
    if "detection" in metrics:
        known.append(f"{len(data.names)} classes")
    if "views" in metrics:
        known.append(f"{len(data.view_names)} {plural(data.cls_title)}")
    unknown = data.said("Other classes or views")
    return f"{unknown}: it knows {' and '.join(known)}, and names one of them."


def _limits(metrics: Mapping, data: DataConfig, train: Split, val: Split) -> str:
    lines = [
        "It is research software and no medical device: no diagnosis, no screening, "
        "no decision about a person.",
        _known(metrics, data),
        "Images from other machines, of other sizes or settings than in training: "
        "nothing is known about them.",
    ]
    is_shared = _groups(data, train) & _groups(data, val)
    if not data.group_pattern or _without_group(data, train, val) or is_shared:
        lines.append(
            "Patients it has not seen: the figures above may be of patients that it has seen."
        )
    if val.labels.counts.all():
        lines.append(
            "Images without a finding: false alarms were not measured, "
            "as every validation frame has a box."
        )
    return _bullets(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}"


def _interval(limits: Sequence[float | None] | None) -> str:
    if not limits or None in limits:
        return "-"
    low, high = limits
    return f"{low:.3f} to {high:.3f}"

"""What `utils.evaluation.metrics.summarise` found, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.core.options import USUAL_CONFIDENCE
from utils.core.title import DEFAULT_TITLE, plural, titled
from utils.evaluation.detection import CLASS_METRICS
from utils.evaluation.error_kinds import KINDS
from utils.evaluation.results import SAME_CLIP
from utils.evaluation.summary import (
    ClipFindings,
    Clips,
    ClipView,
    Detection,
    FrameRates,
    Froc,
    Intervals,
    Kept,
    Summary,
)


def format_table(metrics: Summary) -> str:
    """The result of `summarise` as text for a terminal, at most 110 columns.

    With `reference`, as `utils.curation.reference.same_clip_reference` gives it, its metrics stand
    below the model's.
    """
    parts = []
    if "detection" in metrics:
        parts.append(_detection_lines(metrics))
        parts.append(_error_lines(metrics))
        parts.append(_froc_lines(metrics))
        parts.append(_image_level_lines(metrics))
    if "views" in metrics:
        parts.append(_view_lines(metrics))
    if metrics.get("clips"):
        parts.append(clip_lines(metrics["clips"], _title(metrics)))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _title(metrics: Summary) -> str:
    """What the data set calls a view; older files do not say."""
    return metrics.get("cls_title", DEFAULT_TITLE)


def _detection_lines(metrics: Summary) -> list[str]:
    detection = metrics["detection"]
    total = {key: detection[key.replace("AP", "mAP")] for key in CLASS_METRICS}
    total |= {key: metrics[key] for key in ("images", "groups", "boxes")}
    total["name"] = "all"
    columns = ("name", "images", "groups", "boxes", *CLASS_METRICS)
    lines = [
        _row("boxes", "images", "patients", "boxes", "P", "R", "F1", "AP50", "AP50-95", "AP30")
    ]
    for row in (total, *detection["per_class"]):
        cells = [row[column] for column in columns]
        lines.append(_row(*cells))
    lines += _same_clip_rows(metrics)
    confidence = _cell(detection["confidence"])
    source = detection["confidence_source"]
    share = _cell(detection["matched_share"])
    mse = _cell(detection["mse_xywhn"], 6)
    map_50 = _cell(detection["yolov5_mAP_0.5"])
    map_50_95 = _cell(detection["yolov5_mAP_0.5:0.95"])
    lines += [
        f"P, R, F1 at confidence {confidence} ({source}); AP: COCO, 300 detections an image",
        f"boxes matched at IoU 0.5: {share}; MSE of their xywh, normalised: {mse}",
        f"YOLOv5-style: mAP50 {map_50}, mAP50-95 {map_50_95}",
    ]
    labels = {"mAP_0.5": "AP50", "mAP_0.5:0.95": "AP50-95"}
    return lines + _interval_lines(metrics, detection, labels)


def _same_clip_rows(metrics: Summary) -> list[str]:
    """The neighbour oracle's row and how to read it, where it was asked for."""
    if not metrics.get("reference"):
        return []
    boxes = metrics["reference"]["boxes"]
    if not boxes["with_neighbour"]:
        none_of = f"for none of the {boxes['frames']} frames"
        return [f"{SAME_CLIP}: {none_of}, so this reference does not exist here"]
    aps = [boxes[key] for key in ("map_50", "map_50_95", "map_30")]
    share = _share_with(boxes, "with_neighbour")
    return [
        _row(SAME_CLIP, boxes["frames"], "", metrics["boxes"], "", "", "", *aps),
        f"{SAME_CLIP}: the boxes of its nearest frame, else none; {share}",
    ]


def _same_clip_views(metrics: Summary) -> list[str]:
    reference = metrics.get("reference")
    if not reference or not reference.get("views"):
        return []
    views = reference["views"]
    if not views["with_clip"]:
        return []
    share = _share_with(views, "with_clip")
    meaning = titled("its most frequent view, else the majority view", _title(metrics))
    return [
        _row(SAME_CLIP, views["frames"], views["accuracy"], views["balanced_accuracy"]),
        f"{SAME_CLIP}: {meaning}; {share}",
    ]


def _share_with(oracle: Mapping, key: str) -> str:
    return f"{oracle[key]} of {oracle['frames']} frames have one"


def _error_lines(metrics: Summary) -> list[str]:
    detection = metrics["detection"]
    errors = detection["errors"]
    lines = [_row("boxes by kind", *KINDS, width=12)]
    for row in ({"name": "all"} | errors["counts"], *errors["per_class"]):
        counts = [row[kind] for kind in KINDS]
        lines.append(_row(row["name"], *counts, width=12))
    gains = [_gain(errors["delta_mAP_0.5"][kind]) for kind in KINDS[1:]]
    threshold = _threshold(detection)
    return [
        *lines,
        _row("AP50 gained if fixed", "", *gains, width=12),
        f"boxes from confidence {threshold} on, of the class they name; "
        "missed: a true box, of its class",
        "IoU: right, wrong class 0.5 or more; loose box, wrong both 0.1 to 0.5; "
        "background less (after TIDE, 2020)",
        "AP50 gained: mean over classes, each kind fixed alone, at every confidence "
        "(some missed are found below)",
    ]


def _froc_lines(metrics: Summary) -> list[str]:
    lines = _froc_rows(metrics["detection"]["froc"], "frame")
    lines.append(
        "FROC: share of true boxes found (IoU 0.5) with at most so many false ones a frame; "
        "each class by itself"
    )
    return lines


def _froc_rows(froc: Froc, unit: str) -> list[str]:
    rates = [_rate(rate) for rate in froc["false_positives"]]
    rows = [{"name": "mean of classes"} | froc, *froc["per_class"]]
    if "any" in froc:
        rows.insert(0, froc["any"])
    lines = [_row(f"false boxes a {unit}", *rates, "mean")]
    for row in rows:
        lines.append(_row(row["name"], *row["sensitivity"], row["mean"]))
    return lines


def _rate(false_positives: float) -> str:
    if false_positives < 1:
        return f"1/{1 / false_positives:.0f}"
    return f"{false_positives:.0f}"


def _image_level_lines(metrics: Summary) -> list[str]:
    level = metrics["detection"]["image_level"]
    any_finding = level["any"]
    confidence = _threshold(metrics["detection"])
    sensitivity = f"{'sensitivity':>24}"
    specificity = f"{'specificity':>24}"
    lines = [_row("whole frames", "with", "patients", sensitivity, "without", specificity)]
    lines += [_image_level_row(row) for row in (any_finding, *level["per_class"])]
    if any_finding["note"]:
        lines.append(f"any finding: {any_finding['note']}")
    lines += [
        "with, without: frames with a true box of the class (of so many patients), "
        "and frames without one",
        "a frame counts as called if a box of the class, wherever it lies, "
        f"has at least confidence {confidence}",
    ]
    method = "Wilson's, over images"
    if any_finding["positive_groups"] is not None:
        method = f"of this training, over {metrics['interval_unit']}"
    if metrics["resamples"]:
        lines.append(f"95 % intervals: {method}")
    return lines


def _image_level_row(row: FrameRates) -> str:
    found = f"{_span(row['sensitivity'], row['sensitivity_interval']):>24}"
    cleared = f"{_span(row['specificity'], row['specificity_interval']):>24}"
    positives = row["positives"]
    negatives = row["negatives"]
    return _row(row["name"], positives, row["positive_groups"], found, negatives, cleared)


def _view_lines(metrics: Summary) -> list[str]:
    views = metrics["views"]
    title = _title(metrics)
    if not views["images"]:
        return [titled("views: no image with a known and a predicted view", title)]
    keys = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    rates = [views[key] for key in keys]
    lines = [
        _row(plural(title), "images", "accuracy", "balanced", "macro F1", "AUROC", "ECE"),
        _row("model", views["images"], *rates),
    ]
    if views["majority_baseline"]:
        majority = views["majority_baseline"]
        lookup = views["class_lookup_baseline"]
        lines.append(_row(f"always {majority['view']}", views["images"], majority["accuracy"]))
        lines.append(_row("by the box's class", views["images"], lookup["accuracy"]))
    lines += _same_clip_views(metrics)
    labels = {"accuracy": "accuracy", "balanced_accuracy": "balanced"}
    lines += _interval_lines(metrics, views, labels)
    lines += _risk_lines(metrics)
    lines += ["", _row(title, "images", "patients", "P", "R", "F1")]
    for row in views["per_view"]:
        cells = [row[key] for key in ("images", "groups", "precision", "recall", "f1")]
        lines.append(_row(row["name"], *cells))
    return lines


def clip_lines(clips: Clips, title: str = DEFAULT_TITLE) -> list[str]:
    """What `utils.evaluation.clip_metrics.clip_metrics` found, at most 110 columns.

    Args:
        title: what the data set calls a view.
    """
    lines = []
    for kind in ("clip", "patient"):
        if clips[f"by_{kind}"]:
            lines += _finding_lines(clips[f"by_{kind}"], kind)
    if clips["by_clip"]:
        threshold = _cell(clips["threshold"])
        pooled = [_cell(value) for value in clips["with_evidence"].values()]
        lines += [
            *_froc_rows(clips["froc"], "clip"),
            "FROC by clip: share of a clip's findings with a box on one of their true boxes; each "
            "class by itself",
            "",
            "evidence of a class: mean over a clip's frames of its highest confidence; of a "
            "patient: that of the best clip",
            f"called: evidence of at least {threshold} ({clips['threshold_source']}); intervals "
            "of 95 % over patients",
            f"boxes times the clip's evidence ** {clips['strength']}: "
            f"AP50 {pooled[0]}, AP50-95 {pooled[1]}, AP30 {pooled[2]}",
        ]
    if clips["view"]:
        lines += [titled(line, title) for line in _clip_view_lines(clips["view"])]
    if clips["frames_outside"]:
        lines.append(f"{clips['frames_outside']} frames are in no clip and are left out here")
    return lines


def _finding_lines(findings: ClipFindings, kind: str) -> list[str]:
    rates = ("AUROC", "sensitivity", "specificity")
    header = "".join(f"{rate:>22}" for rate in rates)
    lines = [_row(f"by {kind} ({findings['count']})", "with", "without") + header]
    for row in findings["rows"]:
        spans = [_span(row[rate.lower()], row[f"{rate.lower()}_interval"]) for rate in rates]
        cells = "".join(f"{span:>22}" for span in spans)
        lines.append(_row(row["name"], row["positives"], row["negatives"]) + cells)
    return [*lines, *findings["notes"], ""]


def _clip_view_lines(view: ClipView) -> list[str]:
    accuracy = _span(view["accuracy"], view["accuracy_interval"])
    lines = [f"view by clip (mean over its frames): right in {accuracy} of {view['clips']} clips"]
    if view["kept"] and view["kept"]["threshold"]:
        lines.append(_kept_line(view["kept"], "clips"))
    if view["contradicting"]:
        lines.append(
            f"{view['contradicting']} clips have labels of several views and count by the "
            f"majority; {view['undecided']} without one are left out"
        )
    return lines


def _risk_lines(metrics: Summary) -> list[str]:
    """Which answers are to be left out, for fewer wrong ones."""
    curve = metrics.get("risk_coverage")
    if not curve:
        return []
    lines = [f"area under risk over coverage: {_cell(curve['area'])}"]
    if curve["kept"] and curve["kept"]["threshold"]:
        lines.append(_kept_line(curve["kept"], "frames"))
    for row in curve["at_accuracy"]:
        if row["threshold"] is not None:
            lines.append(
                f"{row['accuracy']:.0%} right on these frames if a view of less than "
                f"{row['threshold']:.3f} is unknown: {row['coverage']:.0%} are answered"
            )
    return [titled(line, _title(metrics)) for line in lines]


def _kept_line(kept: Kept, unit: str) -> str:
    return (
        f"a view of less than {_cell(kept['threshold'])} is unknown (the model's threshold): "
        f"{kept['coverage']:.0%} of the {unit} have an answer, right in {_cell(kept['accuracy'])}"
    )


def _interval_lines(metrics: Summary, part: Intervals, labels: Mapping[str, str]) -> list[str]:
    """On the intervals of a part, whose metrics `labels` names."""
    if not part["intervals"]:
        return []
    spans = [_span(labels[key], interval) for key, interval in part["intervals"].items()]
    # A dict: each number once, in this order
    worth = dict.fromkeys(f"{number:.1f}" for number in part["effective_groups"].values())
    unit = metrics["interval_unit"]
    lines = [
        f"95 % intervals: {', '.join(spans)}",
        f"of this training, over {unit}, that weigh like {' and '.join(worth)} equal ones",
    ]
    incomplete = part["incomplete_resamples"]
    if incomplete:
        lacking = titled("resamples lack a class or view", _title(metrics))
        lines.append(
            f"{incomplete} of {metrics['resamples']} {lacking}: their mean is over the others"
        )
    return lines


def _row(name: str, *cells: object, width: int = 9) -> str:
    return f"{name[:24]:<24}" + "".join(f"{_cell(cell):>{width}}" for cell in cells)


def _threshold(detection: Detection) -> str:
    chosen = detection["confidence"]
    if chosen is None:
        return f"{USUAL_CONFIDENCE}, the usual"
    return _cell(chosen)


def _gain(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.3f}"


def _span(value: object, interval: Sequence[float | None]) -> str:
    """A value, or its name, and its interval where that is defined."""
    if None in interval:
        return _cell(value)
    return f"{_cell(value)} [{', '.join(map(_cell, interval))}]"


def _cell(value: object, digits: int = 3) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return str(value)

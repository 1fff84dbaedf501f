"""What `utils.evaluation.metrics.summarise` found, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.core.options import USUAL_CONFIDENCE
from utils.evaluation.detection import CLASS_FIGURES
from utils.evaluation.error_kinds import KINDS
from utils.evaluation.results import SAME_CLIP


def format_table(metrics: dict) -> str:
    """The result of `summarise` as text for a terminal, at most 110 columns.

    With `reference`, as `utils.reference.same_clip_reference` gives it, its figures stand below the
    model's.
    """
    parts = {
        "detection": (_detection_lines, _error_lines, _froc_lines, _image_level_lines),
        "views": (_view_lines,),
    }
    return "\n\n".join(
        "\n".join(lines(metrics)) for part in parts if part in metrics for lines in parts[part]
    )


def _detection_lines(metrics: dict) -> list[str]:
    detection = metrics["detection"]
    total = {key: detection[key.replace("AP", "mAP")] for key in CLASS_FIGURES}
    total |= {key: metrics[key] for key in ("images", "groups", "boxes")} | {"name": "all"}
    source = detection["confidence_source"]
    return [
        _row("boxes", "images", "patients", "boxes", "P", "R", "F1", "AP50", "AP50-95", "AP30"),
        *(
            _row(
                row["name"],
                row["images"],
                row["groups"],
                row["boxes"],
                *(row[key] for key in CLASS_FIGURES),
            )
            for row in (total, *detection["per_class"])
        ),
        *_same_clip_rows(metrics),
        f"P, R, F1 at confidence {_cell(detection['confidence'])} ({source}); AP: COCO, 300 detections an image",
        f"boxes matched at IoU 0.5: {_cell(detection['matched_share'])}; "
        f"MSE of their xywh, normalised: {_cell(detection['mse_xywhn'], 6)}",
        f"YOLOv5-style: mAP50 {_cell(detection['yolov5_mAP_0.5'])}, mAP50-95 {_cell(detection['yolov5_mAP_0.5:0.95'])}",
        *_interval_lines(metrics, "detection", {"mAP_0.5": "AP50", "mAP_0.5:0.95": "AP50-95"}),
    ]


def _same_clip_rows(metrics: dict) -> list[str]:
    """The neighbour oracle's row and how to read it, where it was asked for."""
    if not metrics.get("reference"):
        return []
    boxes = metrics["reference"]["boxes"]
    if not boxes["with_neighbour"]:
        return [
            f"{SAME_CLIP}: for none of the {boxes['frames']} frames, so this reference does not exist here"
        ]
    figures = (boxes[key] for key in ("map_50", "map_50_95", "map_30"))
    return [
        _row(SAME_CLIP, boxes["frames"], "", metrics["boxes"], "", "", "", *figures),
        f"{SAME_CLIP}: the boxes of its nearest frame, else none; {_with_clip(boxes, 'with_neighbour')}",
    ]


def _same_clip_views(metrics: dict) -> list[str]:
    views = (metrics.get("reference") or {}).get("views")
    if not views or not views["with_clip"]:
        return []
    return [
        _row(SAME_CLIP, views["frames"], views["accuracy"], views["balanced_accuracy"]),
        f"{SAME_CLIP}: its most frequent view, else the majority view; {_with_clip(views, 'with_clip')}",
    ]


def _with_clip(oracle: Mapping, key: str) -> str:
    return f"{oracle[key]} of {oracle['frames']} frames have one"


def _error_lines(metrics: dict) -> list[str]:
    detection = metrics["detection"]
    errors = detection["errors"]
    rows = ({"name": "all"} | errors["counts"], *errors["per_class"])
    gains = [_gain(errors["delta_mAP_0.5"][kind]) for kind in KINDS[1:]]
    return [
        _row("boxes by kind", *KINDS, width=12),
        *(_row(row["name"], *(row[kind] for kind in KINDS), width=12) for row in rows),
        _row("AP50 gained if mended", "", *gains, width=12),
        f"boxes from confidence {_threshold(detection)} on, of the class they name; missed: a true box, of its class",
        "IoU: right, wrong class 0.5 or more; loose box, wrong both 0.1 to 0.5; background less (after TIDE, 2020)",
        "AP50 gained: mean over classes, each kind mended alone, at every confidence (some missed are found below)",
    ]


def _froc_lines(metrics: dict) -> list[str]:
    froc = metrics["detection"]["froc"]
    rates = (f"1/{1 / rate:.0f}" if rate < 1 else f"{rate:.0f}" for rate in froc["false_positives"])
    rows = ({"name": "mean of classes"} | froc, *froc["per_class"])
    return [
        _row("false boxes a frame", *rates, "mean"),
        *(_row(row["name"], *row["sensitivity"], row["mean"]) for row in rows),
        "FROC: share of true boxes found (IoU 0.5) with at most so many false ones a frame; each class by itself",
    ]


def _image_level_lines(metrics: dict) -> list[str]:
    level, confidence = metrics["detection"]["image_level"], _threshold(metrics["detection"])
    lines = [
        _row(
            "whole frames",
            "with",
            "patients",
            f"{'sensitivity':>24}",
            "without",
            f"{'specificity':>24}",
        )
    ]
    for row in (level["any"], *level["per_class"]):
        found, cleared = (
            f"{_span(row[key], row[f'{key}_interval']):>24}"
            for key in ("sensitivity", "specificity")
        )
        lines.append(
            _row(
                row["name"],
                row["positives"],
                row["positive_groups"],
                found,
                row["negatives"],
                cleared,
            )
        )
    lines += [f"any finding: {level['any']['note']}"] if level["any"]["note"] else []
    lines += [
        "with, without: frames with a true box of the class (of so many patients), and frames without one",
        f"a frame counts as called if a box of the class, wherever it lies, has at least confidence {confidence}",
    ]
    is_grouped = level["any"]["positive_groups"] is not None
    method = (
        f"of this training, over {metrics['interval_unit']}"
        if is_grouped
        else "Wilson's, over images"
    )
    return [*lines, f"95 % intervals: {method}"] if metrics["resamples"] else lines


def _view_lines(metrics: dict) -> list[str]:
    views = metrics["views"]
    if not views["images"]:
        return ["views: no image with a known and a predicted view"]
    keys = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    lines = [
        _row("views", "images", "accuracy", "balanced", "macro F1", "AUROC", "ECE"),
        _row("model", views["images"], *(views[key] for key in keys)),
    ]
    if views["majority_baseline"]:
        majority, lookup = views["majority_baseline"], views["class_lookup_baseline"]
        lines.append(_row(f"always {majority['view']}", views["images"], majority["accuracy"]))
        lines.append(_row("by the box's class", views["images"], lookup["accuracy"]))
    lines += _same_clip_views(metrics)
    lines += _interval_lines(
        metrics, "views", {"accuracy": "accuracy", "balanced_accuracy": "balanced"}
    )
    lines += ["", _row("view", "images", "patients", "P", "R", "F1")]
    keys = ("name", "images", "groups", "precision", "recall", "f1")
    return lines + [_row(*(row[key] for key in keys)) for row in views["per_view"]]


def _interval_lines(metrics: dict, part: str, labels: dict[str, str]) -> list[str]:
    found, drawn = metrics[part], metrics["resamples"]
    if not found["intervals"]:
        return []
    spans = ", ".join(_span(labels[key], interval) for key, interval in found["intervals"].items())
    worth = " and ".join(
        dict.fromkeys(f"{number:.1f}" for number in found["effective_groups"].values())
    )
    lines = [
        f"95 % intervals: {spans}",
        f"of this training, over {metrics['interval_unit']}, that weigh like {worth} equal ones",
    ]
    if found["incomplete_resamples"]:
        lines.append(
            f"{found['incomplete_resamples']} of {drawn} resamples lack a class or view: their mean is over the others"
        )
    return lines


def _row(name: str, *cells: object, width: int = 9) -> str:
    return f"{name[:24]:<24}" + "".join(f"{_cell(cell):>{width}}" for cell in cells)


def _threshold(detection: Mapping) -> str:
    chosen = detection["confidence"]
    return f"{USUAL_CONFIDENCE}, the usual" if chosen is None else _cell(chosen)


def _gain(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _span(figure: object, interval: Sequence[float | None]) -> str:
    """A figure, or its name, and its interval where that is defined."""
    limits = "" if None in interval else f" [{', '.join(map(_cell, interval))}]"
    return f"{_cell(figure)}{limits}"


def _cell(value: object, digits: int = 3) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

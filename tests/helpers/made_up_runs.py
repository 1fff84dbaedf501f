"""The files of a run, without a run: tables, evaluations, frames, signs of life."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from utils.core.files import CsvLog, ProgressFile
from utils.loggers.records import RESULT_COLUMNS, TIME_COLUMNS
from utils.plots.style import TASK_COLOURS

COLUMNS = RESULT_COLUMNS + TIME_COLUMNS
FIGURES = {
    "train/box_loss": 0.0253,
    "train/obj_loss": 0.0054,
    "train/cls_loss": 0.0002,
    "train/view_loss": 0.0507,
    "metrics/mAP_0.5": 0.658,
    "metrics/mAP_0.5:0.95": 0.246,
    "metrics/view_accuracy": 0.683,
    "weight/detection": 1.5,
    "weight/classification": 0.5,
    "time/epoch_s": 20.0,
    "time/val_s": 2.0,
}


def log_epochs(folder: Path, epochs: int = 1, columns: tuple = COLUMNS, **changes: object) -> None:
    log = CsvLog(folder / "results.csv", columns)
    for epoch in range(epochs):
        row = {"epoch": epoch, **FIGURES, **changes}
        log.append({key: value for key, value in row.items() if key in columns})


def set_progress(folder: Path, state: str = "training", **fields: object) -> None:
    """As a training writes it, from this process."""
    known = {"epoch": 0, "epochs": 10} | fields
    ProgressFile(folder / "progress.json").update(force=True, state=state, **known)


NAMES = ["AR", "MR", "PR", "TR"]
VIEWS = ["A4C", "PSAX", "PLAX"]

LOSSES = {  # in the first epoch, and the last
    "box": (0.11, 0.045),
    "obj": (0.03, 0.017),
    "cls": (0.04, 0.006),
    "view": (1.1, 0.2),
}
SCORES = {  # in the last epoch
    "precision": 0.73,
    "recall": 0.62,
    "mAP_0.5": 0.65,
    "mAP_0.5:0.95": 0.25,
    "mAP_0.3": 0.78,
    "view_accuracy": 0.71,
    "view_balanced_accuracy": 0.67,
    "view_macro_f1": 0.66,
    "fitness": 0.48,
}


def results_table(epochs: int, every: int = 1) -> pd.DataFrame:
    """Rows like a real run's, validated every so many epochs and after the last."""
    rng = np.random.default_rng(0)
    time = np.arange(epochs)
    fall = np.exp(-time / max(1, epochs / 4))
    rise = 1 - np.exp(-(time + 1) / max(1, epochs / 5))
    table = {"epoch": time}
    for name, (start, end) in LOSSES.items():
        course = (start - end) * fall
        table[f"train/{name}_loss"] = end + course + rng.normal(0, 0.02 * end, epochs)
        table[f"val/{name}_loss"] = end * 1.3 + course + rng.normal(0, 0.05 * end, epochs)
    is_validated = (time % every == every - 1) | (time == epochs - 1)
    for name, end in SCORES.items():
        score = np.clip(end * rise + rng.normal(0, 0.02, epochs), 0, 1)
        table[f"metrics/{name}"] = np.where(is_validated, score, np.nan)
    for group in range(3):
        table[f"x/lr{group}"] = 1e-3 * (0.01 + 0.99 * (1 + np.cos(np.pi * time / epochs)) / 2)
    table["best"] = np.where(time == np.nanargmax(table["metrics/fitness"]), "joint", "")
    return pd.DataFrame(table)


def updates_table(epochs: int, batches: int = 66, interval: int = 10) -> pd.DataFrame:
    """Rows like GradNorm's, of a start with the weights 1.0 and 0.01, and single batches' noise."""
    rng = np.random.default_rng(1)
    step = np.arange(interval - 1, epochs * batches, interval)
    count = len(step)
    time = np.arange(count) / max(1, count)
    detection = 1.1 + 0.7 * np.exp(-time * 8) - 0.4 * time
    weights = {"detection": detection, "classification": 2 - detection}
    table = {"step": step, "epoch": step // batches, "batch": step % batches}
    scale = {"detection": (0.18, 0.07, 0.004), "classification": (1.1, 0.2, 0.03)}
    for task, (start, end, norm) in scale.items():
        course = end + (start - end) * np.exp(-time * 4)
        table[f"loss/{task}"] = course * rng.normal(1, 0.15, count)
        table[f"weight/{task}"] = weights[task]
        table[f"norm/{task}"] = weights[task] * norm * np.exp(rng.normal(0, 0.3, count))
        table[f"target/{task}"] = 0.012 * np.exp(rng.normal(0, 0.1, count))
        table[f"rate/{task}"] = rng.normal(1, 0.1, count)
    table["loss/total"] = sum(weights[task] * table[f"loss/{task}"] for task in scale)
    table |= {
        "cosine": rng.normal(0.02, 0.06, count),
        "skipped_unlabelled": 0,
        "skipped_nonfinite": 0,
    }
    frame = pd.DataFrame(table).assign(at_bound="")
    frame.loc[frame.index[5::40], ["norm/detection", "target/detection"]] = np.nan
    frame.loc[frame.index[5::40], "skipped_unlabelled"] = 1
    frame.loc[frame.index[2:5], "at_bound"] = "classification"
    return frame


ERRORS = ("right", "loose box", "wrong class", "wrong both", "duplicate", "background", "missed")


def metrics(names: list[str] = NAMES, views: list[str] = VIEWS, labelled: int = 183) -> dict:
    """What an evaluation writes, as far as it is drawn."""
    rng = np.random.default_rng(2)
    recall = np.linspace(0, 1, 101)
    power = rng.uniform(1, 6, len(names))
    curves = [np.round(1 - recall**p, 4).tolist() for p in power]
    rows = [
        {"name": name, "AP_0.5": float(np.mean(curve))}
        for name, curve in zip(names, curves, strict=True)
    ]
    froc = _froc(rng, names)
    boxes = rng.poisson(3, (len(names) + 1,) * 2) + np.diag(rng.integers(20, 90, len(names) + 1))
    boxes[-1, -1] = 0
    errors = _errors(rng, names)
    confusion = rng.poisson(8, (len(views),) * 2) + np.diag(rng.integers(20, 70, len(views)))
    return {
        "names": names,
        "view_names": views,
        "detection": {
            "mAP_0.5": float(np.mean(curves)),
            "confidence": 0.312,
            "per_class": rows,
            "confusion": boxes.tolist(),
            "pr_curve": {"recall": recall.tolist(), "precision": curves},
            "errors": errors,
            "froc": froc,
        },
        "views": {"images": labelled, "confusion": (confusion * (labelled > 0)).tolist()},
    }


def _froc(rng: np.random.Generator, names: list[str]) -> dict:
    rates = 2.0 ** (np.arange(-60, 61) / 20)
    curves = [np.round(rates / (rates + size), 4) for size in rng.uniform(0.02, 1, len(names))]
    means = [float(curve.mean()) for curve in curves]
    return {
        "false_positives": rates[::20].tolist(),
        "mean": float(np.mean(curves)),
        "per_class": [{"name": n, "mean": mean} for n, mean in zip(names, means, strict=True)],
        "curve": {
            "false_positives": rates.tolist(),
            "sensitivity": np.array(curves).tolist(),
        },
    }


def _errors(rng: np.random.Generator, names: list[str]) -> dict:
    rows = []
    for name in names:
        counts = (60, *rng.poisson(8, len(ERRORS) - 1).tolist())
        rows.append({"name": name} | dict(zip(ERRORS, counts, strict=True)))
    totals = {}
    for kind in ERRORS:
        totals[kind] = sum(row[kind] for row in rows)
    gains = dict(zip(ERRORS[1:], (0.098, 0.021, 0.0, 0.045, 0.008, 0.03), strict=True))
    return {"counts": totals, "per_class": rows, "delta_mAP_0.5": gains}


def val_batch(folder: Path, count: int = 16, classes: int = 4, views: int = 3) -> list[dict]:
    """Records for frames that are written into `folder`.

    There are boxes at every edge, many or none, and unknown views.
    """
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for index in range(count):
        height, width = ((320, 430), (495, 700), (240, 240))[index % 3]
        path = folder / f"Bild ü é {index}.png"
        noise = rng.integers(0, 90, (height // 8, width // 8, 3), dtype=np.uint8)
        cv2.imencode(".png", cv2.resize(noise, (width, height)))[1].tofile(path)
        centres = rng.uniform(0.1, 0.9, (index % 4, 2))
        sizes = rng.uniform(0.1, 0.5, (index % 4, 2))
        corners = np.clip(np.hstack([centres - sizes / 2, centres + sizes / 2]), 0, 1)
        if index == 4:
            corners = np.array([[0.0, 0.0, 1.0, 1.0]])
        boxes = (corners * (width, height, width, height)).round(1)
        number = rng.integers(0, classes, len(boxes)).tolist()
        view = -1
        if index % 7 != 6:
            view = int(rng.integers(views))
        probabilities = rng.dirichlet(np.ones(views) * 0.4) * 0.5
        favourite = 0
        if index % 3:
            favourite = view
        probabilities[favourite] += 0.5
        moved = np.clip(boxes + rng.normal(0, 6, boxes.shape), 0, (width, height, width, height))
        scores = rng.uniform(0.3, 1, len(boxes)).tolist()
        truth = {"boxes_xyxy": boxes.tolist(), "classes": number, "view": view}
        prediction = {"boxes_xyxy": moved.tolist(), "scores": scores, "classes": number}
        prediction["view_probabilities"] = probabilities.tolist()
        records.append({"path": str(path), "truth": truth, "prediction": prediction})
    return records


def dual_table(epochs: int, start: int = 0) -> pd.DataFrame:
    """Rows of a dual run whose classifier is idle for `start` epochs."""
    table = results_table(epochs)
    for task in TASK_COLOURS:
        renamed = {f"x/lr{group}": f"x/{task}_lr{group}" for group in range(3)}
        table = table.join(table[list(renamed)].rename(columns=renamed))
    table = table.drop(columns=list(renamed))
    table["best"] = table["best"].replace("joint", "detection classification")
    idle = [column for column in table if "x/classification" in column]
    table.loc[: start - 1, [*idle, "train/view_loss"]] = np.nan
    return table

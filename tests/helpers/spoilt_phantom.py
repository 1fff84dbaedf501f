"""A phantom with 8 % of its labels spoilt on purpose, and what networks that never saw them say.

python -m spoilt_phantom    # from tests/helpers, writes tests/assets/spoilt_phantom.npz anew

takes minutes: it trains a network a fold. The quick tests read the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.curation.held_out import DataSets, find_predictions
from utils.data.labels import UNKNOWN_VIEW, view_line
from utils.data.phantom.anatomy import KINDS, VIEWS
from utils.data.phantom.generate import generate
from utils.data.splits import label_path, load_splits
from utils.evaluation.results import ImageResult

ASSET = ROOT / "tests" / "assets" / "spoilt_phantom.npz"
SHARE = 0.08
FOLDS = 2
PATIENTS = (60, 12)  # of the generator's two splits, which are divided anew
TRAINING = {
    "size": "n",
    "imgsz": 128,
    "epochs": 24,
    "batch_size": 8,
    "noval": True,
    "device": "cpu",
    "amp": "off",
    "workers": 0,
}
BOX_MISTAKES = ("class", "moved", "removed")


@dataclass(frozen=True)
class Spoilt:
    """Which labels were spoilt.

    Attributes:
        views: names of frames whose view was changed.
        boxes: names of frames of which one box was spoilt -> how, of `BOX_MISTAKES`.
    """

    views: list[str]
    boxes: dict[str, str]


def write_spoilt(folder: Path) -> Spoilt:
    """A phantom in `folder`/frames with `folder`/data.yaml, its labels spoilt."""
    train, val = PATIENTS
    generate(folder / "frames", seed=5, train_patients=train, val_patients=val)
    content = {
        "path": "frames",
        "train": "images/train",
        "val": "images/val",
        "names": list(KINDS),
        "cls_names": list(VIEWS),
        "group_pattern": r"^(P\d+)_",
        "clip_pattern": r"^(P\d+_.+)_F(\d+)",
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return spoil(folder / "data.yaml")


def spoil(data_yaml: Path, seed: int = 0) -> Spoilt:
    """Change `SHARE` of the views, and as many boxes as that is of all, at most one a frame."""
    rng = np.random.default_rng(seed)
    data = load_data_config(data_yaml)
    frames = {}
    for split in load_splits(data, list(data.splits)):
        frames |= dict(zip(split.images, split.labels, strict=True))
    with_view = [path for path, labels in frames.items() if labels.view != UNKNOWN_VIEW]
    with_box = [path for path, labels in frames.items() if len(labels.boxes)]
    box_count = sum(len(labels.boxes) for labels in frames.values())
    views = set(rng.choice(len(with_view), round(SHARE * len(with_view)), replace=False))
    boxes = rng.choice(len(with_box), round(SHARE * box_count), replace=False)
    spoilt = Spoilt(sorted(with_view[number].name for number in views), {})
    for number, mistake in zip(boxes, np.resize(BOX_MISTAKES, len(boxes)), strict=True):
        spoilt.boxes[with_box[number].name] = str(mistake)
    for path, labels in frames.items():
        view, rows = labels.view, labels.boxes.copy()
        if path.name in spoilt.views:
            view = (view + rng.integers(1, len(VIEWS))) % len(VIEWS)
        if path.name in spoilt.boxes:
            rows = spoilt_rows(rows, spoilt.boxes[path.name], rng)
        lines = [f"{int(row[0])} " + " ".join(f"{value:.6f}" for value in row[1:]) for row in rows]
        if view != UNKNOWN_VIEW:
            lines.append(view_line(int(view), len(VIEWS)))
        label_path(path, data).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return spoilt


def spoilt_rows(rows: np.ndarray, mistake: str, rng: np.random.Generator) -> np.ndarray:
    """The first box with another class, far away, or gone."""
    if mistake == "removed":
        return rows[1:]
    if mistake == "class":
        rows[0, 0] = (rows[0, 0] + rng.integers(1, len(KINDS))) % len(KINDS)
        return rows
    # To the other half of the picture
    rows[0, 1:3] = (rows[0, 1:3] + 0.45) % 1
    half = rows[0, 3:5] / 2
    rows[0, 1:3] = np.clip(rows[0, 1:3], half, 1 - half)
    return rows


def train_folds(folder: Path) -> list[Path]:
    """A network a fold, each in a folder of its own; the data.yaml files of the folds."""
    import split_dataset
    import train_joint_gradnorm

    call(split_dataset, data=folder / "data.yaml", folds=FOLDS, out=folder / "folds")
    for fold in range(FOLDS):
        options = TRAINING | {
            "data": folder / f"folds/fold{fold}/data.yaml",
            "project": folder / "runs",
            "name": f"fold{fold}",
        }
        call(train_joint_gradnorm, **options)
    return [folder / f"folds/fold{fold}/data.yaml" for fold in range(FOLDS)]


def call(script: object, **options: object) -> None:
    """A script's `main` with these options."""
    before = sys.argv
    sys.argv = [f"{script.__name__}.py", *arguments(options)]
    try:
        script.main()
    finally:
        sys.argv = before


def arguments(options: dict[str, object]) -> Iterator[str]:
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield str(value)


def held_out_results(folder: Path, folds: list[Path]) -> list[list[ImageResult]]:
    """What each fold's network says of its validation frames."""
    data_sets = DataSets(folds)
    return [data_sets.held_out(found).results for found in find_predictions([folder / "runs"])]


def write_asset(path: Path, folds: list[list[ImageResult]], spoilt: Spoilt) -> None:
    """All that the ranking needs, some hundred kB."""
    columns: dict[str, list] = {}
    for fold, results in enumerate(folds):
        for result in results:
            kept = result.scores >= 0.01
            row = {
                "fold": fold,
                "name": Path(result.image).name,
                "size": (result.height, result.width),
                "view": result.true_view,
                "said": result.view_probabilities,
                "true_count": len(result.true_classes),
                "count": kept.sum(),
            }
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
            for key, values in (
                ("true_boxes", result.true_boxes_xyxy.astype(np.float32)),
                ("true_classes", result.true_classes.astype(np.uint8)),
                ("boxes", result.boxes_xyxy[kept].astype(np.float32)),
                ("scores", result.scores[kept].astype(np.float32)),
                ("classes", result.classes[kept].astype(np.uint8)),
            ):
                columns.setdefault(key, []).extend(values)
    arrays = {key: np.array(values) for key, values in columns.items()}
    text = json.dumps({"views": spoilt.views, "boxes": spoilt.boxes})
    np.savez_compressed(path, spoilt=np.array(text), **arrays)


def read_asset(path: Path = ASSET) -> tuple[list[list[ImageResult]], Spoilt]:
    """What `write_asset` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        own = {key: archive[key] for key in archive.files}
    true_ends, ends = np.cumsum(own["true_count"]), np.cumsum(own["count"])
    folds: list[list[ImageResult]] = [[] for _ in range(FOLDS)]
    for index, name in enumerate(own["name"].tolist()):
        true = slice(true_ends[index] - own["true_count"][index], true_ends[index])
        found = slice(ends[index] - own["count"][index], ends[index])
        height, width = own["size"][index].tolist()
        result = ImageResult(
            image=name,
            group=name.partition("_")[0],
            height=height,
            width=width,
            true_boxes_xyxy=own["true_boxes"][true].astype(float).reshape(-1, 4),
            true_classes=own["true_classes"][true].astype(int),
            true_view=int(own["view"][index]),
            boxes_xyxy=own["boxes"][found].astype(float).reshape(-1, 4),
            scores=own["scores"][found].astype(float),
            classes=own["classes"][found].astype(int),
            view_probabilities=own["said"][index],
        )
        folds[own["fold"][index]].append(result)
    return folds, Spoilt(**json.loads(str(own["spoilt"])))


def precision(doubted: list[str], spoilt: set[str]) -> float:
    """The share of spoilt frames among as many of the first doubted frames as were spoilt."""
    first = list(dict.fromkeys(doubted))[: len(spoilt)]
    return sum(name in spoilt for name in first) / len(spoilt)


def make(folder: Path) -> tuple[list[list[ImageResult]], Spoilt]:
    """Draw, spoil, train, predict."""
    spoilt = write_spoilt(folder)
    return held_out_results(folder, train_folds(folder)), spoilt

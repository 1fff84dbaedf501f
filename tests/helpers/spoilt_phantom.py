"""A phantom with 8 % of its labels spoilt on purpose, and what networks that never saw them say.

PYTHONPATH=. python tests/helpers/spoilt_phantom.py            # how far spoilt boxes come first
PYTHONPATH=. python tests/helpers/spoilt_phantom.py --train    # writes the predictions anew, before
PYTHONPATH=. python tests/helpers/spoilt_phantom.py FOLDS RUN...    # the same with other frames

The second takes an hour on a core: it trains networks, a fold each. The quick tests read the files.
A network never saw the labels of the frames that it predicts, so their labels can be spoilt in
other ways, by seed, beside the same predictions: those of the phantom, or, in memory, those of
frames with as many classes and views. What is wrong with the latter before counts as a false alarm.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from utils.comparison.protocol_file import find_folds
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.curation.doubts import rank_boxes
from utils.curation.held_out import DataSets, HeldOut, find_predictions
from utils.data.labels import UNKNOWN_VIEW, FrameLabels, view_line
from utils.data.phantom.anatomy import KINDS, VIEWS
from utils.data.phantom.generate import generate
from utils.data.splits import label_path, load_splits
from utils.evaluation.results import ImageResult

SHARE = 0.08
FOLDS = 2
PATIENTS = (60, 12)  # of the generator's two splits, which are divided anew
TRAINING = {
    "size": "n",
    "batch_size": 8,
    "noval": True,
    "device": "cpu",
    "amp": "off",
    "workers": 0,
}
# Networks -> how they were trained, beside `TRAINING`
NETWORKS = {
    "short": {"imgsz": 128, "epochs": 24},
    "longer": {"imgsz": 192, "epochs": 60},
}
SUBPIXELS = 10  # of a box in the files
BOX_MISTAKES = ("class", "moved", "removed")
# Mistake -> the kinds of doubt that say so
EXPECTED = {
    "class": {"class"},
    "moved": {"moved", "not labelled"},
    "removed": {"not labelled"},
    "large": {"loose"},
    "shifted": {"loose"},
    "added": {"no support"},
}


@dataclass(frozen=True)
class Spoilt:
    """Which labels were spoilt.

    Attributes:
        views: names of frames whose view was changed.
        boxes: names of frames of which one box was spoilt -> how, see `EXPECTED`.
    """

    views: list[str]
    boxes: dict[str, str]


Labels = dict[str, FrameLabels]  # name of a frame -> its labels
Folds = list[list[ImageResult]]  # what each network says of frames that it never saw


def write_spoilt(folder: Path, seed: int = 0) -> tuple[Labels, Spoilt]:
    """A phantom in `folder`/frames with `folder`/data.yaml, its labels spoilt.

    Returns:
        The labels as they were, and which were spoilt.
    """
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
    data = load_data_config(folder / "data.yaml")
    clean = {}
    files = {}
    for split in load_splits(data, list(data.splits)):
        for image, labels in zip(split.images, split.labels, strict=True):
            clean[image.name] = labels
            files[image.name] = label_path(image, data)
    labels, spoilt = spoil(clean, seed)
    for name, own in labels.items():
        files[name].write_text(text_of(own), encoding="utf-8")
    return clean, spoilt


def text_of(labels: FrameLabels) -> str:
    """As a label file."""
    lines = []
    for row in labels.boxes:
        lines.append(f"{int(row[0])} " + " ".join(f"{value:.6f}" for value in row[1:]))
    if labels.view != UNKNOWN_VIEW:
        lines.append(view_line(labels.view, len(VIEWS)))
    return "\n".join(lines) + "\n"


def spoil(
    clean: Mapping[str, FrameLabels], seed: int, mistakes: Sequence[str] = BOX_MISTAKES
) -> tuple[Labels, Spoilt]:
    """Change `SHARE` of the views, and as many boxes as that is of all, at most one a frame."""
    rng = np.random.default_rng(seed)
    with_view = [name for name, labels in clean.items() if labels.view != UNKNOWN_VIEW]
    with_box = [name for name, labels in clean.items() if len(labels.boxes)]
    box_count = sum(len(labels.boxes) for labels in clean.values())
    views = set(rng.choice(len(with_view), round(SHARE * len(with_view)), replace=False))
    boxes = rng.choice(len(with_box), round(SHARE * box_count), replace=False)
    spoilt = Spoilt(sorted(with_view[number] for number in views), {})
    for number, mistake in zip(boxes, np.resize(mistakes, len(boxes)), strict=True):
        spoilt.boxes[with_box[number]] = str(mistake)
    changed = {}
    for name, labels in clean.items():
        view, rows = labels.view, labels.boxes.copy()
        if name in spoilt.views:
            view = int(view + rng.integers(1, len(VIEWS))) % len(VIEWS)
        if name in spoilt.boxes:
            rows = spoilt_rows(rows, spoilt.boxes[name], rng)
        changed[name] = FrameLabels(rows, view)
    return changed, spoilt


def spoilt_rows(rows: np.ndarray, mistake: str, rng: np.random.Generator) -> np.ndarray:
    """The first box as the mistake has it; "moved" is far away, "added" another one there."""
    if mistake == "removed":
        return rows[1:]
    if mistake == "class":
        rows[0, 0] = (rows[0, 0] + rng.integers(1, len(KINDS))) % len(KINDS)
        return rows
    if mistake == "large":
        rows[0, 3:5] *= 1.6
        return rows
    if mistake == "shifted":  # by half a box, to the middle
        rows[0, 1] -= np.sign(rows[0, 1] - 0.5) * rows[0, 3] / 2
        return rows
    if mistake == "added":
        rows = np.vstack((rows[:1], rows))
        rows[0, 0] = rng.integers(len(KINDS))
    # To the other half of the picture
    rows[0, 1:3] = (rows[0, 1:3] + 0.45) % 1
    half = rows[0, 3:5] / 2
    rows[0, 1:3] = np.clip(rows[0, 1:3], half, 1 - half)
    return rows


def train_folds(folder: Path, network: str) -> list[Path]:
    """A network a fold, each in a folder of its own; the data.yaml files of the folds."""
    import split_dataset
    import train_joint_gradnorm

    call(split_dataset, data=folder / "data.yaml", folds=FOLDS, out=folder / "folds")
    paths = [folder / f"folds/fold{fold}/data.yaml" for fold in range(FOLDS)]
    for path in paths:
        options = {"data": path, "project": folder / "runs", "name": path.parent.name}
        call(train_joint_gradnorm, **TRAINING, **NETWORKS[network], **options)
    return paths


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


def held_out_results(places: Sequence[str | Path], folds: Iterable[str | Path]) -> list[HeldOut]:
    """What each fold's network says of its validation frames, beside their labels."""
    data_sets = DataSets(folds)
    return [data_sets.held_out(found) for found in find_predictions(places)]


def labels_of(held_out: Sequence[HeldOut]) -> Labels:
    labels = {}
    for own in held_out:
        for image, found in zip(own.split.images, own.split.labels, strict=True):
            labels[image.name] = found
    return labels


def asset(network: str) -> Path:
    return ROOT / "tests" / "assets" / f"spoilt_phantom_{network}.npz"


def write_asset(path: Path, folds: Folds, clean: Labels) -> None:
    """All that the ranking needs, some hundred kB, beside the labels that are not spoilt."""
    columns: dict[str, list] = {}
    for fold, results in enumerate(folds):
        for result in results:
            kept = result.scores >= 0.01
            labels = clean[Path(result.image).name]
            row = {
                "fold": fold,
                "name": Path(result.image).name,
                "size": (result.height, result.width),
                "said": result.view_probabilities,
                "view": labels.view,
                "true_count": len(labels.boxes),
                "count": kept.sum(),
            }
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
            boxes = np.rint(result.boxes_xyxy[kept].clip(0) * SUBPIXELS)
            for key, values in (
                ("true", labels.boxes),
                ("boxes", boxes.astype(np.uint16)),
                ("scores", result.scores[kept].astype(np.float16)),
                ("classes", result.classes[kept].astype(np.uint8)),
            ):
                columns.setdefault(key, []).extend(values)
    np.savez_compressed(path, **{key: np.array(values) for key, values in columns.items()})


def read_asset(network: str) -> tuple[Folds, Labels]:
    """What `write_asset` wrote; the predictions are beside no labels."""
    with np.load(asset(network), allow_pickle=False) as archive:
        own = {key: archive[key] for key in archive.files}
    names = own["name"].tolist()
    true = np.split(own["true"], np.cumsum(own["true_count"])[:-1])
    clean = {}
    for index in np.argsort(names):
        clean[names[index]] = FrameLabels(true[index], int(own["view"][index]))
    found = {}
    for key in ("boxes", "scores", "classes"):
        found[key] = np.split(own[key], np.cumsum(own["count"])[:-1])
    folds: Folds = [[] for _ in range(FOLDS)]
    for index, name in enumerate(names):
        height, width = own["size"][index].tolist()
        result = ImageResult(
            image=name,
            group=name.partition("_")[0],
            height=height,
            width=width,
            true_boxes_xyxy=np.zeros((0, 4)),
            true_classes=np.zeros(0, int),
            true_view=UNKNOWN_VIEW,
            boxes_xyxy=found["boxes"][index] / SUBPIXELS,
            scores=found["scores"][index].astype(float),
            classes=found["classes"][index].astype(int),
            view_probabilities=own["said"][index],
        )
        folds[own["fold"][index]].append(result)
    return folds, clean


def spoilt_beside(
    folds: Folds, clean: Labels, seed: int = 0, mistakes: Sequence[str] = BOX_MISTAKES
) -> tuple[Folds, Spoilt]:
    """The same predictions beside labels that are spoilt by `seed`."""
    labels, spoilt = spoil(clean, seed, mistakes)
    changed = []
    for results in folds:
        changed.append([beside(own, labels[Path(own.image).name]) for own in results])
    return changed, spoilt


def beside(result: ImageResult, labels: FrameLabels) -> ImageResult:
    """The same prediction with other labels."""
    size = np.array([result.width, result.height])
    centre, half = labels.boxes[:, 1:3], labels.boxes[:, 3:] / 2
    return replace(
        result,
        true_boxes_xyxy=np.hstack(((centre - half) * size, (centre + half) * size)),
        true_classes=labels.boxes[:, 0].astype(int),
        true_view=labels.view,
    )


def precision(doubted: Sequence[str], spoilt: set[str]) -> float:
    """The share of spoilt frames among as many of the first doubted frames as were spoilt."""
    return len(first_of(doubted, len(spoilt)) & spoilt) / len(spoilt)


def first_of(doubted: Sequence[str], count: int) -> set[str]:
    """So many frames that come first."""
    return set(list(dict.fromkeys(doubted))[:count])


@dataclass(frozen=True)
class Ranked:
    """How a ranking of boxes does.

    Attributes:
        precision: see `precision`.
        first: mistake -> the share of its frames among the first ones.
        recognised: mistake -> the share whose first doubt is of a kind in `EXPECTED`.
    """

    precision: float
    first: dict[str, float]
    recognised: dict[str, float]


def rank(
    folds: Folds, clean: Labels, seeds: Iterable[int], mistakes: Sequence[str] = BOX_MISTAKES
) -> Ranked:
    """The means over labels that are spoilt by these seeds."""
    rows = []
    for seed in seeds:
        changed, spoilt = spoilt_beside(folds, clean, seed, mistakes)
        kind_of: dict[str, str] = {}
        names = [Path(result.image).name for results in changed for result in results]
        for doubt in rank_boxes(changed, len(KINDS)):
            kind_of.setdefault(names[doubt.frame], doubt.kind)
        first = first_of(list(kind_of), len(spoilt.boxes))
        for name, mistake in spoilt.boxes.items():
            is_recognised = kind_of.get(name) in EXPECTED[mistake]
            rows.append({"mistake": mistake, "first": name in first, "recognised": is_recognised})
    table = pd.DataFrame(rows)
    means = table.groupby("mistake")[["first", "recognised"]].mean()
    return Ranked(
        float(table["first"].mean()), means["first"].to_dict(), means["recognised"].to_dict()
    )


def make(folder: Path, network: str) -> tuple[Folds, Labels, Spoilt]:
    """Draw, spoil, train, predict."""
    clean, spoilt = write_spoilt(folder)
    folds = train_folds(folder, network)
    return [own.results for own in held_out_results([folder / "runs"], folds)], clean, spoilt


def main() -> None:
    places = sys.argv[1:]
    seeds = range(11, 31)
    if places and places != ["--train"]:
        folds, *runs = places
        held_out = held_out_results(runs, find_folds(folds).values())
        print(rank([own.results for own in held_out], labels_of(held_out), seeds))
        return
    for network in NETWORKS:
        if places:
            with tempfile.TemporaryDirectory() as folder:
                folds, clean, _ = make(Path(folder), network)
            write_asset(asset(network), folds, clean)
        for mistakes in (BOX_MISTAKES, tuple(EXPECTED)):
            print(network, rank(*read_asset(network), seeds, mistakes))


if __name__ == "__main__":
    main()

"""What can be gained after training: box classes and view together, clips, epoch and threshold rules.

python -m docs.recipe.combine runs/recipe/study --average 1 --head 1 --out docs/results/recipe

All of it is scored again from the predictions that the recipe study's trainings keep. Of a detection
of class c with score s in a frame whose view has the probabilities p(v), and of training labels that
give P(c | v), P(v | c) and P(c):

    class from view     s' = s (sum_v p(v) P(c | v) / P(c)) ** a
    view from boxes     p'(v) proportional to p(v) prod_c P(v | c) ** (b s_c), s_c the highest score of c
    clip for views      p'(v) = the mean of p(v) over the clip
    clip for boxes      s' = s (m_c / mean_c m_c) ** a, m_c the mean over the clip of the highest score of c

Strengths a and b are picked on folds 0 and 1 and reported on folds 2 to 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from docs.recipe.measure import data_of, mean_ap, of_head, write_csv
from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig
from utils.core.script import run_script
from utils.core.settings import whole_number
from utils.data.splits import Split, load_split
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.predictions import read_predictions, results_from
from utils.evaluation.results import ImageResult
from utils.evaluation.views import view_metrics

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
PICKED_ON = ("fold0", "fold1")
EPS = 1e-6


@dataclass(frozen=True)
class LabelCounts:
    """How often classes and views occur together in training frames, with one of each added.

    Attributes:
        joint: (classes, views).
    """

    joint: np.ndarray

    @classmethod
    def of(cls, split: Split, data: DataConfig) -> LabelCounts:
        joint = np.ones((len(data.names), len(data.view_names)))
        for labels in split.labels:
            if labels.view < 0:
                continue
            for box_class in np.unique(labels.boxes[:, 0].astype(int)):
                joint[box_class, labels.view] += 1
        return cls(joint)

    @property
    def class_given_view(self) -> np.ndarray:
        return self.joint / self.joint.sum(axis=0)

    @property
    def view_given_class(self) -> np.ndarray:
        return self.joint / self.joint.sum(axis=1, keepdims=True)

    @property
    def class_share(self) -> np.ndarray:
        return self.joint.sum(axis=1) / self.joint.sum()


@dataclass(frozen=True)
class Fold:
    """A training's predictions of its held-out frames, and what its training labels say.

    Attributes:
        by_epoch: the results after every epoch, the last one last.
    """

    name: str
    data: DataConfig
    counts: LabelCounts
    by_epoch: list[list[ImageResult]]

    @property
    def results(self) -> list[ImageResult]:
        return self.by_epoch[-1]


def read_fold(folder: Path, average: str, head: int) -> Fold:
    data = data_of(folder)
    val = load_split(data, "val")
    epochs = len(pd.read_csv(folder / "results.csv"))
    by_epoch = []
    for epoch in range(epochs):
        path = folder / "predictions" / f"epoch{epoch}_{average}.npz"
        results = results_from(read_predictions(path), val, data)
        by_epoch.append([of_head(result, head) for result in results])
    counts = LabelCounts.of(load_split(data, "train"), data)
    return Fold(folder.name.split("-")[0], data, counts, by_epoch)


# ---- what is combined -----------------------------------------------------------------------------


def rescored(result: ImageResult, factors: np.ndarray) -> ImageResult:
    """The result with every detection's score times its class' factor (classes,), sorted again."""
    scores = np.clip(result.scores * factors[result.classes], 0, 1)
    order = np.argsort(-scores, kind="stable")
    return dataclasses.replace(
        result,
        boxes_xyxy=result.boxes_xyxy[order],
        classes=result.classes[order],
        scores=scores[order],
    )


def highest_scores(result: ImageResult, class_count: int) -> np.ndarray:
    """(classes,) the highest score of each class in the frame; 0 where there is none."""
    highest = np.zeros(class_count)
    np.maximum.at(highest, result.classes, result.scores)
    return highest


def class_from_view(fold: Fold, strength: float) -> list[ImageResult]:
    ratios = fold.counts.class_given_view / fold.counts.class_share[:, None]  # (classes, views)
    return [
        rescored(result, (ratios @ result.view_probabilities) ** strength)
        for result in fold.results
    ]


def view_from_boxes(fold: Fold, strength: float) -> list[ImageResult]:
    evidence = np.log(fold.counts.view_given_class)  # (classes, views)
    found = []
    for result in fold.results:
        highest = highest_scores(result, len(fold.data.names))
        logits = np.log(result.view_probabilities + EPS) + strength * highest @ evidence
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        found.append(dataclasses.replace(result, view_probabilities=probabilities))
    return found


def clips_of(fold: Fold) -> dict[str, list[int]]:
    """Clip -> its frames' numbers; a frame of no clip is one by itself."""
    clips: dict[str, list[int]] = {}
    for index, result in enumerate(fold.results):
        clip = fold.data.clip_of(result.image)
        name = clip[0] if clip else result.image
        clips.setdefault(name, []).append(index)
    return clips


def clip_for_views(fold: Fold, strength: float) -> list[ImageResult]:
    """Strength 1 is the clip's mean alone, 0 the frame's own."""
    found = list(fold.results)
    for members in clips_of(fold).values():
        mean = np.mean([fold.results[index].view_probabilities for index in members], axis=0)
        for index in members:
            own = fold.results[index].view_probabilities
            mixed = strength * mean + (1 - strength) * own
            found[index] = dataclasses.replace(fold.results[index], view_probabilities=mixed)
    return found


def clip_for_boxes(fold: Fold, strength: float) -> list[ImageResult]:
    found = list(fold.results)
    for members in clips_of(fold).values():
        highest = [highest_scores(fold.results[index], len(fold.data.names)) for index in members]
        evidence = np.mean(highest, axis=0) + EPS
        factors = (evidence / evidence.mean()) ** strength
        for index in members:
            found[index] = rescored(fold.results[index], factors)
    return found


COMBINATIONS: dict[str, Callable[[Fold, float], list[ImageResult]]] = {
    "class from view": class_from_view,
    "view from boxes": view_from_boxes,
    "clip for views": clip_for_views,
    "clip for boxes": clip_for_boxes,
}


# ---- how good that is -----------------------------------------------------------------------------


def metrics_of(results: Sequence[ImageResult], data: DataConfig) -> dict[str, float]:
    """mAP50, AP30, view accuracy and balanced accuracy."""
    ap = mean_ap(results, len(data.names))
    views = view_metrics(results, data.names, data.view_names)
    return {
        "mAP50": ap[1],
        "AP30": ap[0],
        "view_accuracy": views["accuracy"],
        "view_balanced_accuracy": views["balanced_accuracy"],
    }


def combination_rows(fold: Fold) -> Iterable[dict[str, object]]:
    for name, combine in COMBINATIONS.items():
        for strength in STRENGTHS:
            row = {"fold": fold.name, "combination": name, "strength": strength}
            yield row | metrics_of(combine(fold, strength), fold.data)


def epoch_rows(fold: Fold, seed: int = 0, splits: int = 20) -> Iterable[dict[str, object]]:
    """An epoch rule is picked on half of the patients and scored on the other half, both ways.

    "best" is the epoch with the highest mAP50, "smoothed" that with the highest mean of it and its
    neighbours, "last" the last one.
    """
    owners = np.array([result.group for result in fold.results])
    patients = np.unique(owners)
    generator = np.random.default_rng(seed)
    halves = [generator.permutation(patients)[: len(patients) // 2] for _ in range(splits)]
    in_half = np.array([np.isin(owners, half) for half in halves])  # (splits, frames)
    courses = [_courses(fold, in_half), _courses(fold, ~in_half)]  # (splits, epochs) each
    for number in range(splits):
        for side, other in ((0, 1), (1, 0)):
            picking = courses[side][number]
            scoring = courses[other][number]
            smooth = np.convolve(np.pad(picking, 1, mode="edge"), np.ones(3) / 3, mode="valid")
            row = {"fold": fold.name, "split": number, "side": side}
            yield row | {
                "last": scoring[-1],
                "best": scoring[int(np.argmax(picking))],
                "smoothed": scoring[int(np.argmax(smooth))],
            }


def _courses(fold: Fold, chosen: np.ndarray) -> np.ndarray:
    """(splits, epochs) mAP50 over the frames that are `chosen` (splits, frames)."""
    values = []
    for results in fold.by_epoch:
        evaluation = coco_evaluation(results, len(fold.data.names))
        values.append(resampled_ap(evaluation, chosen.astype(int))[:, 1])
    return np.array(values).T


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """For every combination and strength: means over the folds picked on, and over the others."""
    is_picked_on = rows["fold"].isin(PICKED_ON)
    groups = rows.assign(part=np.where(is_picked_on, "folds 0-1", "folds 2-4"))
    columns = ["mAP50", "AP30", "view_accuracy", "view_balanced_accuracy"]
    return groups.groupby(["combination", "strength", "part"])[columns].mean().round(4)


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("study", type=Path, help="folder of the trainings")
    parser.add_argument("--average", default="ramp", help="of the weights (default: ramp)")
    parser.add_argument(
        "--head", type=whole_number(0), default=0, help="number of the view head (default: 0)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    args = parser.parse_args()
    finished = sorted(path.parent for path in args.study.glob("*-baseline-*/summary.json"))
    combined, epochs = [], []
    for folder in tqdm(finished, unit="fold"):
        fold = read_fold(folder, args.average, args.head)
        combined += combination_rows(fold)
        epochs += epoch_rows(fold)
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "combinations.csv", combined)
    write_csv(args.out / "epoch_rules.csv", epochs)
    print(summary(pd.DataFrame(combined)).to_string())
    print(pd.DataFrame(epochs).groupby("fold")[["last", "best", "smoothed"]].mean().round(4))


if __name__ == "__main__":
    run_script(main)

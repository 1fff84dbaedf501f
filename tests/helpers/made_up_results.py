"""Predictions without a model: made by hand or at random."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.evaluation.results import ImageResult

NAMES = ("AR", "MR", "PR")
VIEWS = ("A4C", "PSAX", "PLAX")


def clip_data(clip_pattern: str, group_pattern: str | None = None) -> DataConfig:
    """A data set of these classes and views, with patterns for names of frames and no split."""
    return DataConfig(
        source=Path("data.yaml"),
        root=Path(),
        splits={},
        names=NAMES,
        view_names=VIEWS,
        group_pattern=group_pattern,
        clip_pattern=clip_pattern,
    )


CLIP_DATA = clip_data(r"^(P\d+_C\d+)_F(\d+)", r"^(P\d+)_")  # of frames called P1_C2_F3.png


def image_result(
    truth=(), found=(), view=-1, probabilities=(), name="a.jpg", group=None
) -> ImageResult:
    """An image of 200 x 100 pixels.

    Args:
        truth: rows of class, x1, y1, x2, y2.
        found: rows of score, class, x1, y1, x2, y2.
        group: the name if None.
    """
    true_rows = np.reshape(truth, (-1, 5)).astype(float)
    rows = np.reshape(found, (-1, 6)).astype(float)
    if group is None:
        group = name
    return ImageResult(
        image=name,
        group=group,
        height=100,
        width=200,
        true_boxes_xyxy=true_rows[:, 1:],
        true_classes=true_rows[:, 0].astype(int),
        true_view=view,
        boxes_xyxy=rows[:, 2:],
        scores=rows[:, 0],
        classes=rows[:, 1].astype(int),
        view_probabilities=np.array(probabilities, float),
    )


def random_results(images: int = 30, groups: int = 10, seed: int = 0) -> list[ImageResult]:
    """Noisy copies of the true boxes among false ones; views right about two times in three."""
    rng = np.random.default_rng(seed)
    results = []
    for index in range(images):
        low = rng.uniform(0, 60, (rng.integers(0, 4), 2))
        true_boxes = np.hstack((low, low + rng.uniform(15, 40, low.shape)))
        true_classes = rng.integers(len(NAMES), size=len(low))
        near = np.repeat(true_boxes, 4, 0) + rng.normal(0, 4, (4 * len(low), 4))
        far = rng.uniform([0, 0, 60, 60], [60, 60, 120, 120], (8, 4))
        classes = np.r_[np.repeat(true_classes, 4), rng.integers(len(NAMES), size=8)]
        scores = np.r_[rng.uniform(0.1, 1, len(near)), rng.uniform(0, 0.6, len(far))]
        order = np.argsort(-scores)
        probabilities = rng.dirichlet(np.ones(len(VIEWS)))
        view = probabilities.argmax()
        if rng.random() >= 0.5:
            view = rng.integers(-1, len(VIEWS))
        found = np.column_stack((scores, classes, np.vstack((near, far))))[order]
        truth = np.column_stack((true_classes, true_boxes))
        name = f"{index}.jpg"
        group = f"p{index % groups}"
        results.append(image_result(truth, found, int(view), probabilities, name, group))
    return results


def without_predictions(result: ImageResult) -> ImageResult:
    return replace(
        result, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), classes=np.zeros(0, int)
    )

"""How well anchors suit the boxes of a training, and anchors fitted to them.

An anchor (a_w, a_h) answers for a box (w, h) if no side is `anchor_t` times as long as the other's, either way. With
the *closeness* of box i and anchor j

    c_ij = min(w_i / a_wj, a_wj / w_i, h_i / a_hj, a_hj / h_i)    in (0, 1],

that is c_ij > 1 / anchor_t, the condition of `utils.loss.match_anchors`. A box that no anchor answers for is never
learnt, so (as in YOLOv5)

    best possible recall      = mean_i [max_j c_ij > 1 / anchor_t]
    anchors above threshold   = mean_i sum_j [c_ij > 1 / anchor_t]
    fitness                   = mean_i max_j c_ij, counting 0 for the boxes that no anchor answers for

`fit_anchors` clusters the boxes by k-means on log w and log h, as what counts are ratios, and then lets the centres
evolve: random changes of their sides by some percent are kept where recall, or at the same recall fitness, rises.
Unlike in YOLOv5 the boxes are taken as they are, without a random scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import nn

from utils.dataloaders import JointDataset
from utils.general import LOGGER
from utils.runs import Run

LOW_RECALL = 0.98  # below which YOLOv5 fits anchors, and we suggest it
SMALLEST_PX = 2.0  # boxes whose sides are both shorter are not fitted to
MOST_BOXES = 20_000  # that anchors are fitted to; more tell them nothing new
GENERATIONS = 1000
CHANGED_SHARE, CHANGE = 0.5, 0.1  # of the anchors' sides in a generation; standard deviation of its logarithm


@dataclass(frozen=True, order=True)
class AnchorFit:
    """How well anchors suit boxes; the greater the better, by recall, then by fitness. See the module's docstring."""

    recall: float
    fitness: float
    above_threshold: float = field(compare=False)

    def __str__(self) -> str:
        return f"best possible recall {self.recall:.4f}, {self.above_threshold:.2f} anchors a box above threshold"


def judge_anchors(wh: np.ndarray, anchors: np.ndarray, anchor_t: float) -> AnchorFit:
    """How well `anchors` (k, 2) suit the boxes `wh` (n, 2), both widths and heights in pixels; n is at least 1."""
    ratio = wh[:, None] / anchors
    closeness = np.minimum(ratio, 1 / ratio).min(axis=2)  # (n, k)
    answers = closeness > 1 / anchor_t
    best, matched = closeness.max(axis=1), answers.any(axis=1)
    return AnchorFit(float(matched.mean()), float((best * matched).mean()), float(answers.sum(axis=1).mean()))


def fit_anchors(wh: np.ndarray, count: int, anchor_t: float, seed: int) -> np.ndarray:
    """(count, 2) float32 pixels, whole tenths, sorted by area, for boxes `wh` (n, 2) of at least `count` sizes.

    The same boxes and seed give the same anchors.
    """
    generator = np.random.default_rng(seed)
    wh = generator.permutation(wh)[:MOST_BOXES]
    anchors = _evolve(wh, _cluster(wh, count, seed), anchor_t, generator)
    # In the precision that a model keeps them in, so that they are judged as they will be.
    return anchors[anchors.prod(axis=1).argsort()].round(1).clip(0.1).astype(np.float32)


def _cluster(wh: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The centres of `count` clusters of the logarithms of (n, 2) sizes, as sizes."""
    cv2.setRNGSeed(seed)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-6)
    _, _, centres = cv2.kmeans(np.log(wh).astype(np.float32), count, None, stop, 10, cv2.KMEANS_PP_CENTERS)
    return np.exp(centres.astype(np.float64))


def _evolve(wh: np.ndarray, anchors: np.ndarray, anchor_t: float, generator: np.random.Generator) -> np.ndarray:
    best = judge_anchors(wh, anchors, anchor_t)
    for _ in range(GENERATIONS):
        change = generator.normal(0, CHANGE, anchors.shape) * (generator.random(anchors.shape) < CHANGED_SHARE)
        candidate = anchors * np.exp(change)
        found = judge_anchors(wh, candidate, anchor_t)
        if found > best:
            anchors, best = candidate, found
    return anchors


def training_sizes(dataset: JointDataset) -> np.ndarray:
    """(n, 2) widths and heights of all boxes, in pixels of the letterboxed frames."""
    pairs = zip(dataset.split.labels, dataset.letterboxes, strict=True)
    return np.concatenate([labels.boxes[:, 3:] * (box.width, box.height) for labels, box in pairs])


def prepare_anchors(detect: nn.Module | None, run: Run, dataset: JointDataset) -> None:
    """Say how well the anchors suit the training boxes and, with --autoanchor, put better ones in their place.

    A resumed run keeps the anchors it has.

    Args:
        detect: with `anchors_px` and `set_anchors_px`, see `models.yolo.Detect`; None: there is nothing to do.
    """
    wh = training_sizes(dataset)
    if detect is None or not len(wh):
        return
    old = detect.anchors_px().view(-1, 2).double().numpy()
    fit = judge_anchors(wh, old, run.hyp.anchor_t)
    about = f"{len(wh)} training boxes at {dataset.image_size} px, threshold {run.hyp.anchor_t:g}"
    LOGGER.info(f"anchors: {fit} ({about})")
    if run.options.autoanchor and not run.resume:
        new = _better_anchors(wh, len(old), run.hyp.anchor_t, run.options.seed, fit)
        if new is not None:
            detect.set_anchors_px(torch.from_numpy(new))
    elif fit.recall < LOW_RECALL:
        lost = 1 - fit.recall
        LOGGER.warning(f"warning: {lost:.1%} of the training boxes are too far from every anchor; try --autoanchor")


def _better_anchors(wh: np.ndarray, count: int, anchor_t: float, seed: int, old: AnchorFit) -> np.ndarray | None:
    """Fitted anchors (count, 2) if they are better than what has the fit `old`; says what was done."""
    large = wh[(wh >= SMALLEST_PX).any(axis=1)]
    if (sizes := len(np.unique(large, axis=0))) < count:
        LOGGER.warning(f"warning: --autoanchor: {sizes} sizes of boxes are too few for {count} anchors; kept")
        return None
    new = fit_anchors(large, count, anchor_t, seed)
    fit = judge_anchors(wh, new, anchor_t)
    if fit <= old:
        LOGGER.info(f"--autoanchor: fitted ones are not better ({fit}); kept as they are")
        return None
    listed = ", ".join(f"{width:g}x{height:g}" for width, height in new)
    LOGGER.info(f"--autoanchor: {fit}, fitness {old.fitness:.3f} -> {fit.fitness:.3f}, with {listed}")
    return new

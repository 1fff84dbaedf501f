"""How well anchors suit the boxes of a training, and anchors fitted to them.

An anchor (a_w, a_h) answers for a box (w, h) if no side is `anchor_t` times as long as the other's,
either way. With the *closeness* of box i and anchor j

    c_ij = min(w_i / a_wj, a_wj / w_i, h_i / a_hj, a_hj / h_i)    in (0, 1],

that is c_ij > 1 / anchor_t, the condition of `utils.losses.targets.match_anchors`. A box that no
anchor answers for is never learnt, so (as in YOLOv5)

    best possible recall      = mean_i [max_j c_ij > 1 / anchor_t]
    anchors above threshold   = mean_i sum_j [c_ij > 1 / anchor_t]
    fitness                   = mean_i max_j c_ij, where a box that no anchor answers for counts 0

`fit_anchors` clusters the boxes by k-means on log w and log h, as what counts are ratios, and then
lets the centres evolve: random changes of their sides by some percent are kept where recall, or at
the same recall fitness, rises. Unlike in YOLOv5 the boxes are taken as they are, without a random
scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

MOST_BOXES = 20_000  # that anchors are fitted to; more tell them nothing new
GENERATIONS = 1000
CHANGED_SHARE = 0.5  # of the anchors' sides, in a generation
CHANGE = 0.1  # standard deviation of the logarithm of a side's change


@dataclass(frozen=True, order=True)
class AnchorFit:
    """How well anchors suit boxes; the greater the better, by recall, then by fitness.

    Attributes:
        recall: the best possible one, see the module's docstring.
        fitness: see there.
        above_threshold: anchors above threshold, see there.
    """

    recall: float
    fitness: float
    above_threshold: float = field(compare=False)

    def __str__(self) -> str:
        return (
            f"best possible recall {self.recall:.4f}, "
            f"{self.above_threshold:.2f} anchors a box above threshold"
        )


def anchor_fit(wh: np.ndarray, anchors: np.ndarray, anchor_t: float) -> AnchorFit:
    """How well anchors suit boxes.

    Args:
        wh: (n, 2) widths and heights of one box or more, in pixels.
        anchors: (k, 2) widths and heights, in pixels.
        anchor_t: the largest ratio of sides at which an anchor answers for a box.
    """
    closeness = np.empty((len(wh), len(anchors)))
    for number, anchor in enumerate(anchors):  # all at once, a million boxes take 0.4 GB
        ratio = wh / anchor
        closeness[:, number] = np.minimum(ratio, 1 / ratio).min(axis=1)
    answers = closeness > 1 / anchor_t  # (n, k)
    best = closeness.max(axis=1)
    matched = answers.any(axis=1)
    return AnchorFit(
        recall=float(matched.mean()),
        fitness=float((best * matched).mean()),
        above_threshold=float(answers.sum(axis=1).mean()),
    )


def fit_anchors(wh: np.ndarray, count: int, anchor_t: float, seed: int) -> np.ndarray:
    """Anchors for boxes: (count, 2) float32 widths and heights in pixels, sorted by area.

    They are whole tenths. The same boxes and seed give the same anchors.

    Args:
        wh: (n, 2) widths and heights in pixels, of at least `count` different sizes.
    """
    generator = np.random.default_rng(seed)
    wh = generator.permutation(wh)[:MOST_BOXES]
    anchors = _evolve(wh, _cluster(wh, count, seed), anchor_t, generator)
    by_area = anchors[anchors.prod(axis=1).argsort()]
    # As a model keeps them, so that their fit is that of the anchors it will have.
    return by_area.round(1).clip(0.1).astype(np.float32)


def _cluster(wh: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The centres of `count` clusters of the logarithms of (n, 2) sizes, as sizes."""
    cv2.setRNGSeed(seed)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-6)
    _, _, centres = cv2.kmeans(
        np.log(wh).astype(np.float32), count, None, stop, 10, cv2.KMEANS_PP_CENTERS
    )
    return np.exp(centres.astype(np.float64))


def _evolve(
    wh: np.ndarray, anchors: np.ndarray, anchor_t: float, generator: np.random.Generator
) -> np.ndarray:
    """Anchors (k, 2) after random changes, of which those that fit better were kept."""
    best = anchor_fit(wh, anchors, anchor_t)
    for _ in range(GENERATIONS):
        change = generator.normal(0, CHANGE, anchors.shape)
        is_changed = generator.random(anchors.shape) < CHANGED_SHARE
        candidate = anchors * np.exp(change * is_changed)
        found = anchor_fit(wh, candidate, anchor_t)
        if found > best:
            anchors = candidate
            best = found
    return anchors

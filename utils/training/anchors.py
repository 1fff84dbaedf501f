"""How well a model's anchors suit the training boxes, and better ones for `--autoanchor`."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from utils.core.script import LOGGER
from utils.data.dataset import JointDataset
from utils.losses.anchors import AnchorFit, anchor_fit, fit_anchors
from utils.training.run import Run

LOW_RECALL = 0.98  # below which YOLOv5 fits anchors, and we suggest it
SMALLEST_PX = 2.0  # boxes whose sides are both shorter are not fitted to


def training_sizes(dataset: JointDataset) -> np.ndarray:
    """(n, 2) widths and heights of all boxes, in pixels of the letterboxed frames."""
    labels = dataset.split.labels
    return labels.boxes[:, 3:] * dataset.scaled_sizes[labels.frames]


def prepare_anchors(detect: nn.Module | None, run: Run, dataset: JointDataset) -> None:
    """Say how well the anchors suit the training boxes; --autoanchor replaces them by better ones.

    A resumed run keeps the anchors it has.

    Args:
        detect: with `anchors_px` and `set_anchors_px`, see `models.yolo.Detect`; None: there is
            nothing to do.
    """
    wh = training_sizes(dataset)
    if detect is None or not len(wh):
        return
    old = detect.anchors_px().view(-1, 2).double().numpy()
    fit = anchor_fit(wh, old, run.hyp.anchor_t)
    about = f"{len(wh)} training boxes at {dataset.image_size} px, threshold {run.hyp.anchor_t:g}"
    LOGGER.info(f"anchors: {fit} ({about})")
    if run.options.autoanchor and not run.resume:
        new = _better_anchors(wh, len(old), run, fit)
        if new is not None:
            detect.set_anchors_px(torch.from_numpy(new))
    elif fit.recall < LOW_RECALL:
        lost = 1 - fit.recall
        LOGGER.warning(
            f"warning: {lost:.1%} of the training boxes are too far from every anchor; "
            "try --autoanchor"
        )


def _better_anchors(wh: np.ndarray, count: int, run: Run, old: AnchorFit) -> np.ndarray | None:
    """Fitted anchors (count, 2) if their fit is better than `old`, else None; says which."""
    large = wh[(wh >= SMALLEST_PX).any(axis=1)]
    sizes = len(np.unique(large, axis=0))
    if sizes < count:
        LOGGER.warning(
            f"warning: --autoanchor: {sizes} sizes of boxes are too few for {count} anchors; kept"
        )
        return None
    new = fit_anchors(large, count, run.hyp.anchor_t, run.options.seed)
    fit = anchor_fit(wh, new, run.hyp.anchor_t)
    if fit <= old:
        LOGGER.info(f"--autoanchor: fitted ones are not better ({fit}); kept as they are")
        return None
    listed = ", ".join(f"{width:g}x{height:g}" for width, height in new)
    fitness = f"fitness {old.fitness:.3f} -> {fit.fitness:.3f}"
    LOGGER.info(f"--autoanchor: {fit}, {fitness}, with {listed}")
    return new

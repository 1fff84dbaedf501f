"""Against imbalance, off by default: how often a training frame is drawn, and how much its view counts in the loss.

Both weigh by inverse frequency: of n frames of K kinds, n_k of kind k, each gets n / (K n_k). All kinds then carry the
same weight, and a frame's is 1 on average, so that an epoch stays as long, and a loss as large, as without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

import torch
from torch import Tensor

from utils.config import DataConfig, HyperParameters
from utils.dataloaders import Split
from utils.general import LOGGER, UserError
from utils.labels import UNKNOWN_VIEW

LISTED = 8  # kinds that are named in the log; of more, the lightest and the heaviest


def inverse_frequencies(kinds: Iterable[Hashable]) -> dict[Hashable, float]:
    """Kind -> its weight."""
    counts = Counter(kinds)
    return {kind: counts.total() / (len(counts) * count) for kind, count in counts.items()}


def sampling_weights(hyp: HyperParameters, data: DataConfig, split: Split) -> Tensor | None:
    """(frames,) how often an epoch draws each frame on average, float64; None: every frame once.

    A frame whose view, or group, is unknown has weight 1: as many of them are drawn as there are.

    Raises:
        UserError: to be balanced over groups that data.yaml does not tell.
    """
    if hyp.sampler == "shuffle":
        return None
    if hyp.sampler == "groups" and not data.group_pattern:
        raise UserError(f"{data.source}: sampler groups needs the key 'group_pattern'; add it, or use another sampler")
    if hyp.sampler == "groups":
        kinds = [group if (group := data.group_of(path)) != str(path) else None for path in split.images]
    else:
        kinds = [data.view_names[labels.view] if labels.view != UNKNOWN_VIEW else None for labels in split.labels]
    weights = inverse_frequencies(kind for kind in kinds if kind is not None)
    LOGGER.info(f"sampler {hyp.sampler}: times that an epoch draws a frame: {_listed(weights)}")
    return torch.tensor([weights.get(kind, 1.0) for kind in kinds], dtype=torch.float64)


def view_loss_weights(hyp: HyperParameters, data: DataConfig, split: Split) -> Tensor | None:
    """(views,) weight of each view's frames in the training's view loss; None: all count the same.

    A view that no training frame shows has weight 1, which nothing uses.
    """
    if hyp.view_loss_weights == "equal":
        return None
    weights = inverse_frequencies(labels.view for labels in split.labels if labels.view != UNKNOWN_VIEW)
    by_view = {name: weights.get(view, 1.0) for view, name in enumerate(data.view_names)}
    LOGGER.info(f"view_loss_weights {hyp.view_loss_weights}: {_listed(by_view)}")
    return torch.tensor(list(by_view.values()))


def _listed(weights: Mapping[str, float]) -> str:
    named = [f"{name} {weight:.2f}" for name, weight in sorted(weights.items(), key=lambda item: item[1])]
    return ", ".join(named) if len(named) <= LISTED else f"{named[0]} to {named[-1]} ({len(named)} in all)"

"""Which frame comes when, and how much it counts: orders of frames, weights against imbalance.

The weights are off by default. They are by inverse frequency: of n frames of K kinds, n_k of kind
k, each gets n / (K n_k). All kinds then carry the same weight, and a frame's is 1 on average, so
that an epoch stays as long, and a loss as large, as without.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.utils.data import Sampler

from utils.core import distributed
from utils.core.data_config import DataConfig
from utils.core.hyperparameters import HyperParameters
from utils.core.script import LOGGER, UserError
from utils.data.dataset import Key
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split


class EpochSampler(Sampler[int]):
    """An order of frames that depends on seed and epoch alone, whatever else draws random numbers.

    Args:
        weights: (length,) float64, adding up to `length`: a frame of weight w comes floor(w) or
            ceil(w) times an epoch, on average w times (systematic sampling). None: a permutation.
    """

    def __init__(self, length: int, seed: int, weights: Tensor | None = None):
        self.length = length
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        if self.weights is not None:
            order = self._draw(order, generator)[torch.randperm(self.length, generator=generator)]
        return iter(order.tolist())

    def _draw(self, order: Tensor, generator: torch.Generator) -> Tensor:
        """Systematic sampling: the frames that whole steps from a random start fall on.

        The frames of `order` lie end to end, each as long as its weight.
        """
        ends = self.weights[order].cumsum(0)
        steps = torch.arange(self.length) + torch.rand(1, generator=generator, dtype=torch.float64)
        return order[torch.searchsorted(ends, steps, right=True).clamp(max=self.length - 1)]


class TrainingBatches(Sampler[list[Key]]):
    """This process's share of an epoch's batches, as keys (epoch, frame).

    Of every batch in the sampler's order, rank r of n takes frames r, r + n, ... A last batch with
    too few frames for some rank is left out.

    Args:
        least_frames: that a rank needs of a batch.

    Raises:
        UserError: the full batches, or the only one, have too few frames.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, least_frames: int = 1):
        self.sampler = sampler
        self.batch_size = batch_size
        ranks = distributed.world_size()
        self.smallest = ranks * least_frames
        found = min(batch_size, len(sampler))
        if found >= self.smallest:
            return
        if found < ranks:
            raise UserError(
                f"--batch-size {batch_size}: {found} frames for {ranks} processes; "
                "start fewer of them"
            )
        raise UserError(
            f"--batch-size {batch_size}: a batch of {found} (of {len(sampler)} training frames), "
            f"expected at least {self.smallest}: at this --imgsz the smallest maps have one cell, "
            f"and batch norm needs {least_frames} values; "
            f"use --batch-size {self.smallest} and as many frames, or a larger --imgsz"
        )

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest >= self.smallest)

    def __iter__(self) -> Iterator[list[Key]]:
        order = list(self.sampler)
        for batch in range(len(self)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            own = whole[distributed.rank() :: distributed.world_size()]
            yield [(self.sampler.epoch, index) for index in own]


class EvaluationBatches(Sampler[list[Key]]):
    """This process's share of the frames as they are, each frame once.

    Rank r of n takes batches r, r + n, ... of the data set's order.
    """

    def __init__(self, length: int, batch_size: int):
        each = math.ceil(batch_size / distributed.world_size())
        batches = []
        for start in range(0, length, each):
            end = min(start + each, length)
            batches.append(list(range(start, end)))
        self.batches = batches[distributed.rank() :: distributed.world_size()]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


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
        raise UserError(
            f"{data.source}: sampler groups needs the key 'group_pattern'; "
            "add it, or use another sampler"
        )
    if hyp.sampler == "groups":
        kinds = data.found_groups(split.images.texts)
    else:
        kinds = [_view_name(data, view) for view in split.labels.views.tolist()]
    if not any(kinds):
        raise UserError(
            f"{data.source}: sampler {hyp.sampler}: no {split.name} frame has any; "
            "use another sampler"
        )
    weights = inverse_frequencies(kind for kind in kinds if kind is not None)
    LOGGER.info(f"sampler {hyp.sampler}: times that an epoch draws a frame: {_listed(weights)}")
    return torch.tensor([weights.get(kind, 1.0) for kind in kinds], dtype=torch.float64)


def _view_name(data: DataConfig, view: int) -> str | None:
    if view == UNKNOWN_VIEW:
        return None
    return data.view_names[view]


def view_loss_weights(hyp: HyperParameters, data: DataConfig, split: Split) -> Tensor | None:
    """(views,) weight of each view's frames in the training's view loss; None: all count the same.

    A view that no training frame shows has weight 1, which nothing uses.
    """
    if hyp.view_loss_weights == "equal":
        return None
    views = split.labels.views
    weights = inverse_frequencies(views[views != UNKNOWN_VIEW].tolist())
    by_view = {name: weights.get(view, 1.0) for view, name in enumerate(data.view_names)}
    LOGGER.info(f"view_loss_weights {hyp.view_loss_weights}: {_listed(by_view)}")
    return torch.tensor(list(by_view.values()))


def _listed(weights: Mapping[str, float]) -> str:
    """The weights in words, the lightest first."""
    ranked = sorted(weights.items(), key=lambda item: item[1])
    named = [f"{name} {weight:.2f}" for name, weight in ranked]
    if len(named) > LISTED:
        return f"{named[0]} to {named[-1]} ({len(named)} in all)"
    return ", ".join(named)

"""Frames and their labels as batches: collating, worker processes, and their order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from utils.core import distributed
from utils.data.dataset import JointDataset
from utils.data.sampling import EpochSampler, EvaluationBatches, TrainingBatches

MOST_WORKERS = 8  # that are started without being asked for, as YOLOv5's


class Targets(TypedDict, total=False):
    """What a batch has where anchors have been matched to its boxes.

    Keys:
        targets: (matches, 11) float32, the rows of all levels; see
            `utils.losses.targets.LevelTargets.rows`.
        target_counts: how many of them are each level's.
    """

    targets: Tensor
    target_counts: list[int]


class Labels(Targets):
    """What the losses read of a batch of B frames.

    Keys:
        views: (B,) int64, -1 where unknown.
    """

    views: Tensor


class Batch(Labels):
    """B frames and their labels, with N boxes.

    Keys:
        images: (B, 3, H, W) uint8 RGB.
        boxes: (N, 6) float32: the frame's place in the batch, class, xc, yc, w, h as fractions of
            the letterboxed image.
        indices: (B,) int64, the frames' numbers in the data set.
        paths: of the B image files.
    """

    images: Tensor
    boxes: Tensor
    indices: Tensor
    paths: list[str]


Match = Callable[[Tensor, int, int], Targets]


def collate(samples: Sequence[tuple] | Exception, match: Match | None = None) -> Batch | Exception:
    """Samples of `JointDataset` -> a batch; an error stays one.

    Args:
        match: boxes, height and width -> the batch's targets. What depends on labels and anchors
            alone is made here, in a worker or while the device computes, so that the device need
            not wait for a mask's count.
    """
    if isinstance(samples, Exception):
        return samples
    indices, frames, boxes, views, paths = zip(*samples, strict=True)
    numbered = [np.insert(rows, 0, place, axis=1) for place, rows in enumerate(boxes)]
    batch = Batch(
        images=torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2),
        boxes=torch.from_numpy(np.concatenate(numbered)),
        views=torch.tensor(views, dtype=torch.int64),
        indices=torch.tensor(indices, dtype=torch.int64),
        paths=list(paths),
    )
    if match is not None:
        height, width = frames[0].shape[:2]
        batch.update(match(batch["boxes"], height, width))
    return batch


class FrameLoader(DataLoader):
    """A loader whose errors are those of the data set.

    What a worker process raises reaches the training as a text with a traceback in it; what it
    returns, as it is.
    """

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            if isinstance(batch, Exception):
                raise batch
            yield batch


def prepare_worker(worker: int) -> None:
    """Let a signal to a run's whole group reach its main process alone.

    Ctrl-C and `timeout` send such a signal. The main process stops cleanly and ends its workers; a
    worker that dies first would be an error.
    """
    if hasattr(os, "setpgrp"):  # not on Windows
        os.setpgrp()
    cv2.setNumThreads(0)  # the workers are what is parallel


def make_loader(
    dataset: JointDataset,
    batch_size: int,
    workers: int,
    pin_memory: bool,
    sampler: EpochSampler | None = None,
    match: Match | None = None,
    least_frames: int = 1,
) -> FrameLoader:
    """Batches for training in the sampler's order, or without one for evaluation, each frame once.

    Args:
        batch_size: images a batch, of all processes together.
        workers: loader processes; -1: as many as this process has cores, at most 8. None for frames
            in memory, unless there is a GPU to keep busy.
        pin_memory: in page-locked memory, for CUDA.
        match: what the anchors have to do with a batch's boxes, see `collate`.
        least_frames: see `TrainingBatches`.
    """
    if workers < 0:
        workers = min((os.cpu_count() or 1) // distributed.processes_here(), MOST_WORKERS)
    if dataset.cached and not pin_memory:
        workers = 0  # where a CPU trains, they would take the cores from it
    if sampler is None:
        batches = EvaluationBatches(len(dataset), batch_size)
    else:
        batches = TrainingBatches(sampler, batch_size, least_frames)
    return FrameLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        collate_fn=partial(collate, match=match),
        worker_init_fn=prepare_worker,
        persistent_workers=workers > 0,
        # Of its own, so that how often an iterator is made does not move the generator that dropout
        # draws from.
        generator=torch.Generator(),
    )

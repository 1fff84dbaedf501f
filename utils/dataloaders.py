"""Frames and their labels as batches: finding files, letterboxing, the cache, collating.

A batch is a dict: `images` (B, 3, H, W) uint8 RGB; `boxes` (N, 6) float32: image index, class, xc, yc, w, h
as fractions of the letterboxed image; `views` (B,) int64, -1 where unknown; `indices`, the frames' numbers in
the data set; `paths`; and where anchors have been matched `targets` and `target_counts`, see
`utils.loss.AnchorMatcher`.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from utils import distributed, phantom
from utils.augment import Augmenter
from utils.config import DataConfig, HyperParameters
from utils.frame_cache import FrameCache
from utils.general import LOGGER, UserError
from utils.labels import FrameLabels, LabelError, read_label_file

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MOST_WORKERS = 8  # that are started without being asked for, as YOLOv5's
STRIDE = 32  # of the coarsest level: an image's sides are multiples of it
PAD_VALUE = 114  # grey of the letterbox's borders, as YOLOv5's
RAM_SHARE = 0.25  # of the free memory that the automatic cache may take
Match = Callable[[Tensor, int, int], dict[str, object]]
Key = int | tuple[int, int]  # a frame as it is; or epoch and frame, which may be augmented
GENERATORS = {"echo_phantom": phantom.generate}


@dataclass(frozen=True)
class Letterbox:
    """How an image of height x width is fitted into a square: scaled by `ratio`, then padded.

    Attributes:
        ratio: letterboxed over original size.
        height, width: of the scaled image, in pixels.
        pad_left, pad_top, pad_right, pad_bottom: in pixels.
    """

    ratio: float
    height: int
    width: int
    pad_left: int
    pad_top: int
    pad_right: int
    pad_bottom: int

    @classmethod
    def fit(cls, height: int, width: int, size: int) -> Letterbox:
        """Fit height x width into size x size with YOLOv5's rounding."""
        ratio = size / max(height, width)
        new_height, new_width = (max(round(side * ratio), 1) for side in (height, width))
        pad_x, pad_y = (size - new_width) / 2, (size - new_height) / 2
        left, top = round(pad_x - 0.1), round(pad_y - 0.1)
        right, bottom = round(pad_x + 0.1), round(pad_y + 0.1)
        return cls(ratio, new_height, new_width, left, top, right, bottom)

    def cropped(self, rows: int, columns: int) -> Letterbox:
        """With so many rows less above and below, and columns left and right."""
        return replace(
            self,
            pad_left=self.pad_left - columns,
            pad_right=self.pad_right - columns,
            pad_top=self.pad_top - rows,
            pad_bottom=self.pad_bottom - rows,
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(height, width, 3) -> (size, size, 3)."""
        if image.shape[:2] != (self.height, self.width):
            method = cv2.INTER_AREA if self.ratio < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, (self.width, self.height), interpolation=method)
        borders = (self.pad_top, self.pad_bottom, self.pad_left, self.pad_right)
        return cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=(PAD_VALUE,) * 3)

    def boxes(self, boxes_xywhn: np.ndarray) -> np.ndarray:
        """(n, 4) fractions of the original image -> fractions of the letterboxed one."""
        scale = np.array([self.width, self.height] * 2)
        shift = np.array([self.pad_left, self.pad_top, 0, 0])
        padded = (self.width + self.pad_left + self.pad_right, self.height + self.pad_top + self.pad_bottom)
        return (boxes_xywhn * scale + shift) / (padded * 2)

    def restore(self, boxes_xyxy: np.ndarray, height: int, width: int) -> np.ndarray:
        """(n, 4) pixels of the letterboxed image -> pixels of the original (`height` x `width`), clipped to it.

        Each axis by its own factor, since the scaled image has whole pixels.
        """
        shift = np.array([self.pad_left, self.pad_top] * 2)
        scale = np.array([width / self.width, height / self.height] * 2)
        return ((boxes_xyxy - shift) * scale).clip(0, [width, height] * 2)


def read_image(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB; any path the file system allows.

    Raises:
        UserError: the file cannot be read or is not an image.
    """
    return decode_image(_read_bytes(path), path)


def decode_image(content: bytes, path: Path) -> np.ndarray:
    """An image file's content -> (height, width, 3) uint8 RGB; `path` is for the error.

    Raises:
        UserError: it is not an image.
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # of a file of 0 bytes
        image = None
    if image is None:
        raise UserError(f"{path}: cannot be read as an image (of {len(content)} bytes); replace or remove it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an image: {error.strerror}") from None


def find_images(entries: Sequence[Path], split: str, source: Path) -> list[Path]:
    """The images of a split's folders (searched to any depth) and .txt lists, sorted within a folder.

    Raises:
        UserError: an entry or a listed image does not exist, or there is no image at all.
    """
    images: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            images += sorted(path for path in _below(entry) if path.suffix.lower() in IMAGE_SUFFIXES)
        elif entry.is_file() and entry.suffix == ".txt":
            images += _read_list(entry)
        else:
            raise UserError(f"{source}: {split}: no folder or .txt list at {entry}; mend the path in the file")
    if not images:
        raise UserError(f"{source}: {split}: no images in {', '.join(map(str, entries))}; expected at least one")
    return images


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, through symbolic links too; where they lead to a folder again, it is passed by."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real_parent := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real_parent)
        folders.sort()
        yield from (Path(parent, name) for name in (*folders, *files))


def _read_list(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; expected an image's path a line") from None
    folder = path.parent.resolve()  # so that a line's leading ".." climbs real folders
    images = [Path(os.path.normpath(folder / line)) for line in lines if line]
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(images)} images do not exist, the first: {missing[0]}")
    return images


def label_path(image: Path, data: DataConfig | None = None) -> Path:
    """Where an image's label file lies, whether or not it exists.

    In `data.labels`, if set, at the image's path below `data.root`; else by YOLOv5's convention: the last folder
    `images` in the path becomes `labels`. The suffix is .txt.

    Raises:
        UserError: `data.labels` is set and the image is not below `data.root`.
    """
    if data is not None and data.labels is not None:
        below_root = Path(os.path.relpath(image, data.root))
        if ".." in below_root.parts:
            raise UserError(f"{data.source}: with 'labels', every image lies below path {data.root}; found {image}")
        return (data.labels / below_root).with_suffix(".txt")
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


@dataclass(frozen=True)
class Split:
    """One split's images and labels, in order."""

    name: str
    images: tuple[Path, ...]
    labels: tuple[FrameLabels, ...]

    def fingerprint(self) -> str:
        """A hash of file names, image sizes in bytes and labels: the same data gives the same string."""
        digest = hashlib.sha256()
        for image, labels in zip(self.images, self.labels, strict=True):
            digest.update(f"{image.name} {image.stat().st_size} {labels.view}".encode())
            digest.update(labels.boxes.tobytes())
        return digest.hexdigest()[:16]


def load_split(data: DataConfig, split: str, skip_bad_labels: bool = False) -> Split:
    """Find a split's images and read every label file.

    Args:
        skip_bad_labels: leave out frames whose label file breaks the format, and say how many.

    Raises:
        UserError: no such split or folder, no label files at all, or bad ones (all of them are named).
    """
    _generate_if_missing(data)
    if split not in data.splits:
        raise UserError(f"{data.source}: no split '{split}'; expected a line '{split}: FOLDER or LIST.txt'")
    images = find_images(data.splits[split], split, data.source)
    kept, labels, errors, missing = [], [], [], 0
    for image in images:
        path = label_path(image, data)
        try:
            found = os.path.lexists(path)  # a link to nowhere is an error, not a frame without labels
            frame = read_label_file(path, len(data.names), len(data.view_names)) if found else FrameLabels()
        except LabelError as error:
            errors.append(str(error))
            continue
        missing += not found
        kept.append(image)
        labels.append(frame)
    _report_labels(split, len(images), missing, errors, label_path(images[0], data), skip_bad_labels)
    return Split(split, tuple(kept), tuple(labels))


def load_splits(data: DataConfig, names: Sequence[str], skip_bad_labels: bool = False) -> list[Split]:
    """`load_split` for several splits; bad labels of all of them end up in one error."""
    splits, errors = [], []
    for name in names:
        try:
            splits.append(load_split(data, name, skip_bad_labels))
        except LabelError as error:
            errors.append(str(error))
    if errors:
        raise LabelError("\n".join(errors))
    return splits


def _generate_if_missing(data: DataConfig) -> None:
    if data.generate is None or data.root.exists():
        return
    if data.generate not in GENERATORS:
        raise UserError(f"{data.source}: generate is '{data.generate}', expected {', '.join(GENERATORS)}")
    LOGGER.info(f"generating {data.generate} in {data.root}")
    GENERATORS[data.generate](data.root)


def _report_labels(
    split: str, total: int, missing: int, errors: list[str], example: Path, skip_bad_labels: bool
) -> None:
    if missing == total:
        raise UserError(f"{split}: none of {total} images has a label file; expected e.g. {example}")
    if missing:
        LOGGER.warning(f"warning: {split}: {missing} of {total} images have no label file: taken as background")
    if not errors:
        return
    listed = "\n  ".join(errors)
    if skip_bad_labels and len(errors) < total:
        LOGGER.warning(f"warning: {split}: {len(errors)} frames with bad labels are left out:\n  {listed}")
    else:
        hint = "mend them, or leave these frames out with --skip-bad-labels"
        raise LabelError(f"{split}: {len(errors)} bad label files ({hint}):\n  {listed}")


class JointDataset(Dataset):
    """Letterboxed frames of a split with their boxes and views.

    `dataset[index]` is a frame as it is; `dataset[epoch, index]` is what `augment` makes of it in that epoch.

    Args:
        split: see `load_split`.
        image_size: side of the letterboxed square, pixels.
        cache: "ram" keeps the letterboxed frames in memory, "disk" in the user's cache folder (`FrameCache`),
            "off" decodes them anew every time, "auto" keeps them in memory if they take less than a quarter of
            what is free.
        rect: cut off the border that no frame of the split needs, so that the sides are multiples of 32 but no longer
            equal: less to compute, where all frames are wider than high.

    Every image is read once when the data set is made, so an unreadable one is found before training.

    Raises:
        UserError: unreadable images, all of them named.
    """

    def __init__(self, split: Split, image_size: int, cache: str = "auto", rect: bool = False):
        self.split, self.image_size = split, image_size
        self.augmenter: Augmenter | None = None
        bytes_needed = len(split.images) * image_size**2 * 3
        self.cached = cache == "ram" or (cache == "auto" and bytes_needed < self._memory_to_take())
        self._disk = FrameCache(image_size) if cache == "disk" else None
        shape = (len(split.images), image_size, image_size, 3)
        self._frames = np.empty(shape, dtype=np.uint8) if self.cached else None
        self.letterboxes = self._decode_all()
        self.margins = self._common_margins() if rect else (0, 0)
        self.letterboxes = tuple(letterbox.cropped(*self.margins) for letterbox in self.letterboxes)
        self._boxes = [
            np.column_stack((labels.boxes[:, :1], letterbox.boxes(labels.boxes[:, 1:]))).astype(np.float32)
            for labels, letterbox in zip(split.labels, self.letterboxes, strict=True)
        ]

    def _memory_to_take(self) -> float:
        return RAM_SHARE * free_memory_bytes() / distributed.processes_here()

    def _common_margins(self) -> tuple[int, int]:
        """Rows above (and as many below) and columns left (and right) that are border in every frame."""
        highest = max(letterbox.height for letterbox in self.letterboxes)
        widest = max(letterbox.width for letterbox in self.letterboxes)
        sides = (math.ceil(side / STRIDE) * STRIDE for side in (highest, widest))
        rows, columns = ((self.image_size - side) // 2 for side in sides)
        return rows, columns

    def _decode_all(self) -> tuple[Letterbox, ...]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = pool.map(self._decode, range(len(self)))
            description = f"{self.split.name}: {'caching' if self.cached or self._disk else 'checking'} images"
            quiet = not distributed.is_main()
            found = list(tqdm(results, description, len(self), unit="img", mininterval=0.5, disable=quiet))
        errors = [result for result in found if isinstance(result, UserError)]
        if errors:
            listed = "\n  ".join(map(str, errors))
            raise UserError(f"{self.split.name}: {len(errors)} images cannot be read:\n  {listed}")
        self.original_sizes = [size for size, _ in found]
        return tuple(letterbox for _, letterbox in found)

    def _decode(self, index: int) -> tuple[tuple[int, int], Letterbox] | UserError:
        try:
            frame, original_size = self._load(self.split.images[index])
        except UserError as error:
            return error
        if self._frames is not None:
            self._frames[index] = frame
        return original_size, Letterbox.fit(*original_size, self.image_size)

    def _load(self, path: Path) -> tuple[np.ndarray, tuple[int, int]]:
        """-> the letterboxed frame, (size, size, 3) uint8 RGB, and the image's own height and width."""
        content = _read_bytes(path)

        def decode() -> tuple[np.ndarray, tuple[int, int]]:
            image = decode_image(content, path)
            return Letterbox.fit(*image.shape[:2], self.image_size).apply(image), image.shape[:2]

        return self._disk.get(content, decode) if self._disk else decode()

    def __len__(self) -> int:
        return len(self.split.images)

    def __getitems__(self, keys: Sequence[Key]) -> list[tuple] | Exception:
        """A batch's samples; or why one of them cannot be had, which `FrameLoader` raises."""
        try:
            return [self[key] for key in keys]
        except (UserError, OSError) as error:
            return error

    def __getitem__(self, key: Key) -> tuple[int, np.ndarray, np.ndarray, int, str]:
        """-> index, (H, W, 3) uint8 RGB, (n, 5) class + xywhn float32, view, path."""
        epoch, index = key if isinstance(key, tuple) else (None, key)
        is_augmented = self.augmenter is not None and epoch is not None
        frame, boxes = self.augmenter(epoch, index) if is_augmented else self.plain(index)
        return index, frame, boxes, self.split.labels[index].view, str(self.split.images[index])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame, pixels."""
        rows, columns = self.margins
        return self.image_size - 2 * rows, self.image_size - 2 * columns

    def plain(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame and boxes as they are."""
        frame = self._frames[index] if self._frames is not None else self._load(self.split.images[index])[0]
        rows, columns = self.margins
        return frame[rows : self.image_size - rows, columns : self.image_size - columns], self._boxes[index]

    def augment(self, hyp: HyperParameters, seed: int) -> None:
        """From now on, augment the frames that are asked for by epoch and index."""
        self.augmenter = Augmenter(hyp, seed, self.plain, [labels.view for labels in self.split.labels])


def free_memory_bytes() -> int:
    """Physical memory not in use; 0 where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def collate(samples: Sequence[tuple] | Exception, match: Match | None = None) -> dict[str, object] | Exception:
    """Samples of `JointDataset` -> a batch, see the module's docstring; an error stays one.

    Args:
        match: boxes, height and width -> further entries of the batch. What depends on labels and anchors alone is
            made here, in a worker or while the device computes, so that the device need not wait for a mask's count.
    """
    if isinstance(samples, Exception):
        return samples
    indices, frames, boxes, views, paths = zip(*samples, strict=True)
    numbered = torch.from_numpy(np.concatenate([np.insert(rows, 0, i, axis=1) for i, rows in enumerate(boxes)]))
    return {
        "images": torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2),
        "boxes": numbered,
        "views": torch.tensor(views, dtype=torch.int64),
        "indices": torch.tensor(indices, dtype=torch.int64),
        "paths": list(paths),
        **(match(numbered, *frames[0].shape[:2]) if match else {}),
    }


class EpochSampler(Sampler[int]):
    """An order of frames that depends on seed and epoch alone, whatever else draws random numbers.

    Args:
        weights: (length,) float64, adding up to `length`: a frame of weight w comes floor(w) or ceil(w) times an
            epoch, on average w times (systematic sampling). None: a permutation.
    """

    def __init__(self, length: int, seed: int, weights: Tensor | None = None):
        self.length, self.seed, self.weights, self.epoch = length, seed, weights, 0

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
        """Lay frames of `order` end to end, each as long as its weight, and take one at every whole step."""
        ends = self.weights[order].cumsum(0)
        steps = torch.arange(self.length) + torch.rand(1, generator=generator, dtype=torch.float64)
        return order[torch.searchsorted(ends, steps, right=True).clamp(max=self.length - 1)]


class TrainingBatches(Sampler[list[Key]]):
    """This process's share of an epoch's batches, as keys (epoch, frame).

    Of every batch in the sampler's order, rank r of n takes frames r, r + n, ... A last batch with fewer frames than
    ranks is left out, as there would be nothing for some of them to do.

    Raises:
        UserError: a batch has fewer frames than there are ranks.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int):
        self.sampler, self.batch_size = sampler, batch_size
        smallest = min(batch_size, len(sampler))
        if smallest < (ranks := distributed.world_size()):
            raise UserError(f"--batch-size {batch_size}: {smallest} frames for {ranks} processes; start fewer of them")

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest >= distributed.world_size())

    def __iter__(self) -> Iterator[list[Key]]:
        keys = [(self.sampler.epoch, index) for index in self.sampler]
        for batch in range(len(self)):
            whole = keys[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield whole[distributed.rank() :: distributed.world_size()]


class EvaluationBatches(Sampler[list[Key]]):
    """This process's share of the frames as they are: every n-th batch of the data set's order, each frame once."""

    def __init__(self, length: int, batch_size: int):
        each = math.ceil(batch_size / distributed.world_size())
        batches = [list(range(start, min(start + each, length))) for start in range(0, length, each)]
        self.batches = batches[distributed.rank() :: distributed.world_size()]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


class FrameLoader(DataLoader):
    """A loader whose errors are those of the data set.

    What a worker process raises reaches the training as a text with a traceback in it; what it returns, as it is.
    """

    def __iter__(self) -> Iterator[dict[str, object]]:
        for batch in super().__iter__():
            if isinstance(batch, Exception):
                raise batch
            yield batch


def prepare_worker(worker: int) -> None:
    """Let a signal to a run's whole group, as Ctrl-C and `timeout` send it, reach its main process alone.

    That one stops cleanly and ends its workers; a worker that dies first would be an error.
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
) -> FrameLoader:
    """Batches for training in the sampler's order, or without one for evaluation, each frame once.

    Args:
        batch_size: images a batch, of all processes together.
        workers: loader processes; -1: as many as this process has cores, at most 8. None for frames in memory, unless
            there is a GPU to keep busy.
        pin_memory: in page-locked memory, for CUDA.
        match: what the anchors have to do with a batch's boxes, see `collate`.
    """
    if workers < 0:
        workers = min((os.cpu_count() or 1) // distributed.processes_here(), MOST_WORKERS)
    if dataset.cached and not pin_memory:
        workers = 0  # where a CPU trains, they would take the cores from it
    batches = TrainingBatches(sampler, batch_size) if sampler else EvaluationBatches(len(dataset), batch_size)
    return FrameLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        collate_fn=partial(collate, match=match),
        worker_init_fn=prepare_worker,
        persistent_workers=workers > 0,
        # Of its own, so that how often an iterator is made does not move the generator that dropout draws from.
        generator=torch.Generator(),
    )

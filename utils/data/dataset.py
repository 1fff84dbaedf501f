"""The frames of a split, letterboxed, cached and perhaps augmented, with their boxes and views."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from utils.core import distributed
from utils.core.hyperparameters import HyperParameters
from utils.core.names import STRIDE
from utils.core.pixels import DEEPEST, fits_few_bits, largest_value, unknown_bits
from utils.core.script import UserError
from utils.core.threads import map_in_threads
from utils.data.augment import Augmenter
from utils.data.frame_cache import CachedFrame, FrameCache
from utils.data.images import Letterbox, decode_image, read_bytes, reduce_depth
from utils.data.splits import Split

RAM_SHARE = 0.25  # of the free memory that the automatic cache may take

Key = int | tuple[int, int]  # a frame as it is; or epoch and frame, which may be augmented


class JointDataset(Dataset):
    """Letterboxed frames of a split with their boxes and views.

    `dataset[index]` is a frame as it is; `dataset[epoch, index]` is what `augment` makes of it in
    that epoch.

    Args:
        split: see `load_split`.
        image_size: side of the letterboxed square, pixels.
        cache: "ram" keeps the letterboxed frames in memory, "disk" in the user's cache folder
            (`FrameCache`), "off" decodes them anew every time, "auto" keeps them in memory if they
            take less than a quarter of what is free.
        rect: cut off the border that no frame of the split needs, so that the sides are multiples
            of 32 but no longer equal: less to compute, where all frames are wider than high.

    Every image is read once when the data set is made, so an unreadable one is found before
    training.

    Attributes:
        bits: taken to be stored in images of 16 bits a channel; None if there are none and nobody
            has said.

    Raises:
        UserError: unreadable images, all of them named; or images of 16 bits a channel of which
            nobody has said how many are stored, and none of which uses them.
    """

    def __init__(self, split: Split, image_size: int, cache: str = "auto", rect: bool = False):
        self.split = split
        self.image_size = image_size
        self.augmenter: Augmenter | None = None
        self.cached = self._keeps_frames(cache)
        self._disk: FrameCache | None = None
        if cache == "disk":
            self._disk = FrameCache(image_size)
        self._frames: np.ndarray | None = None
        if self.cached:
            shape = (len(split.images), image_size, image_size, 3)
            self._frames = np.empty(shape, dtype=np.uint8)
        self.letterboxes = self._decode_all()
        self.margins = (0, 0)
        if rect:
            self.margins = self._common_margins()
        self.letterboxes = tuple(letterbox.cropped(*self.margins) for letterbox in self.letterboxes)
        self._boxes: list[np.ndarray] = []
        for labels, letterbox in zip(split.labels, self.letterboxes, strict=True):
            boxes_xywhn = letterbox.boxes(labels.boxes[:, 1:])
            boxes = np.column_stack((labels.boxes[:, :1], boxes_xywhn))
            self._boxes.append(boxes.astype(np.float32))

    def _keeps_frames(self, cache: str) -> bool:
        """Whether the letterboxed frames are kept in memory."""
        if cache != "auto":
            return cache == "ram"
        bytes_needed = len(self.split.images) * self.image_size**2 * 3
        bytes_to_take = RAM_SHARE * free_memory_bytes() / distributed.processes_here()
        return bytes_needed < bytes_to_take

    def _common_margins(self) -> tuple[int, int]:
        """Rows above and columns left that are border in every frame; as many below and right."""
        highest = max(letterbox.height for letterbox in self.letterboxes)
        widest = max(letterbox.width for letterbox in self.letterboxes)
        return self._margin(highest), self._margin(widest)

    def _margin(self, side: int) -> int:
        """Half of what a side, rounded up to whole strides, leaves of the square; pixels."""
        rounded = math.ceil(side / STRIDE) * STRIDE
        return (self.image_size - rounded) // 2

    def _decode_all(self) -> tuple[Letterbox, ...]:
        verb = "checking"
        if self.cached or self._disk:
            verb = "caching"
        title = f"{self.split.name}: {verb} images"
        is_quiet = not distributed.is_main()
        found = map_in_threads(
            self._decode, range(len(self)), title=title, total=len(self), is_quiet=is_quiet
        )
        errors = [result for result in found if isinstance(result, UserError)]
        if errors:
            listed = "\n  ".join(map(str, errors))
            raise UserError(f"{self.split.name}: {len(errors)} images cannot be read:\n  {listed}")
        self.bits = self._stored_bits([largest for _, largest in found if largest is not None])
        self.original_sizes = [size for size, _ in found]
        return tuple(Letterbox.fit(*size, self.image_size) for size in self.original_sizes)

    def _stored_bits(self, largest: Sequence[int]) -> int | None:
        """How many bits the images of 16 bits a channel are taken to store.

        None if there is no such image and the data set does not say.

        Args:
            largest: those images' largest values.

        Raises:
            UserError: the data set does not say, and the values do not show that all 16 are used.
        """
        if self.split.bits is not None or not largest:
            return self.split.bits
        if fits_few_bits(max(largest)):
            raise UserError(unknown_bits(self.split.name, len(largest), max(largest)))
        return DEEPEST

    def _decode(self, index: int) -> tuple[tuple[int, int], int | None] | UserError:
        """The image's own height and width, and its largest value; or why it cannot be read.

        The value is None for an image of 8 bits a channel.
        """
        try:
            frame = self._load(self.split.images[index])
        except UserError as error:
            return error
        if self._frames is not None:
            self._frames[index] = frame.pixels
        return frame.original_size, frame.largest

    def _load(self, path: Path) -> CachedFrame:
        content = read_bytes(path)
        bits = self.split.bits

        def decode() -> CachedFrame:
            stored = decode_image(content, path)
            height, width = stored.shape[:2]
            letterbox = Letterbox.fit(height, width, self.image_size)
            pixels = letterbox.apply(reduce_depth(stored, bits, path))
            return CachedFrame(pixels, (height, width), largest_value(stored))

        if self._disk is None:
            return decode()
        return self._disk.get(content, bits, decode)

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
        if not isinstance(key, tuple):
            index = key
            frame, boxes = self.plain(index)
        else:
            epoch, index = key
            frame, boxes = self._of_epoch(epoch, index)
        return index, frame, boxes, self.split.labels[index].view, str(self.split.images[index])

    def _of_epoch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame and boxes in an epoch, augmented if that was asked for."""
        if self.augmenter is None:
            return self.plain(index)
        return self.augmenter(epoch, index)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame, pixels."""
        rows, columns = self.margins
        return self.image_size - 2 * rows, self.image_size - 2 * columns

    def plain(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame and boxes as they are.

        Raises:
            UserError: the image cannot be read any more, or has got another size, which its boxes
                do not fit.
        """
        if self._frames is None:
            frame = self._load_again(index)
        else:
            frame = self._frames[index]
        top, left = self.margins
        bottom = self.image_size - top
        right = self.image_size - left
        return frame[top:bottom, left:right], self._boxes[index]

    def _load_again(self, index: int) -> np.ndarray:
        path = self.split.images[index]
        frame = self._load(path)
        if frame.original_size != self.original_sizes[index]:
            height, width = frame.original_size
            old_height, old_width = self.original_sizes[index]
            raise UserError(
                f"{path}: {width}x{height} pixels, expected {old_width}x{old_height} as at the "
                "start; put the image back, or start anew"
            )
        return frame.pixels

    def augment(
        self, hyp: HyperParameters, seed: int, mirrored_classes: Sequence[int] = ()
    ) -> None:
        """From now on, augment the frames that are asked for by epoch and index."""
        views = [labels.view for labels in self.split.labels]
        self.augmenter = Augmenter(hyp, seed, self.plain, views, mirrored_classes)


def free_memory_bytes() -> int:
    """Physical memory not in use; 0 where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0

"""The frames of a split, letterboxed, cached and perhaps augmented, with their boxes and views."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from torch.utils.data import Dataset

from utils.core import distributed
from utils.core.hyperparameters import HyperParameters
from utils.core.lock import FolderInUse
from utils.core.names import STRIDE
from utils.core.pixels import DEEPEST, fits_few_bits, largest_value, unknown_bits
from utils.core.script import UserError
from utils.core.threads import map_in_threads
from utils.data.augment import Augmenter
from utils.data.frame_cache import CachedFrame, FrameCache
from utils.data.frame_index import NO_VALUE
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

    Every image is decoded once when the data set is made, so an unreadable one is found before
    training; but for those that the split's frame index knows, if their pixels are not kept.

    Attributes:
        original_sizes: (F, 2) the images' own height and width, pixels.
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
        self.cached = all(distributed.gathered([self._keeps_frames(cache)]))  # or none does
        self._disk: FrameCache | None = None
        if cache == "disk":
            self._disk = FrameCache(image_size)
        self._frames: np.ndarray | None = None
        if self.cached:
            shape = (len(split.images), image_size, image_size, 3)
            self._frames = np.empty(shape, dtype=np.uint8)
        self._is_checked = np.zeros(len(split.images), bool)
        sizes = self._sizes()
        largest = sizes[:, 2]
        self.bits = self._stored_bits(largest[largest != NO_VALUE].tolist())
        self.original_sizes = sizes[:, :2]
        self._fit(rect)

    def _fit(self, rect: bool) -> None:
        """Letterbox all sizes that occur, and the boxes with them."""
        unique, self._kinds = np.unique(self.original_sizes, axis=0, return_inverse=True)
        letterboxes = [Letterbox.fit(*size, self.image_size) for size in unique.tolist()]
        self.margins = (0, 0)
        if rect:
            self.margins = self._common_margins(letterboxes)
        self._letterboxes = [letterbox.cropped(*self.margins) for letterbox in letterboxes]
        table = self.split.labels
        self._boxes = table.boxes.astype(np.float32)
        kinds = self._kinds[table.frames]  # of every box
        by_kind = np.argsort(kinds, kind="stable")
        ends = np.searchsorted(kinds[by_kind], np.arange(len(unique)), side="right")
        for letterbox, own in zip(self._letterboxes, np.split(by_kind, ends[:-1]), strict=True):
            self._boxes[own, 1:] = letterbox.boxes(table.boxes[own, 1:])

    def _keeps_frames(self, cache: str) -> bool:
        """Whether the letterboxed frames are kept in memory."""
        if cache != "auto":
            return cache == "ram"
        bytes_needed = len(self.split.images) * self.image_size**2 * 3
        bytes_to_take = RAM_SHARE * free_memory_bytes() / distributed.processes_here()
        return bytes_needed < bytes_to_take

    def _common_margins(self, letterboxes: Sequence[Letterbox]) -> tuple[int, int]:
        """Rows above and columns left that are border in every frame; as many below and right."""
        highest = max(letterbox.height for letterbox in letterboxes)
        widest = max(letterbox.width for letterbox in letterboxes)
        return self._margin(highest), self._margin(widest)

    def _margin(self, side: int) -> int:
        """Half of what a side, rounded up to whole strides, leaves of the square; pixels."""
        rounded = math.ceil(side / STRIDE) * STRIDE
        return (self.image_size - rounded) // 2

    def _sizes(self) -> np.ndarray:
        """(F, 3) height and width of every image, and its largest value or `NO_VALUE`."""
        known = self.split.known
        if known is None or self.cached:
            sizes, errors = self._decode_all(range(len(self)))
            self._refuse(errors)
            if known is not None:
                distributed.by_main(partial(self._keep, sizes))
            return sizes
        distributed.by_main(self._complete_index)
        return distributed.from_main(known.sizes[self.split.places])

    def _keep(self, sizes: np.ndarray) -> None:
        """Let the index know what decoding all images has shown, if nobody else is at that."""
        known, places = self.split.known, self.split.places
        if not known.unmeasured[places].any():
            return
        known.set_sizes(places, sizes)
        with contextlib.suppress(FolderInUse), known.file.alone(wait=False):
            known.file.write(known)

    def _complete_index(self) -> None:
        """Decode the images that the index does not know.

        One process does so, others that need the same wait for it.
        """
        known, places = self.split.known, self.split.places
        if not len(self._to_decode()):
            return
        with known.file.alone():
            known.fill_from(known.file.read(known.label_of))
            new = self._to_decode()
            sizes, errors = self._decode_all(new.tolist())
            known.set_sizes(places[new], sizes)
            known.file.write(known)
        self._refuse(errors)

    def _to_decode(self) -> np.ndarray:
        """Numbers of frames whose image the index does not know, or which `bits` contradicts."""
        known, places = self.split.known, self.split.places
        is_wanted = known.unmeasured[places]
        if self.split.bits is not None:
            is_wanted |= known.sizes[places, 2] >> self.split.bits > 0
        return np.flatnonzero(is_wanted)

    def _decode_all(self, numbers: Sequence[int]) -> tuple[np.ndarray, list[UserError]]:
        """`_sizes` of the frames with these numbers, by decoding; zeros where there is an error."""
        verb = "checking"
        if self.cached or self._disk:
            verb = "caching"
        title = f"{self.split.name}: {verb} images"
        is_quiet = not distributed.is_main()
        found = map_in_threads(
            self._decode, numbers, title=title, total=len(numbers), is_quiet=is_quiet
        )
        sizes = np.zeros((len(numbers), 3), np.int64)
        errors = []
        for row, result in zip(sizes, found, strict=True):
            if isinstance(result, UserError):
                errors.append(result)
            else:
                row[:] = result
        return sizes, errors

    def _refuse(self, errors: Sequence[UserError]) -> None:
        if errors:
            listed = "\n  ".join(map(str, errors))
            raise UserError(f"{self.split.name}: {len(errors)} images cannot be read:\n  {listed}")

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

    def _decode(self, index: int) -> tuple[int, int, int] | UserError:
        """A row of `_sizes`; or why the image cannot be read."""
        path = self.split.images[index]
        try:
            if not self.cached and self._disk is None:
                stored = decode_image(read_bytes(path), path)
                reduce_depth(stored, self.split.bits, path)
                return *stored.shape[:2], _value(largest_value(stored))
            frame = self._load(index)
        except UserError as error:
            return error
        if self._frames is not None:
            self._frames[index] = frame.pixels
        return *frame.original_size, _value(frame.largest)

    def _load(self, index: int) -> CachedFrame:
        path = self.split.images[index]
        self._check_trusted(index)
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

    def _check_trusted(self, index: int) -> None:
        """At a frame's first use, see that a trusted index is right."""
        known = self.split.known
        if known is None or not known.is_trusted or self._is_checked[index]:
            return
        known.check(self.split.places[index])
        self._is_checked[index] = True

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
        view = int(self.split.labels.views[index])
        return index, frame, boxes, view, self.split.images.texts[index]

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
        boxes = self._boxes[self.split.labels.slice_of(index)]
        return frame[top:bottom, left:right], boxes

    def _load_again(self, index: int) -> np.ndarray:
        frame = self._load(index)
        expected = tuple(self.original_sizes[index].tolist())
        if frame.original_size != expected:
            height, width = frame.original_size
            old_height, old_width = expected
            raise UserError(
                f"{self.split.images[index]}: {width}x{height} pixels, "
                f"expected {old_width}x{old_height} as at the "
                "start; put the image back, or start anew"
            )
        return frame.pixels

    def letterbox(self, index: int) -> Letterbox:
        return self._letterboxes[self._kinds[index]]

    @property
    def scaled_sizes(self) -> np.ndarray:
        """(F, 2) width and height of the scaled images, pixels."""
        sizes = [(letterbox.width, letterbox.height) for letterbox in self._letterboxes]
        return np.array(sizes)[self._kinds]

    def augment(
        self, hyp: HyperParameters, seed: int, mirrored_classes: Sequence[int] = ()
    ) -> None:
        """From now on, augment the frames that are asked for by epoch and index."""
        views = self.split.labels.views.tolist()
        self.augmenter = Augmenter(hyp, seed, self.plain, views, mirrored_classes)


def _value(largest: int | None) -> int:
    """An image's largest value as a number."""
    if largest is None:
        return NO_VALUE
    return largest


def free_memory_bytes() -> int:
    """Physical memory not in use; 0 where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0

"""The frames of sources, one after the other: several images decoded at once, clips streamed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from utils.core.script import UserError
from utils.core.threads import mapped_ahead
from utils.inference.sources import Frame, Source

DECODERS = min(4, os.cpu_count() or 1)  # threads that decode images
MOST_PIXELS = 64_000_000  # of a batch; three bytes each


class FrameReader:
    """The frames of all sources; what could not be read is left out and noted in `problems`.

    Args:
        bits: stored in images of 16 bits a channel, see `read_image`.

    Raises:
        UserError: at the end, if there was no frame at all.
    """

    def __init__(self, sources: Sequence[Source], bits: int | None = None):
        self.sources = sources
        self.bits = bits
        self.problems: list[str] = []
        self._noted: dict[str, list[Path]] = defaultdict(list)

    def notes(self) -> list[str]:
        """What is to be known of the files read so far, a line each."""
        lines = []
        for note, paths in self._noted.items():
            place = str(paths[0])
            if len(paths) > 1:
                place = f"{len(paths)} files, the first {place}"
            lines.append(f"{place}: {note}")
        return lines

    def __len__(self) -> int:
        """How many frames there should be."""
        return sum(source.count() for source in self.sources)

    def __iter__(self) -> Iterator[Frame]:
        found = False
        begun = mapped_ahead(self._begin, self.sources, DECODERS)
        for source, (frames, problem) in zip(self.sources, begun, strict=True):
            try:
                for note in source.notes():
                    self._noted[note].append(source.path)
                for frame in frames:
                    found = True
                    yield frame
                if problem:
                    raise problem
            except UserError as error:
                self.problems.append(str(error))
        if found:
            return
        lines = list(self.problems)
        if len(self.sources) > 1:
            lines.insert(0, f"none of {len(self.sources)} files can be read:")
        raise UserError("\n  ".join(lines))

    def _begin(self, source: Source) -> tuple[Iterable[Frame], UserError | None]:
        """A source's frames, and what is wrong with it; a clip's are read when they are asked for.

        So several images are decoded at once, and no clip is in memory as a whole.
        """
        if source.is_clip:
            return source.frames(self.bits), None
        try:
            return list(source.frames(self.bits)), None
        except UserError as error:
            return [], error


def in_batches(frames: Iterable[Frame], most: int) -> Generator[list[Frame]]:
    """The frames in lists of `most`, shorter where they are so large that memory would fill."""
    batch = []
    pixels = 0
    for frame in frames:
        batch.append(frame)
        pixels += frame.image.shape[0] * frame.image.shape[1]
        if len(batch) == most or pixels >= MOST_PIXELS:
            yield batch
            batch = []
            pixels = 0
    if batch:
        yield batch

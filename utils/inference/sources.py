"""What a model is given: images, folders, globs and video files, as a stream of frames."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.core.data_config import DataConfig
from utils.core.files import shortened
from utils.core.script import LOGGER, UserError
from utils.core.user_file import is_utf8, real_path, require_regular
from utils.data.images import IMAGE_SUFFIXES, left_out, read_image
from utils.data.splits import below

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True)
class Frame:
    """An image, or a frame of a video.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        path: the file it is from.
        name: what its outputs are called: a relative path without suffix; `clip_12` for the 12th
            frame of `clip.mp4`.
        clip: which clip it belongs to, if any; a video is one, by its name.
        number: in its video, from 1; None for an image.
        rate: frames a second, as stated in its video; 0 for an image.
    """

    image: np.ndarray
    path: Path
    name: Path
    clip: str | None
    number: int | None = None
    rate: float = 0


@dataclass(frozen=True)
class Source:
    """A file: an image or a video.

    Attributes:
        name: its path without suffix, below the folder it was found in.
        clip: see `Frame`.
    """

    path: Path
    name: Path
    clip: str | None

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def count(self) -> int:
        """How many frames it should have; 0 for a video that cannot be read."""
        if not self.is_video:
            return 1
        return frame_count(self.path)

    def frames(self, bits: int | None = None) -> Iterator[Frame]:
        """Its frames in order.

        Args:
            bits: stored in an image of 16 bits a channel, see `read_image`.

        Raises:
            UserError: it cannot be read; or, after its last frame, a video that has fewer than it
                states.
        """
        if self.is_video:
            yield from self._video_frames()
        else:
            yield Frame(read_image(self.path, bits), self.path, self.name, self.clip)

    def _video_frames(self) -> Iterator[Frame]:
        video = _open_video(self.path)
        rate = video.get(cv2.CAP_PROP_FPS)
        expected = _frame_count(video)
        number = 0
        is_read, pixels_bgr = video.read()
        while is_read:
            number += 1
            name = self.name.with_name(f"{self.name.name}_{number}")
            image = cv2.cvtColor(pixels_bgr, cv2.COLOR_BGR2RGB)
            yield Frame(image, self.path, name, self.clip, number, rate)
            is_read, pixels_bgr = video.read()
        if number == 0:
            raise UserError(
                f"{self.path}: cannot be read as a video; "
                "is the file complete, and its codec known here?"
            )
        if number < expected:
            raise UserError(
                f"{self.path}: ends after {number} of {expected} frames; is the file complete?"
            )


def frame_count(path: Path) -> int:
    """How many frames a video states; 0 if it cannot be read."""
    try:
        return _frame_count(_open_video(path))
    except UserError:
        return 0


def _open_video(path: Path) -> cv2.VideoCapture:
    """A video, without OpenCV's messages: this module reports what is wrong with a file.

    Raises:
        UserError: it is no regular file, or has a name that OpenCV cannot take.
    """
    problem = ""
    try:
        require_regular(path)
    except OSError as error:
        problem = error.strerror
    if not is_utf8(path):  # OpenCV crashes
        problem = "its name is not UTF-8; rename it"
    if problem:
        raise UserError(f"{path}: cannot be read as a video: {problem}")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    # Other backends take some names for numbered images.
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    return video


def _frame_count(video: cv2.VideoCapture) -> int:
    return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))


def find_sources(entries: Sequence[str], data: DataConfig | None = None) -> list[Source]:
    """The images and videos of files, folders and globs, each once, sorted within an entry.

    Folders are searched to any depth, symbolic links are followed. What else lies in folders or
    matches a glob is counted by kind in a warning, see `left_out`.

    Args:
        data: its `clip_pattern` finds the clips that images belong to.

    Raises:
        UserError: an entry without any, a file of another kind, two files whose outputs would have
            one name, or no `clip_pattern`.
    """
    if data and data.clip_pattern is None:
        raise UserError(
            f"{data.source}: key 'clip_pattern' is missing, "
            "and --data is read for nothing else here"
        )
    found: dict[Path, Source] = {}
    passed_by: dict[Path, None] = {}
    for entry in entries:
        files, folder = _files_of(entry)
        for path in files:
            if path.suffix.lower() not in SUFFIXES:
                passed_by[path] = None
                continue
            name = _output_name(path.relative_to(folder))
            found.setdefault(real_path(path), Source(path, name, _clip_of(path, name, data)))
    sources = list(found.values())
    _refuse_shared_names(sources)
    _refuse_shared_clips(sources)
    others = left_out(passed_by, SUFFIXES)
    if others:
        LOGGER.warning(f"warning: --source: left out: {others}")
    return sources


def _output_name(path: Path) -> Path:
    """A path without suffix, each part short enough for what is appended to it."""
    return Path(*(shortened(part) for part in path.with_suffix("").parts))


def _clip_of(path: Path, name: Path, data: DataConfig | None) -> str | None:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return name.as_posix()
    if data is None:
        return None
    clip = data.clip_of(path)
    return clip[0] if clip else None


def _files_of(entry: str) -> tuple[list[Path], Path]:
    """An entry's files, and the folder below which they are named.

    The files are of any kind, but some are images or videos.
    """
    path = Path(entry)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: expected an image or a video: {' '.join(sorted(SUFFIXES))}")
        return [path], path.parent
    found = map(Path, _matches(entry))
    if path.is_dir():
        found = below(path)
    files = sorted(found)
    wanted = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not wanted:
        raise _nothing_found(entry, files)
    if path.is_dir():
        return files, path
    return files, Path(os.path.commonpath([file.parent for file in wanted]))


def _matches(pattern: str) -> list[str]:
    """What a glob finds.

    Folders at its beginning that are there are no pattern, whatever they are called. In the rest,
    brackets stand for themselves, or else, where that finds nothing, are a choice.
    """
    folder = next(parent for parent in Path(pattern).parents if parent.exists())
    rest = str(Path(pattern).relative_to(folder))
    for attempt in (rest.replace("[", "[[]"), rest):
        found = glob.glob(os.path.join(glob.escape(str(folder)), attempt), recursive=True)
        if found:
            return found
    return []


def _nothing_found(entry: str, files: Sequence[Path]) -> UserError:
    """The error of an entry without an image or a video among its files."""
    problem = "no such file, folder or match"
    if files or Path(entry).exists():
        problem = "no image or video in it"
    others = left_out(files, SUFFIXES)
    if others:
        problem += f" (left out: {others})"
    expected = f"expected images ({' '.join(sorted(IMAGE_SUFFIXES))}) or videos"
    return UserError(f"--source {entry}: {problem}; {expected}")


def _refuse_shared_names(sources: Sequence[Source]) -> None:
    videos = {source.name for source in sources if source.is_video}
    taken: dict[Path, Source] = {}
    for source in sources:
        name = source.name
        # An image may be called as a frame of a video.
        video = name.with_name(re.sub(r"_\d+$", "", name.name))
        if video in videos and not source.is_video:
            name = video
        other = taken.setdefault(name, source)
        if other is not source:
            raise UserError(
                f"{other.path} and {source.path}: "
                f"their outputs would have the same name, {source.name}; "
                "rename one of them, or give them to separate runs"
            )


def _refuse_shared_clips(sources: Sequence[Source]) -> None:
    """Raise a `UserError` if a video is called as a clip of images.

    Their views would be averaged together.
    """
    videos = {source.clip: source.path for source in sources if source.is_video}
    for source in sources:
        if source.clip in videos and not source.is_video:
            video = videos[source.clip]
            raise UserError(
                f"{source.path} and {video}: both of clip {source.clip}; give them to separate runs"
            )


def refuse_folder_of_sources(
    folder: Path, entries: Sequence[str], sources: Sequence[Source]
) -> None:
    """Raise a `UserError` if the results in `folder` would lie beside the sources."""
    place = real_path(folder)
    searched = []
    for entry in map(Path, entries):
        if entry.is_dir():
            linked = [path for path in below(entry) if path.is_symlink() and path.is_dir()]
            searched += [real_path(path) for path in (entry, *linked)]
    is_searched = any(place.is_relative_to(path) for path in searched)
    if is_searched or any(real_path(source.path).is_relative_to(place) for source in sources):
        raise UserError(
            f"{folder}: results would lie beside what is looked at; "
            "choose another --project or --name"
        )


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

    def __len__(self) -> int:
        """How many frames there should be."""
        return sum(source.count() for source in self.sources)

    def __iter__(self) -> Iterator[Frame]:
        found = False
        for source in self.sources:
            try:
                for frame in source.frames(self.bits):
                    found = True
                    yield frame
            except UserError as error:
                self.problems.append(str(error))
        if found:
            return
        lines = list(self.problems)
        if len(self.sources) > 1:
            lines.insert(0, f"none of {len(self.sources)} files can be read:")
        raise UserError("\n  ".join(lines))

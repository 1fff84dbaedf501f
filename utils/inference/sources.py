"""What a model is given: images, videos, DICOM, in folders and globs, as a stream of frames."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.core.data_config import DataConfig
from utils.core.files import shortened
from utils.core.script import LOGGER, UserError
from utils.core.user_file import is_utf8, real_path, require_regular
from utils.data.dicom import open_dicom
from utils.data.images import IMAGE_SUFFIXES, read_image
from utils.data.pages import gif_frames, gif_times_ms, tiff_pages
from utils.data.splits import below
from utils.inference.kinds import SUFFIXES, Content, Kind, content_of, left_out_by_kind

MS_A_SECOND = 1000


@dataclass(frozen=True)
class Frame:
    """An image, or a frame of a clip.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        path: the file it is from.
        name: what its outputs are called: a relative path without suffix; `clip_12` for the 12th
            frame of `clip.mp4`.
        clip: which clip it belongs to, if any; a file of several frames is one, by its name.
        number: in its file, from 1; None for an image.
        rate: frames a second, as stated in its file; 0 where nothing is stated.
        time_ms: after the file's first frame; None where nothing is stated.
    """

    image: np.ndarray
    path: Path
    name: Path
    clip: str | None
    number: int | None = None
    rate: float = 0
    time_ms: float | None = None


@dataclass(frozen=True)
class Source:
    """A file with one frame or several.

    Attributes:
        name: its path without suffix, below the folder it was found in.
        clip: see `Frame`.
    """

    path: Path
    name: Path
    clip: str | None
    content: Content

    @property
    def is_clip(self) -> bool:
        return self.content.is_clip

    def count(self) -> int:
        """How many frames it should have; 0 for a file that cannot be read."""
        if self.content.kind is Kind.VIDEO:
            return frame_count(self.path)
        return self.content.frames

    def notes(self) -> tuple[str, ...]:
        """What is to be known of a file that can be read, see `DicomClip.warnings`."""
        if self.content.kind is not Kind.DICOM or not self.content.frames:
            return ()
        return open_dicom(self.path).warnings

    def frames(self, bits: int | None = None) -> Iterator[Frame]:
        """Its frames in order.

        Args:
            bits: stored in an image of 16 bits a channel, see `read_image`.

        Raises:
            UserError: it cannot be read; or, after its last frame, it has fewer than it states.
        """
        kind = self.content.kind
        if kind is Kind.VIDEO:
            yield from self._video_frames()
        elif kind is Kind.DICOM:
            clip = open_dicom(self.path)
            yield from self._timed_frames(clip.frames(), clip.frame_times_ms or ())
        elif kind is Kind.GIF:
            yield from self._timed_frames(gif_frames(self.path), gif_times_ms(self.path))
        elif kind is Kind.TIFF:
            yield from self._timed_frames(tiff_pages(self.path, bits), ())
        else:
            yield self._frame(read_image(self.path, bits), 1)

    def _frame(
        self, image: np.ndarray, number: int, rate: float = 0, time_ms: float | None = None
    ) -> Frame:
        """The frame of this number; the only one of a file has none."""
        if not self.is_clip:
            return Frame(image, self.path, self.name, self.clip)
        name = self.name.with_name(f"{self.name.name}_{number}")
        return Frame(image, self.path, name, self.clip, number, rate, time_ms)

    def _timed_frames(
        self, images: Iterable[np.ndarray], times_ms: Sequence[float]
    ) -> Iterator[Frame]:
        """The images as frames; the times may be none or few."""
        rate = 0.0
        if len(times_ms) > 1:
            rate = MS_A_SECOND * (len(times_ms) - 1) / (times_ms[-1] - times_ms[0])
        for number, image in enumerate(images, start=1):
            time_ms = None
            if number <= len(times_ms):
                time_ms = times_ms[number - 1]
            yield self._frame(image, number, rate, time_ms)

    def _video_frames(self) -> Iterator[Frame]:
        video = _open_video(self.path)
        rate = video.get(cv2.CAP_PROP_FPS)
        expected = _frame_count(video)
        number = 0
        is_read, pixels_bgr = video.read()
        while is_read:
            number += 1
            image = cv2.cvtColor(pixels_bgr, cv2.COLOR_BGR2RGB)
            yield self._frame(image, number, rate)
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
    """What can be looked at in files, folders and globs, each once, sorted within an entry.

    Folders are searched to any depth, symbolic links are followed. What else lies in folders or
    matches a glob is counted by kind in a warning, see `left_out_by_kind`.

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
    passed_by: dict[Path, Content] = {}
    for entry in entries:
        contents, folder = _contents_of(entry)
        for path, content in contents.items():
            if content.kind is None:
                passed_by[path] = content
                continue
            name = _output_name(path.relative_to(folder), content)
            clip = _clip_of(path, name, content, data)
            found.setdefault(real_path(path), Source(path, name, clip, content))
    sources = list(found.values())
    _refuse_shared_names(sources)
    _refuse_shared_clips(sources)
    others = left_out_by_kind(passed_by)
    if others:
        LOGGER.warning(f"warning: --source: left out: {others}")
    return sources


def _output_name(path: Path, content: Content) -> Path:
    """A path without suffix, each part short enough for what is appended to it.

    Digits after the last dot, as in the UIDs that DICOM files are called by, are no suffix.
    """
    is_uid = content.kind is Kind.DICOM and path.suffix[1:].isdecimal()
    if not is_uid:
        path = path.with_suffix("")
    return Path(*map(shortened, path.parts))


def _clip_of(path: Path, name: Path, content: Content, data: DataConfig | None) -> str | None:
    if content.is_clip:
        return name.as_posix()
    if data is None:
        return None
    clip = data.clip_of(path)
    return clip[0] if clip else None


def _contents_of(entry: str) -> tuple[dict[Path, Content], Path]:
    """An entry's files with what they hold, and the folder below which they are named.

    Some of them can be looked at.
    """
    path = Path(entry)
    if path.is_file():
        content = content_of(path)
        if content.name:
            raise UserError(f"{path}: is {content.name}; expected a picture or a clip")
        if content.kind is None:
            suffixes = " ".join(sorted(SUFFIXES))
            raise UserError(f"{path}: expected an image or a video ({suffixes}), or DICOM")
        return {path: content}, path.parent
    files = map(Path, _matches(entry))
    if path.is_dir():
        files = below(path)
    contents = {file: content_of(file) for file in sorted(files)}
    wanted = [file for file, content in contents.items() if content.kind]
    if not wanted:
        raise _nothing_found(entry, contents)
    if path.is_dir():
        return contents, path
    return contents, Path(os.path.commonpath([file.parent for file in wanted]))


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


def _nothing_found(entry: str, contents: Mapping[Path, Content]) -> UserError:
    """The error of an entry with nothing to look at among its files."""
    problem = "no such file, folder or match"
    if contents or Path(entry).exists():
        problem = "no image or video in it"
    others = left_out_by_kind(contents)
    if others:
        problem += f" (left out: {others})"
    expected = f"expected images ({' '.join(sorted(IMAGE_SUFFIXES))}), videos or DICOM"
    return UserError(f"--source {entry}: {problem}; {expected}")


def _refuse_shared_names(sources: Sequence[Source]) -> None:
    clips = {source.name for source in sources if source.is_clip}
    taken: dict[Path, Source] = {}
    for source in sources:
        name = source.name
        # An image may be called as a frame of a clip.
        clip = name.with_name(re.sub(r"_\d+$", "", name.name))
        if clip in clips and not source.is_clip:
            name = clip
        other = taken.setdefault(name, source)
        if other is not source:
            raise UserError(
                f"{other.path} and {source.path}: "
                f"their outputs would have the same name, {source.name}; "
                "rename one of them, or give them to separate runs"
            )


def _refuse_shared_clips(sources: Sequence[Source]) -> None:
    """Raise a `UserError` if a file of several frames is called as a clip of images.

    Their views would be averaged together.
    """
    clips = {source.clip: source.path for source in sources if source.is_clip}
    for source in sources:
        if source.clip in clips and not source.is_clip:
            other = clips[source.clip]
            raise UserError(
                f"{source.path} and {other}: both of clip {source.clip}; give them to separate runs"
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

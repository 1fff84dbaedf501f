"""One view for a clip, and the files of a split: lists, a data.yaml, corrected copies of labels.

Nothing here writes into the data set: lists and corrected labels go to a folder of their own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from utils.core.data_config import DataConfig
from utils.core.files import write_bytes
from utils.core.script import UserError
from utils.core.terminal import one_line
from utils.core.title import DEFAULT_TITLE
from utils.data.image_list import list_content, relative_name
from utils.data.labels import UNKNOWN_VIEW, majority_view, view_line
from utils.data.splits import Split, label_path


@dataclass(frozen=True)
class Clip:
    """The frames of a clip that have a label file.

    Attributes:
        frames: their places in the split.
        votes: how many of them show each view.
    """

    name: str
    frames: tuple[int, ...]
    votes: tuple[int, ...]

    @property
    def view(self) -> int:
        """The one that decides the clip, see `majority_view`; -1 where none does."""
        return majority_view(self.votes)

    @property
    def is_mixed(self) -> bool:
        """More than one view is shown."""
        return sum(map(bool, self.votes)) > 1

    @property
    def is_undecided(self) -> bool:
        """More than one view is shown, and none often enough."""
        return self.is_mixed and self.view == UNKNOWN_VIEW


def find_clips(frames: Split, data: DataConfig) -> list[Clip]:
    """The clips that `clip_pattern` finds, sorted by name.

    Raises:
        UserError: the data set has no views, or no clips.
    """
    for key, value in (("cls_names", data.view_names), ("clip_pattern", data.clip_pattern)):
        if not value:
            needed = data.said("one view for a clip needs it")
            raise UserError(f"{data.source}: key '{key}' is missing; {needed}")
    members = defaultdict(list)
    for number, image in enumerate(frames.images):
        clip = data.clip_of(image)
        if clip and label_path(image, data).exists():
            members[clip[0]].append(number)
    if not members:
        raise UserError(
            f"{data.source}: clip_pattern {data.clip_pattern!r} finds a clip in no frame "
            "with a label file"
        )
    clips = []
    for name, numbers in sorted(members.items()):
        seen = Counter(frames.labels[number].view for number in numbers)
        votes = tuple(seen[view] for view in range(len(data.view_names)))
        clips.append(Clip(name, tuple(numbers), votes))
    return clips


def harmonise(frames: Split, clips: Iterable[Clip]) -> Split:
    """The frames with the view of their clip, where that is decided."""
    labels = list(frames.labels)
    for clip in clips:
        if clip.view == UNKNOWN_VIEW:
            continue
        for number in clip.frames:
            labels[number] = replace(labels[number], view=clip.view)
    return replace(frames, labels=tuple(labels))


def replace_view(content: bytes, had_view: bool, view: int, view_count: int) -> bytes:
    """A valid label file's bytes with another view line; all other bytes stay as they are.

    Args:
        had_view: the last non-blank line is a view (see `utils.data.labels`); else a line is added.
    """
    one_hot = view_line(view, view_count)
    # Lines at even places, their ends between.
    parts = re.split(r"(\r\n|\n|\r)", content.decode("utf-8"))
    if had_view:
        not_blank = [place for place in range(0, len(parts), 2) if parts[place].strip()]
        parts[not_blank[-1]] = one_hot
    else:
        if parts[-1]:
            parts.append("\n")
        parts += [one_hot, "\n"]
    return "".join(parts).encode("utf-8")


def write_labels(folder: Path, data: DataConfig, old: Split, new: Split) -> None:
    """Copy the label files of `old` to where `labels: folder` finds them, with the views of `new`.

    Raises:
        UserError: an image lies outside the data set's folder.
    """
    labels = dict(zip(old.images, zip(old.labels, new.labels, strict=True), strict=True))

    def change(image: Path, content: bytes) -> bytes:
        before, after = labels[image]
        if after.view == before.view:
            return content
        had_view = before.view != UNKNOWN_VIEW
        return replace_view(content, had_view, after.view, len(data.view_names))

    copy_labels(folder, data, old.images, change)


def copy_labels(
    folder: Path,
    data: DataConfig,
    images: Sequence[Path],
    change: Callable[[Path, bytes], bytes],
    created: Container[Path] = (),
) -> None:
    """Copy the images' label files to where `labels: folder` finds them.

    Args:
        change: an image and its label file's bytes -> the copy's.
        created: images whose label file is written even where there was none.

    Raises:
        UserError: an image lies outside the data set's folder.
    """
    moved = replace(data, labels=folder)
    # All of them, so that an error comes before the first is written.
    targets = [label_path(image, moved) for image in images]
    sources = [label_path(image, data) for image in images]
    folder.mkdir(parents=True, exist_ok=True)
    for image, source, target in zip(images, sources, targets, strict=True):
        content = b""
        if source.exists():
            content = source.read_bytes()
        elif image not in created:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, change(image, content))


def write_split(
    folder: Path, data: DataConfig, images: Mapping[str, Sequence[Path]], note: str
) -> None:
    """Write NAME.txt with the images of each split, then a data.yaml.

    The data.yaml names the lists, and is as `data` in all else.

    Args:
        note: becomes comments at the top of data.yaml.
    """
    # All of them, so that an error comes before the first is written.
    lists = {name: list_content(paths, folder) for name, paths in images.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in lists.items():
        write_bytes(folder / f"{name}.txt", content)
    content = {"path": relative_name(data.root, folder)}
    content |= {name: relative_name(folder / f"{name}.txt", data.root) for name in images}
    content |= {
        "labels": data.labels and relative_name(data.labels, folder),
        "nc": len(data.names),
        "names": list(data.names),
        "cls_names": list(data.view_names) or None,
        "group_pattern": data.group_pattern,
        "clip_pattern": data.clip_pattern,
        "generate": data.generate,
        "bits": data.bits,
        "needs_colour": data.needs_colour or None,
    }
    if data.cls_title != DEFAULT_TITLE:
        content["cls_title"] = data.cls_title
    if data.flip_pairs:
        content["flip_pairs"] = [list(pair) for pair in data.flip_pairs]
    content = {key: value for key, value in content.items() if value is not None}
    text = "".join(f"# {one_line(line)}\n" for line in note.splitlines())
    text += yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_bytes(folder / "data.yaml", text.encode("utf-8", "backslashreplace"))

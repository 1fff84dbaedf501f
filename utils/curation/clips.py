"""One view for a clip, and the files of a split: lists of images, a data.yaml, corrected copies of labels.

Nothing here writes into the data set: lists and corrected labels go to a folder of their own.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from utils.core.data_config import DataConfig
from utils.core.script import UserError
from utils.data.labels import UNKNOWN_VIEW, majority_view, view_line
from utils.data.splits import Split, label_path


@dataclass(frozen=True)
class Clip:
    """A clip's frames that have a label file (their numbers), and how many of them show each view."""

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
            raise UserError(f"{data.source}: key '{key}' is missing; one view for a clip needs it")
    members = defaultdict(list)
    for number, image in enumerate(frames.images):
        clip = data.clip_of(image)
        if clip and label_path(image, data).exists():
            members[clip[0]].append(number)
    if not members:
        raise UserError(
            f"{data.source}: clip_pattern {data.clip_pattern!r} finds a clip in no frame with a label file"
        )
    seen = {
        name: [frames.labels[number].view for number in numbers]
        for name, numbers in members.items()
    }
    views = range(len(data.view_names))
    return [
        Clip(name, tuple(members[name]), tuple(map(seen[name].count, views)))
        for name in sorted(members)
    ]


def harmonise(frames: Split, clips: Iterable[Clip]) -> Split:
    """The frames with the view of their clip, where that is decided."""
    decided = {
        number: clip.view for clip in clips if clip.view != UNKNOWN_VIEW for number in clip.frames
    }
    labels = [
        replace(old, view=decided.get(number, old.view)) for number, old in enumerate(frames.labels)
    ]
    return replace(frames, labels=tuple(labels))


def replace_view(content: bytes, had_view: bool, view: int, view_count: int) -> bytes:
    """A valid label file's bytes with another view line; every other line stays as it is, byte for byte.

    Args:
        had_view: the last non-blank line is a view (see `utils.data.labels`); else a line is added.
    """
    parts = re.split(
        r"(\r\n|\n|\r)", content.decode("utf-8")
    )  # lines at even places, their ends between
    one_hot = view_line(view, view_count)
    if had_view:
        parts[max(place for place in range(0, len(parts), 2) if parts[place].strip())] = one_hot
    else:
        parts += ["\n" if parts[-1] else "", one_hot, "\n"]
    return "".join(parts).encode("utf-8")


def write_labels(folder: Path, data: DataConfig, old: Split, new: Split) -> None:
    """Copy the label files of `old` to where `labels: folder` looks for them, with the views of `new`.

    Raises:
        UserError: an image lies outside the data set's folder.
    """
    moved = replace(data, labels=folder)
    targets = [
        label_path(image, moved) for image in old.images
    ]  # all of them, or an error before the first is made
    folder.mkdir(parents=True, exist_ok=True)
    for image, target, before, after in zip(
        old.images, targets, old.labels, new.labels, strict=True
    ):
        source = label_path(image, data)
        if not source.exists():
            continue
        content = source.read_bytes()
        if after.view != before.view:
            content = replace_view(
                content, before.view != UNKNOWN_VIEW, after.view, len(data.view_names)
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def write_split(
    folder: Path, data: DataConfig, images: Mapping[str, Sequence[Path]], note: str
) -> None:
    """Write NAME.txt with the images of each split and, last, a data.yaml that names the lists and repeats `data`.

    Args:
        note: becomes comments at its top.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, paths in images.items():
        lines = [f"{_relative(path, folder)}\n" for path in paths]
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    content = {
        "path": _relative(data.root, folder),
        **{name: _relative(folder / f"{name}.txt", data.root) for name in images},
        "labels": data.labels and _relative(data.labels, folder),
        "nc": len(data.names),
        "names": list(data.names),
        "cls_names": list(data.view_names) or None,
        "group_pattern": data.group_pattern,
        "clip_pattern": data.clip_pattern,
        "generate": data.generate,
        "bits": data.bits,
    }
    content = {key: value for key, value in content.items() if value is not None}
    text = "".join(f"# {line}\n" for line in note.splitlines())
    text += yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of a Windows machine
        return path.as_posix()

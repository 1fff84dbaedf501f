"""A `data.yaml` as a frozen dataclass: a data set's frames, classes, views, patients and clips."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import Match

from utils.core.files import find_file
from utils.core.flips import mirrored, read_flip_pairs, sided
from utils.core.patterns import check_pattern, search, search_all
from utils.core.script import LOGGER, UserError, errors_in
from utils.core.terminal import one_line
from utils.core.title import DEFAULT_TITLE, read_title, titled
from utils.core.user_file import is_utf8, real_path
from utils.core.values import did_you_mean, not_text
from utils.core.yaml_reader import read_yaml_mapping


@dataclass(frozen=True)
class DataConfig:
    """A data.yaml with its paths resolved.

    Attributes:
        source: the YAML file.
        splits: "train", "val" and perhaps "test" -> folders of images or .txt lists of images.
        names: box classes, by class number; empty if the data has no boxes.
        view_names: the one-hot columns of the view line, in order; empty if the data has no views.
        group_pattern: regular expression on the file name; its first group must not cross splits.
        clip_pattern: regular expression on the file name; its groups are the clip and the frame
            number.
        generate: the generator that makes the data on first use, or None.
        root: the data set's folder.
        labels: folder of label files that mirrors `root` (the label of root/a/b.jpg is
            labels/a/b.txt), or None where labels lie beside the images by YOLOv5's convention; see
            `utils.data.splits.label_path`.
        bits: stored in images of 16 bits a channel, 8 to 16, see `utils.core.pixels`; None if the
            file has no such key.
        needs_colour: frames without flow colour are not scored, see `utils.data.flow_colour`.
        cls_title: what a user calls a view, see `utils.core.title`.
        flip_pairs: box classes that a mirror image swaps, see `utils.core.flips`.
    """

    source: Path
    root: Path
    splits: dict[str, tuple[Path, ...]]
    names: tuple[str, ...]
    view_names: tuple[str, ...] = ()
    group_pattern: str | None = None
    clip_pattern: str | None = None
    generate: str | None = None
    labels: Path | None = None
    bits: int | None = None
    needs_colour: bool = False
    cls_title: str = DEFAULT_TITLE
    flip_pairs: tuple[tuple[str, str], ...] = ()

    def said(self, text: str) -> str:
        """Our words, with what this data set calls a view; see `titled`."""
        return titled(text, self.cls_title)

    @property
    def mirrored_classes(self) -> tuple[int, ...]:
        """What every box class, by its number, is in a mirror image."""
        return mirrored(self.names, self.flip_pairs)

    @property
    def unpaired_sides(self) -> list[str]:
        """Names that say left or right, and stay as they are in a mirror image."""
        paired = {name for pair in self.flip_pairs for name in pair}
        return [name for name in sided((*self.names, *self.view_names)) if name not in paired]

    def lacks(self, task: str) -> str:
        """What `task` needs and the data.yaml does not name; empty if nothing."""
        if task == "detection" and not self.names:
            return "names is empty; expected the box classes, by their numbers"
        if task == "classification" and not self.view_names:
            expected = self.said("expected the views, in the columns' order")
            return f"key 'cls_names' is missing; {expected}"
        return ""

    def group_of(self, path: str | Path) -> str:
        """The patient (or what the pattern names) of an image; the image itself if it has none."""
        return self.found_group(path) or str(path)

    def found_group(self, path: str | Path) -> str | None:
        """The pattern's first group in an image's name; None where it is absent or empty."""
        return _first_group(_search(self.group_pattern, path))

    def found_groups(self, paths: Iterable[str]) -> list[str | None]:
        """`found_group` of many images."""
        return [_first_group(match) for match in _search_all(self.group_pattern, paths)]

    def found_clips(self, paths: Iterable[str]) -> list[str | None]:
        """The clips of many images, see `clip_of`."""
        return [_first_group(match) for match in _search_all(self.clip_pattern, paths)]

    def clip_of(self, path: str | Path) -> tuple[str, int] | None:
        """A frame's clip and its number there; None where the pattern finds no clip.

        The number is 0 where the pattern finds none.
        """
        match = _search(self.clip_pattern, path)
        if match is None or not match.group(1):
            return None
        number = match.group(2) or ""
        if not number.isdecimal():
            number = "0"
        return match.group(1), int(number)

    def settings(self) -> dict[str, object]:
        """What a model and its metrics depend on besides the frames: key in the file -> value."""
        return {
            "names": list(self.names),
            "cls_names": list(self.view_names),
            "group_pattern": self.group_pattern,
            "clip_pattern": self.clip_pattern,
            "bits": self.bits,
            "needs_colour": self.needs_colour,
            "cls_title": self.cls_title,
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
        }

    def difference(self, before: Mapping[str, object]) -> str:
        """The first of the `settings` that differs from `before`, in words; "" if there is none."""
        for key, value in self.settings().items():
            if key in before and before[key] != value:
                return f"{key} is {value!r}, expected {before[key]!r}"
        return ""


def _search(pattern: str | None, path: str | Path) -> Match | None:
    """The first match of a pattern, where there is one, in a file's name."""
    if not pattern:
        return None
    return search(pattern, Path(path).name)


def _search_all(pattern: str | None, paths: Iterable[str]) -> Iterable[Match | None]:
    """`_search` of many files' names."""
    names = list(map(os.path.basename, paths))
    if not pattern:
        return [None] * len(names)
    return search_all(pattern, names)


def _first_group(match: Match | None) -> str | None:
    """None also of an empty one."""
    if match is None:
        return None
    return match.group(1) or None


STORED_BITS = range(8, 17)  # that images of 16 bits a channel can hold
DATA_KEYS = (
    "path",
    "train",
    "val",
    "test",
    "labels",
    "nc",
    "names",
    "cls_names",
    "group_pattern",
    "clip_pattern",
    "generate",
    "bits",
    "needs_colour",
    "cls_title",
    "flip_pairs",
)


def load_data_config(path: str | Path) -> DataConfig:
    """Read a data.yaml; unknown keys are warned about.

    Raises:
        UserError: missing file or keys, what YAML did not read as text, names that do not fit nc, a
            pattern that is not one.
    """
    path = find_file(path)
    content = read_yaml_mapping(path, "--data takes a data.yaml, e.g. data/echo_phantom.yaml")
    for key in content.keys() - set(DATA_KEYS):
        LOGGER.warning(
            f"warning: {path}: unknown key '{key}' is ignored{did_you_mean(key, DATA_KEYS)}"
        )
    _refuse_missing(content, path)
    for key in ("path", "labels", "generate"):
        problem = not_text(content[key]) if _is_given(content, key) else ""
        if problem:
            raise UserError(f"{path}: {key} {problem}")
    names = _names(content["names"], "names", path)
    _check_nc(content, names, path)
    with errors_in(path):
        cls_title = read_title(content.get("cls_title"))
        flip_pairs = read_flip_pairs(content.get("flip_pairs"), names)
    root = real_path(path.parent / (content.get("path") or "."))
    labels = None
    if content.get("labels"):
        labels = real_path(path.parent / content["labels"])
    return DataConfig(
        source=path,
        root=root,
        splits=_splits(content, root, path),
        names=names,
        view_names=_view_names(content.get("cls_names"), path),
        group_pattern=_pattern(content, "group_pattern", 1, path),
        clip_pattern=_pattern(content, "clip_pattern", 2, path),
        generate=content.get("generate"),
        labels=labels,
        bits=_bits(content.get("bits"), path),
        needs_colour=_needs_colour(content.get("needs_colour"), path),
        cls_title=cls_title,
        flip_pairs=flip_pairs,
    )


def _refuse_missing(content: Mapping, path: Path) -> None:
    """Raise a `UserError` for a key that every data.yaml needs."""
    for key in ("train", "val", "names"):
        if content.get(key) is not None:
            continue
        hint = ""
        if key == "names":
            hint = "; names: [] if the data have no boxes"
        raise UserError(
            f"{path}: key '{key}' is missing; a data.yaml needs train, val and names{hint}"
        )


def _is_given(content: Mapping, key: str) -> bool:
    """Whether a key that may be left out, or left without a value, has one."""
    return content.get(key) not in (None, "")


def _splits(content: Mapping, root: Path, path: Path) -> dict[str, tuple[Path, ...]]:
    """Name of each split -> its folders and lists; "test" may be left out."""
    splits = {}
    for split in ("train", "val", "test"):
        if split == "test" and content.get(split) in (None, "", []):
            continue
        entries = _entries(content[split], split, path)
        splits[split] = tuple(_place(entry, split, root, path) for entry in entries)
    return splits


def _place(entry: str, split: str, root: Path, path: Path) -> Path:
    """The folder or list of a split.

    Exports of Roboflow say `../train/images` for what lies beside the file; as in YOLOv5, `../` is
    left out where that leads to something and the path as it stands does not.
    """
    place = Path(os.path.normpath(root / entry))
    inside = Path(os.path.normpath(root / entry.removeprefix("../")))
    if place.exists() or not inside.exists():
        return place
    LOGGER.warning(f"warning: {path}: {split}: there is no {entry}, so {inside} is taken")
    return inside


def _bits(value: object, path: Path) -> int | None:
    if value is not None and (type(value) is not int or value not in STORED_BITS):
        limits = f"{STORED_BITS.start} to {STORED_BITS.stop - 1}"
        raise UserError(f"{path}: bits is {value!r}, expected a whole number from {limits}, as 12")
    return value


def _needs_colour(value: object, path: Path) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise UserError(f"{path}: needs_colour is {value!r}, expected true or false")
    return value


def _names(value: object, key: str, path: Path) -> tuple[str, ...]:
    if isinstance(value, dict):
        numbers = list(value)
        are_whole = all(type(number) is int for number in numbers)
        if not are_whole or set(numbers) != set(range(len(numbers))):
            raise UserError(
                f"{path}: {key} has numbers {numbers}, expected 0 to {len(numbers) - 1}"
            )
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list | tuple):
        raise UserError(f"{path}: {key} is {value!r}, expected a list of names")
    _refuse_other_than_text(value, key, path)
    for name in value:
        if not is_utf8(name):
            raise UserError(f"{path}: {key}: '{one_line(name)}' is not UTF-8; write it anew")
    if len(set(value)) != len(value):
        raise UserError(f"{path}: {key} repeats a name: {list(value)}; every name must differ")
    return tuple(value)


def _view_names(value: object, path: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    names = _names(value, "cls_names", path)
    if len(names) < 2:
        raise UserError(
            f"{path}: cls_names is {list(names)}, expected at least two names, one a column; "
            "leave the key out if no image has such a label"
        )
    return names


def _check_nc(content: Mapping, names: Sequence[str], path: Path) -> None:
    nc = content.get("nc", len(names))
    if type(nc) is not int:
        kind = "text" if isinstance(nc, str) else type(nc).__name__
        raise UserError(
            f"{path}: nc is {nc} ({kind}), expected {len(names)}, a whole number without quotes"
        )
    if nc != len(names):
        raise UserError(f"{path}: nc is {nc} but names lists {len(names)}; make them agree")


def _entries(value: object, key: str, path: Path) -> list[str]:
    """The folders and lists of a split."""
    if isinstance(value, dict):
        raise UserError(
            f"{path}: {key} is {value!r}, expected a folder or .txt list, or several in a list"
        )
    if value in ("", []):
        raise UserError(
            f"{path}: {key} is {value!r}, "
            "expected a folder or .txt list of images, or several in a list"
        )
    if not isinstance(value, list):
        problem = not_text(value)
        if problem:
            raise UserError(f"{path}: {key} {problem}")
        return [value]
    _refuse_other_than_text(value, key, path)
    return value


def _refuse_other_than_text(values: Sequence[object], key: str, path: Path) -> None:
    for number, value in enumerate(values, start=1):
        problem = not_text(value)
        if problem:
            raise UserError(f"{path}: {key}: entry {number} {problem}")


def _pattern(content: Mapping, key: str, groups: int, path: Path) -> str | None:
    pattern = content.get(key)
    if pattern is None:
        return None
    if not isinstance(pattern, str):
        raise UserError(
            f"{path}: {key} {pattern!r} is not a regular expression "
            f"but {type(pattern).__name__}; put it in quotes"
        )
    try:
        check_pattern(pattern, groups)
    except UserError as error:
        raise UserError(f"{path}: {key} {error}") from None
    return pattern

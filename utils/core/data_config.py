"""A `data.yaml` as a frozen dataclass: which frames, classes, views, patients and clips a data set has."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from utils.core.files import find_file
from utils.core.script import LOGGER, UserError
from utils.core.values import did_you_mean, read_yaml_mapping


@dataclass(frozen=True)
class DataConfig:
    """A data.yaml with its paths resolved.

    Attributes:
        source: the YAML file.
        splits: "train", "val" and perhaps "test" -> folders of images or .txt lists of images.
        names: box classes, by class number.
        view_names: the one-hot columns of the view line, in order; empty if the data has no views.
        group_pattern: regular expression on the file name; its first group must not cross splits.
        clip_pattern: regular expression on the file name; its groups are the clip and the frame number.
        generate: the generator that makes the data on first use, or None.
        root: the data set's folder.
        labels: folder of label files that mirrors `root` (the label of root/a/b.jpg is labels/a/b.txt), or None
            where labels lie beside the images by YOLOv5's convention; see `utils.data.splits.label_path`.
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

    def group_of(self, path: str | Path) -> str:
        """The patient (or whatever the pattern names) of an image; the image itself where it names none."""
        match = re.search(self.group_pattern, Path(path).name) if self.group_pattern else None
        return match.group(1) if match else str(path)

    def clip_of(self, path: str | Path) -> tuple[str, int] | None:
        """A frame's clip and its number there (0 where the pattern finds no number); None where it finds no clip."""
        match = re.search(self.clip_pattern, Path(path).name) if self.clip_pattern else None
        if not match or not match.group(1):
            return None
        number = match.group(2) or ""
        return match.group(1), int(number) if number.isdecimal() else 0

    def facts(self) -> dict[str, object]:
        """What a model, or its figures, depend on besides the frames; by its key in the file, as plain values."""
        return {
            "names": list(self.names),
            "cls_names": list(self.view_names),
            "group_pattern": self.group_pattern,
            "clip_pattern": self.clip_pattern,
        }

    def difference(self, before: Mapping[str, object]) -> str:
        """The first of the `facts` that has another value in `before`, in words; "" if there is none."""
        for key, value in self.facts().items():
            if key in before and before[key] != value:
                return f"{key} is {value!r}, expected {before[key]!r}"
        return ""


DATA_KEYS = (
    *("path", "train", "val", "test", "labels", "nc", "names", "cls_names"),
    *("group_pattern", "clip_pattern", "generate"),
)


def load_data_config(path: str | Path) -> DataConfig:
    """Read a data.yaml; unknown keys are warned about.

    Raises:
        UserError: missing file or keys, names that do not fit nc, a pattern that is not one.
    """
    path = find_file(path)
    content = read_yaml_mapping(path, "--data takes a data.yaml, e.g. data/echo_phantom.yaml")
    for key in content.keys() - set(DATA_KEYS):
        LOGGER.warning(f"warning: {path}: unknown key '{key}' is ignored{did_you_mean(key, DATA_KEYS)}")
    for key in ("train", "val", "names"):
        if content.get(key) is None:
            raise UserError(f"{path}: key '{key}' is missing; a data.yaml needs train, val and names")
    for key in ("path", "labels", "generate"):
        if not isinstance(content.get(key), str | None):
            raise UserError(f"{path}: {key} is {content[key]!r}, expected text")
    names = _names(content["names"], "names", path)
    if content.get("nc", len(names)) != len(names):
        raise UserError(f"{path}: nc is {content['nc']} but names lists {len(names)}; make them agree")
    root = (path.parent / (content.get("path") or ".")).resolve()
    splits = {
        split: tuple(Path(os.path.normpath(root / entry)) for entry in _strings(content[split], split, path))
        for split in ("train", "val", "test")
        if content.get(split)
    }
    return DataConfig(
        source=path,
        root=root,
        splits=splits,
        names=names,
        view_names=_names(content.get("cls_names") or (), "cls_names", path),
        group_pattern=_pattern(content, "group_pattern", 1, path),
        clip_pattern=_pattern(content, "clip_pattern", 2, path),
        generate=content.get("generate"),
        labels=(path.parent / content["labels"]).resolve() if content.get("labels") else None,
    )


def _names(value: object, key: str, path: Path) -> tuple[str, ...]:
    if isinstance(value, dict):
        if set(value) != set(range(len(value))):
            raise UserError(f"{path}: {key} has numbers {list(value)}, expected 0 to {len(value) - 1}")
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list | tuple):
        raise UserError(f"{path}: {key} is {value!r}, expected a list of names")
    names = tuple(str(name) for name in value)
    if len(set(names)) != len(names):
        raise UserError(f"{path}: {key} repeats a name: {list(names)}; every name must differ")
    return names


def _strings(value: object, key: str, path: Path) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"{path}: {key} is {value!r}, expected a folder or .txt list, or several in a list")
    return entries


def _pattern(content: Mapping, key: str, groups: int, path: Path) -> str | None:
    pattern = content.get(key)
    if pattern is None:
        return None
    try:
        found = re.compile(pattern).groups
    except (re.error, TypeError) as error:
        raise UserError(f"{path}: {key} {pattern!r} is not a regular expression: {error}") from None
    if found < groups:
        raise UserError(f"{path}: {key} {pattern!r} has {found} groups in parentheses, expected {groups}")
    return pattern

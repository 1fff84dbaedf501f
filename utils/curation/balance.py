"""Splits that keep a patient's frames together and the classes and views balanced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.script import UserError
from utils.data.splits import Split

TRIES, PLACES = 1000, 300_000  # assignments tried: TRIES, or fewer where groups x parts of all tries were more
MAX_MOVES = 300  # improvements of one assignment
VANISHED = 1e3  # cost of a class or view without a frame in a part; above any imbalance worth having


def merge(splits: Iterable[Split]) -> Split:
    """The frames of all splits, each once, sorted by path."""
    labels = {image: found for split in splits for image, found in zip(split.images, split.labels, strict=True)}
    images = sorted(labels)
    return Split("all", tuple(images), tuple(labels[image] for image in images))


@dataclass(frozen=True)
class Content:
    """What is counted: frames by their group (rows) and by what they hold (columns).

    Attributes:
        names: of the columns: "frames", "class AR", ..., "no box", "view A4C", ...; those with any frame.
        counts: (groups, columns) frames.
        group: (frames,) row of each frame.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    group: np.ndarray

    @property
    def required(self) -> np.ndarray:
        """(columns,) True for classes and views: a part without any frame of theirs is refused."""
        return np.array([name.startswith(("class ", "view ")) for name in self.names])

    def sums(self, part: np.ndarray, parts: int) -> np.ndarray:
        """(groups,) part of each group -> (parts, columns) frames."""
        sums = np.zeros((parts, len(self.names)), dtype=np.int64)
        np.add.at(sums, part, self.counts)
        return sums


def content_of(frames: Split, data: DataConfig, by_image: bool = False) -> Content:
    """Count what the frames of each group hold; with `by_image`, every frame is a group.

    Raises:
        UserError: no `group_pattern`, or one that finds no group in a file name.
    """
    keys = [str(image) for image in frames.images] if by_image else _groups(frames.images, data)
    columns = {"frames": [True] * len(keys)}
    for number, name in enumerate(data.names):
        columns[f"class {name}"] = [number in labels.boxes[:, 0] for labels in frames.labels]
    columns["no box"] = [len(labels.boxes) == 0 for labels in frames.labels]
    for number, name in enumerate(data.view_names):
        columns[f"view {name}"] = [labels.view == number for labels in frames.labels]
    columns = {name: column for name, column in columns.items() if any(column)}
    rows, group = np.unique(keys, return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(counts, group, np.array(list(columns.values()), dtype=np.int64).T)
    return Content(tuple(columns), counts, group)


def _groups(images: Sequence[Path], data: DataConfig) -> list[str]:
    if data.group_pattern is None:
        raise UserError(
            f"{data.source}: key 'group_pattern' is missing; it says what must not cross splits, e.g. '^(P\\d+)_' for "
            "the patient at the start of a file name. To split frame by frame all the same: --by image"
        )
    groups = [data.found_group(image) for image in images]
    without = [image.name for image, group in zip(images, groups, strict=True) if group is None]
    if without:
        raise UserError(
            f"{data.source}: group_pattern {data.group_pattern!r} finds no group in {len(without)} of {len(images)} "
            f"file names, the first: {without[0]}; mend the pattern or the names"
        )
    return groups


def imbalance(sums: np.ndarray, shares: Sequence[float]) -> float:
    """How far parts are from what was asked for: 0 is perfect, 0.1 is off by a tenth, typically.

    The root mean square, over parts and columns, of (frames found / frames asked for) - 1, where a part is to have
    its share of each column's frames.

    Args:
        sums: (parts, columns) frames; every column has some.
        shares: (parts,) of all frames.
    """
    return float(np.sqrt(((sums / np.outer(shares, sums.sum(axis=0)) - 1) ** 2).mean()))


def assign_groups(content: Content, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Put each group into a part so that `imbalance` is small and no class or view misses a part.

    From many random assignments, the best after single groups were moved for as long as that helps. scikit-learn's
    StratifiedGroupKFold places each group once, for one label a frame, in equal parts.

    Args:
        shares: of all frames, for each part; they sum to 1.
        seed: the same gives the same parts.

    Returns:
        (groups,) number of the part.
    """
    counts, required, parts = content.counts, content.required, len(shares)
    wanted = np.outer(shares, counts.sum(axis=0))

    def cost(sums: np.ndarray, wanted: np.ndarray = wanted) -> np.ndarray:
        return ((sums / wanted - 1) ** 2 + VANISHED * ((sums == 0) & required)).sum(axis=-1)

    def improve(part: np.ndarray) -> np.ndarray:
        for _ in range(MAX_MOVES):
            sums = content.sums(part, parts)
            leaves = cost(sums[part] - counts, wanted[part]) - cost(sums)[part]
            change = leaves[:, None] + cost(sums + counts[:, None]) - cost(sums)  # (groups, parts) of each move
            change[np.arange(len(part)), part] = 0
            group, target = np.unravel_index(change.argmin(), change.shape)
            if change[group, target] > -1e-9:
                break
            part[group] = target
        return part

    rng = np.random.default_rng(seed)
    tries = min(TRIES, 1 + PLACES // (parts * len(counts)))
    found = [improve(rng.choice(parts, len(counts), p=shares)) for _ in range(tries)]
    return min(found, key=lambda part: cost(content.sums(part, parts)).sum())


def refuse_vanished(content: Content, part: np.ndarray, names: Sequence[str]) -> None:
    """Raise a `UserError` that tells every class and view without a frame in a part."""
    missing = content.sums(part, len(names)) == 0
    problems = [
        f"no frame of {content.names[column]} in {', '.join(np.array(names)[missing[:, column]])} "
        f"(groups that have it: {(content.counts[:, column] > 0).sum()})"
        for column in np.flatnonzero(missing.any(axis=0) & content.required)
    ]
    if problems:
        raise UserError(
            f"{len(content.counts)} groups do not split into {len(names)} parts with every class and view in each; "
            "ask for fewer or larger parts:\n  " + "\n  ".join(problems)
        )


def format_balance(content: Content, part: np.ndarray, names: Sequence[str], shares: Sequence[float]) -> str:
    """A table: frames, groups, and the share of each part's frames that hold each class and view."""
    sums = content.sums(part, len(names))
    table, groups = np.vstack([sums.sum(axis=0), sums]), np.bincount(part, minlength=len(names))
    rows = [("", ["all", *names]), ("frames", table[:, 0]), ("groups", [len(part), *groups])]
    for name, held in zip(content.names[1:], table.T[1:], strict=True):
        rows.append((name, [f"{share:.1%}" for share in held / table[:, 0].clip(1)]))
    width = max(len(name) for name, _ in rows)
    error = sums / np.outer(shares, table[0]) - 1
    worst, column = np.unravel_index(np.abs(error).argmax(), error.shape)
    return "\n".join(
        [
            *(f"{name:<{width}}" + "".join(f"{cell!s:>9}" for cell in cells) for name, cells in rows),
            f"imbalance {imbalance(sums, shares):.3f} (root mean square of frames found / frames asked for - 1, over "
            f"rows and parts); the worst: {content.names[column]} in {names[worst]}, "
            f"{sums[worst, column]} for {table[0, column] * shares[worst]:.1f}",
        ]
    )

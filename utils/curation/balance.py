"""Splits that keep a patient's frames together.

Every part gets its share of each class's and each view's patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.script import UserError
from utils.core.title import DEFAULT_TITLE, titled
from utils.data.splits import Split

# Assignments tried: TRIES, or fewer where groups x parts of all tries were more than PLACES.
TRIES = 300
PLACES = 300_000
MAX_MOVES = 300  # improvements of one assignment
# Groups; the pairs of more than that are too many to try them all, and there is less need to.
MOST_SWAPPED = 300
MOST_NAMED = 10  # parts in a message
LEAST_GAIN = 1e-9  # of a move, above rounding
# Cost of a class or view without a frame in a part: above any imbalance worth having.
VANISHED = 1e3


def merge(splits: Iterable[Split]) -> Split:
    """The frames of all splits, each once, sorted by path."""
    labels = {}
    for split in splits:
        labels |= zip(split.images, split.labels, strict=True)
    images = sorted(labels)
    return Split("all", tuple(images), tuple(labels[image] for image in images))


@dataclass(frozen=True)
class Content:
    """How many frames and groups of each unit (row) hold each thing that is counted (column).

    Units are put into parts as a whole: a group (a patient), or several that share almost
    identical frames.

    Attributes:
        names: of the columns: "frames", "class AR", ..., "no box", "view A4C", ..., with what the
            data set calls a view; those with any frame.
        title: what the data set calls a view.
        counts: (units, columns) frames.
        groups: (units, columns) groups with such a frame.
        unit: (frames,) row of each frame.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    groups: np.ndarray
    unit: np.ndarray
    title: str = DEFAULT_TITLE

    @property
    def required(self) -> np.ndarray:
        """(columns,) True for classes and views: a part without any frame of theirs is refused."""
        return np.array([name not in ("frames", "no box") for name in self.names])

    def sums(self, part: np.ndarray, parts: int) -> np.ndarray:
        """(units,) part of each unit -> (parts, columns) frames."""
        return _sums(self.counts, part, parts)

    def group_sums(self, part: np.ndarray, parts: int) -> np.ndarray:
        """(units,) part of each unit -> (parts, columns) groups."""
        return _sums(self.groups, part, parts)


def _sums(rows: np.ndarray, part: np.ndarray, parts: int) -> np.ndarray:
    sums = np.zeros((parts, rows.shape[1]), rows.dtype)
    np.add.at(sums, part, rows)
    return sums


def content_of(
    frames: Split, data: DataConfig, groups: Sequence[str], together: Iterable[Sequence[Path]] = ()
) -> Content:
    """Count what the frames of each unit hold.

    Args:
        groups: of every frame, see `groups_of`.
        together: images that must not be parted; their groups become one unit.
    """
    columns = {"frames": [True] * len(groups)}
    for number, name in enumerate(data.names):
        columns[f"class {name}"] = [number in labels.boxes[:, 0] for labels in frames.labels]
    columns["no box"] = [len(labels.boxes) == 0 for labels in frames.labels]
    for number, name in enumerate(data.view_names):
        columns[f"{data.cls_title} {name}"] = [labels.view == number for labels in frames.labels]
    columns = {name: column for name, column in columns.items() if any(column)}
    rows, group = np.unique(groups, return_inverse=True)
    counts = _sums(np.array(list(columns.values()), dtype=np.int64).T, group, len(rows))
    row_of = dict(zip(frames.images, group, strict=True))
    joined_rows = []
    for images in together:
        joined_rows.append([row_of[image] for image in images])
    unit = _joined(len(rows), joined_rows)
    units = unit.max() + 1
    held = (counts > 0).astype(np.int64)
    return Content(
        names=tuple(columns),
        counts=_sums(counts, unit, units),
        groups=_sums(held, unit, units),
        unit=unit[group],
        title=data.cls_title,
    )


def _joined(count: int, sets: Iterable[Sequence[int]]) -> np.ndarray:
    """(count,) number of the unit of each group, where all groups of a set are one unit."""
    unit = np.arange(count)
    for groups in sets:
        members = unit[list(groups)]
        unit[np.isin(unit, members)] = members.min()
    return np.unique(unit, return_inverse=True)[1]


def groups_of(images: Sequence[Path], data: DataConfig) -> list[str]:
    """The group of every image.

    Raises:
        UserError: no `group_pattern`, or one that finds no group in a file name.
    """
    if data.group_pattern is None:
        raise UserError(
            f"{data.source}: key 'group_pattern' is missing; it says what must not cross splits, "
            "e.g. '^(P\\d+)_' for the patient at the start of a file name. "
            "To split frame by frame all the same: --by image"
        )
    groups = [data.found_group(image) for image in images]
    without = [image.name for image, group in zip(images, groups, strict=True) if group is None]
    if without:
        raise UserError(
            f"{data.source}: group_pattern {data.group_pattern!r} finds no group in "
            f"{len(without)} of {len(images)} file names, the first: {without[0]}; "
            "fix the pattern or the names"
        )
    return groups


def imbalance(sums: np.ndarray, shares: Sequence[float]) -> float:
    """How far parts are from what was asked for: 0 is perfect, 0.1 is off by a tenth, typically.

    The root mean square, over parts and columns, of (frames found / frames asked for) - 1, where a
    part is to have its share of each column's frames.

    Args:
        sums: (parts, columns) frames; every column has some.
        shares: (parts,) of all frames.
    """
    wanted = np.outer(shares, sums.sum(axis=0))
    return float(np.sqrt(((sums / wanted - 1) ** 2).mean()))


@dataclass(frozen=True)
class Balance:
    """The cost of an assignment of units to parts, see `assign_groups`, and how it is lowered.

    Attributes:
        counts: (units, 2 columns) frames, then groups.
        wanted: (parts, 2 columns) of them.
        weight: (parts, 2 columns) of a squared relative deviation.
        required: (2 columns,) what must not be missing in a part.
    """

    counts: np.ndarray
    wanted: np.ndarray
    weight: np.ndarray
    required: np.ndarray

    @classmethod
    def of(cls, content: Content, shares: Sequence[float]) -> Balance:
        counts = np.hstack([content.counts, content.groups])
        wanted = np.outer(shares, counts.sum(axis=0))
        # (O / E - 1)^2 of the frames; of the groups that times E, which is (O - E)^2 / E.
        columns = len(content.names)
        weight = wanted.copy()
        weight[:, :columns] = 1
        return cls(counts, wanted, weight, np.tile(content.required, 2))

    def sums(self, part: np.ndarray) -> np.ndarray:
        """(units,) part of each unit -> (parts, 2 columns)."""
        return _sums(self.counts, part, len(self.wanted))

    def cost(self, sums: np.ndarray, parts: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(..., 2 columns) that `parts` would hold -> (...,) cost of each."""
        squares = self.weight[parts] * (sums / self.wanted[parts] - 1) ** 2
        return (squares + VANISHED * ((sums == 0) & self.required)).sum(axis=-1)

    def total(self, part: np.ndarray) -> float:
        """The cost of an assignment."""
        return float(self.cost(self.sums(part)).sum())

    def improve(self, part: np.ndarray) -> np.ndarray:
        """Move single units, or exchange two, for as long as that helps; changes `part`."""
        for _ in range(MAX_MOVES):
            if not self._move(part) and not self._swap(part):
                break
        return part

    def _move(self, part: np.ndarray) -> bool:
        """Move the unit that gains most, in place; False if none gains."""
        sums = self.sums(part)
        cost = self.cost(sums)
        change_left = self.cost(sums[part] - self.counts, part) - cost[part]  # (units,)
        # (units, parts): of the part that the unit leaves, and of the one that it joins.
        change = change_left[:, None] + self.cost(sums + self.counts[:, None]) - cost
        change[np.arange(len(part)), part] = 0
        unit, target = np.unravel_index(change.argmin(), change.shape)
        if change[unit, target] > -LEAST_GAIN:
            return False
        part[unit] = target
        return True

    def _swap(self, part: np.ndarray) -> bool:
        """Exchange the two units that gain most, in place; False if none gain."""
        if len(part) > MOST_SWAPPED:
            return False
        sums = self.sums(part)
        places = part[:, None]
        # (units, units, 2 columns): the part of unit i after unit j has come for it.
        after = sums[places] + self.counts - self.counts[:, None]
        change = self.cost(after, places) - self.cost(sums)[places]
        change = change + change.T
        change[places == part] = 0
        one, other = np.unravel_index(change.argmin(), change.shape)
        if change[one, other] > -LEAST_GAIN:
            return False
        part[[one, other]] = part[[other, one]]
        return True


def assign_groups(content: Content, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Put units into parts, each with its share of every column's groups and frames.

    What is made small is the sum, over parts and columns, of (O - E)^2 / E of the groups
    (chi-square: O found, E the part's share) and of (O / E - 1)^2 of the frames; no class or view
    misses a part where that can be. A class of few patients weighs as much as one of many, and
    patients weigh more than frames: they are what a result is about.

    From many random assignments, the best after `Balance.improve`. scikit-learn's
    StratifiedGroupKFold places each group once, for one label a frame, in equal parts.

    Args:
        shares: of the whole, for each part; they sum to 1.
        seed: the same gives the same parts.

    Returns:
        (units,) number of the part.
    """
    balance = Balance.of(content, shares)
    rng = np.random.default_rng(seed)
    parts = len(shares)
    units = len(content.counts)
    tries = min(TRIES, 1 + PLACES // (parts * units))
    found = [balance.improve(rng.choice(parts, units, p=shares)) for _ in range(tries)]
    return min(found, key=balance.total)


def refuse_vanished(content: Content, part: np.ndarray, names: Sequence[str]) -> None:
    """Raise a `UserError` that tells every class and view without a frame in a part."""
    missing = content.sums(part, len(names)) == 0
    problems = []
    for column in np.flatnonzero(missing.any(axis=0) & content.required):
        without = _first_of(np.array(names)[missing[:, column]].tolist())
        holders = content.groups[:, column].sum()
        problems.append(
            f"no frame of {content.names[column]} in {without} (groups that have it: {holders})"
        )
    if problems:
        wanted = titled("with every class and view in each", content.title)
        head = (
            f"{_amount(content)} do not split into {len(names)} parts {wanted}; "
            "ask for fewer or larger parts:"
        )
        raise UserError("\n  ".join([head, *problems]))


def _first_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        shown += f" and {len(names) - MOST_NAMED} more"
    return shown


def _amount(content: Content) -> str:
    """How many groups there are and, where some are joined, units."""
    groups = content.groups[:, 0].sum()
    units = len(content.groups)
    if units < groups:
        return f"{groups} groups in {units} units"
    return f"{groups} groups"


def format_balance(
    content: Content, part: np.ndarray, names: Sequence[str], shares: Sequence[float]
) -> str:
    """A table of all and of each part, and below it how far the parts are from their shares.

    Its rows: frames; groups; for each class and view the share of the frames, and the groups.
    """
    sums = content.sums(part, len(names))
    lines = _table_lines(_balance_rows(content, part, names))
    lines.append("share of the frames that show it (groups that do)")
    wanted = np.outer(shares, sums.sum(axis=0))
    worst, column = np.unravel_index(np.abs(sums / wanted - 1).argmax(), sums.shape)
    lines.append(
        f"imbalance {imbalance(sums, shares):.3f} "
        "(root mean square of frames found / frames asked for - 1, over rows and parts); "
        f"the worst: {content.names[column]} in {names[worst]}, "
        f"{sums[worst, column]} for {wanted[worst, column]:.1f}"
    )
    return "\n".join(lines)


def _balance_rows(
    content: Content, part: np.ndarray, names: Sequence[str]
) -> dict[str, list[object]]:
    """Row's name -> a cell for all and for each part."""
    sums = content.sums(part, len(names))
    group_sums = content.group_sums(part, len(names))
    frames = np.vstack([sums.sum(axis=0), sums])  # (1 + parts, columns)
    groups = np.vstack([group_sums.sum(axis=0), group_sums])
    rows = {"": ["all", *names], "frames": frames[:, 0], "groups": groups[:, 0]}
    for column, name in enumerate(content.names[1:], start=1):
        shares = frames[:, column] / frames[:, 0].clip(1)
        cells = zip(shares, groups[:, column], strict=True)
        rows[name] = [f"{share:.1%} ({count})" for share, count in cells]
    return rows


def _table_lines(rows: Mapping[str, Iterable[object]]) -> list[str]:
    """A line a row: its name, and its cells to the right of their column."""
    width = max(map(len, rows))
    lines = []
    for name, cells in rows.items():
        texts = [f"{cell!s:>13}" for cell in cells]
        lines.append(f"{name:<{width}}" + "".join(texts))
    return lines

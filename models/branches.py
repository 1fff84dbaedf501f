"""How much two heads share: the view head on a copy of its own of the layers after a given one.

The key `view_branches_after: k` of a model YAML says so. Rows of YOLOv5s with its view head on
layer 17 and k = 9:

    0 ... 9 (shared)   10 ... 17 ... 23, 24 Detect   (the detector's, as without the key)
                       25 ... 32, 33 ViewHead        (copies of 10 ... 17, and the head on the last)

A copy has the row of its original and initial values of its own. Layers up to k, and the detector's
after it, keep their numbers, names and, for a seed, initial values. k = 17 copies nothing, which is
the model without the key; k = 0 shares the first layer only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.graph import BRANCH_KEY, checked_rows, layers_read
from utils.core.script import UserError
from utils.core.values import is_whole


def with_view_branch(cfg: Mapping, source: str) -> dict:
    """A model YAML's content with the rows that its key `view_branches_after` asks for.

    The key itself is taken out; without it nothing changes.

    Args:
        source: the YAML's name, for errors.

    Raises:
        UserError: the value is no layer that can be shared, or the last row is not the one
            `ViewHead`.
    """
    plain = {key: value for key, value in cfg.items() if key != BRANCH_KEY}
    if BRANCH_KEY not in cfg:
        return plain
    rows = checked_rows(cfg, source)
    sources = _sources(rows, source)
    heads = [index for index, row in enumerate(rows) if row[2] == "ViewHead"]
    if heads != [len(rows) - 1]:
        raise UserError(
            f"{source}: {BRANCH_KEY}: ViewHead found at layers {heads}, expected one, in the last "
            "row; or remove the key"
        )
    last_shared = cfg[BRANCH_KEY]
    deepest = max(sources[-1])
    if not is_whole(last_shared, 0, deepest):
        raise UserError(
            f"{source}: {BRANCH_KEY} is {last_shared!r}, expected a layer from 0 to {deepest}, "
            "which the ViewHead reads"
        )
    plain["head"] = [*cfg["head"][:-1], *_branch(rows, sources, last_shared)]
    return plain


def _sources(rows: Sequence[Sequence], source: str) -> list[tuple[int, ...]]:
    """The layers that each row reads."""
    sources = []
    for index, row in enumerate(rows):
        try:
            sources.append(layers_read(index, row[0]))
        except UserError as error:
            raise UserError(f"{source}: model layer {index}: {error}") from None
    return sources


def _branch(
    rows: Sequence[Sequence], sources: Sequence[tuple[int, ...]], last_shared: int
) -> list[list[object]]:
    """The last row, a head, with copies before it of the layers after `last_shared` it needs."""
    head = len(rows) - 1
    copied = {head}
    for index in reversed(range(last_shared + 1, len(rows))):
        if index in copied:
            copied |= {read for read in sources[index] if read > last_shared}
    new_numbers = {index: head + place for place, index in enumerate(sorted(copied))}
    branch = []
    for index in sorted(copied):
        reads = [new_numbers.get(read, read) for read in sources[index]]
        branch.append([reads, *rows[index][1:]])
    return branch

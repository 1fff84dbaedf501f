"""Classes that a mirror image swaps: `flip_pairs` in a data.yaml.

A mirrored left lung looks like a right one, so `fliplr` has to swap the two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from utils.core.script import UserError
from utils.core.values import did_you_mean

# English, German and Chinese; LeftLung, left_lung and "left lung", but neither bright nor upright
_SIDE = re.compile(
    r"(?<![A-Za-z])(?i:left|right|link(?:s|e[mnrs]?)|recht(?:s|e[mnrs]?))(?![a-z])"
    r"|(?<=[a-z])(?:Left|Right|Links|Rechts)(?![a-z])"
    r"|[左右]"
)


def read_flip_pairs(value: object, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of box classes in a data.yaml; () where there are none.

    Args:
        names: of all box classes.

    Raises:
        UserError: no list of pairs of names, an unknown name, or one that is in two pairs.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UserError(f"flip_pairs is {value!r}, expected a list of pairs, as [[left, right]]")
    taken: set[str] = set()
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise UserError(
                f"flip_pairs: {pair!r} is no pair; expected two names, as [left, right]"
            )
        for name in pair:
            if name not in names:
                hint = did_you_mean(name, names)
                raise UserError(
                    f"flip_pairs: {name!r} is no class; expected some of {', '.join(names)}{hint}"
                )
            if name in taken:
                raise UserError(f"flip_pairs: {name} is there twice; a class has one other side")
            taken.add(name)
    return tuple((first, second) for first, second in value)


def mirrored(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """What every class, by its number, is in a mirror image."""
    other = {}
    for first, second in pairs:
        other |= {first: second, second: first}
    return tuple(names.index(other.get(name, name)) for name in names)


def sided(names: Sequence[str]) -> list[str]:
    """Those of the names that say left or right."""
    return [name for name in names if _SIDE.search(name)]

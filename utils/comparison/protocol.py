"""What a comparison promises before it trains: which differences count, and which are too small to matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Contrast:
    """The difference `arm` less `reference` in `metric`, a figure of `utils.comparison.outcomes.Outcome`."""

    arm: str
    reference: str
    metric: str


@dataclass(frozen=True)
class Protocol:
    """Fixed before training.

    Attributes:
        counted: the contrasts that get a word, corrected for their number (Holm); all others are exploratory.
        margins: metric -> the difference below which two arms count as equivalent.
    """

    counted: tuple[Contrast, ...]
    margins: Mapping[str, float]

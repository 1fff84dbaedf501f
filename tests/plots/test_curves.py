"""The numbers of a log axis."""

from __future__ import annotations

import pytest

from utils.plots.curves import _plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (0.02, "0.02"),
        (50, "50"),
        (1e-4, "0.0001"),
        (2e-5, "2·10⁻⁵"),
        (1e-12, "10⁻¹²"),
        (5e6, "5·10⁶"),
    ],
)
def test_numbers_of_a_log_axis(value: float, text: str):
    assert _plain(value) == text

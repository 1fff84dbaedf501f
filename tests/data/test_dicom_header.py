"""Times and scales of a DICOM object's header; what is stale or contradicts itself is not used."""

import math

import numpy as np
import pytest
from dicom_files import Dataset

from utils.data.dicom_header import Region, frame_times_of, regions_of


def header_with(**elements: object) -> Dataset:
    header = Dataset()
    for name, value in elements.items():
        setattr(header, name, value)
    return header


def region_item(left: int, top: int, right: int, bottom: int, **changes: object) -> Dataset:
    """With its last column and row, as the standard has it; 0.05 cm across, 0.04 cm down."""
    known = {
        "RegionLocationMinX0": left,
        "RegionLocationMinY0": top,
        "RegionLocationMaxX1": right,
        "RegionLocationMaxY1": bottom,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.05,
        "PhysicalDeltaY": -0.04,
    }
    return header_with(**(known | changes))


# ---- frame times ---------------------------------------------------------------------------------

FRAME_TIME = 0x00181063
FRAME_TIME_VECTOR = 0x00181065


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"FrameTime": "40"}, [0, 40, 80]),
        ({"CineRate": 50}, [0, 20, 40]),
        ({"RecommendedDisplayFrameRate": 25}, [0, 40, 80]),
        ({"FrameTimeVector": ["0", "30", "50"]}, [0, 30, 80]),
        ({"FrameTime": "40", "CineRate": 50}, [0, 40, 80]),
        ({"CineRate": 50, "RecommendedDisplayFrameRate": 25}, [0, 20, 40]),
        ({"FrameTime": "0", "CineRate": 50}, [0, 20, 40]),
        ({"FrameTime": "40", "FrameTimeVector": ["0", "1"]}, [0, 40, 80]),
        (
            {
                "FrameIncrementPointer": FRAME_TIME,
                "FrameTime": "40",
                "FrameTimeVector": ["0", "30", "50"],
            },
            [0, 40, 80],
        ),
        (
            {
                "FrameIncrementPointer": [FRAME_TIME_VECTOR, FRAME_TIME],
                "FrameTime": "40",
                "FrameTimeVector": ["0", "30", "50"],
            },
            [0, 30, 80],
        ),
    ],
)
def test_frame_times_are_what_the_header_says(elements: dict, expected: list[float]):
    times, _ = frame_times_of(header_with(**elements), 3)
    np.testing.assert_allclose(times, expected)


@pytest.mark.parametrize("elements", [{}, {"FrameTime": "0"}, {"FrameTime": "-3"}, {"CineRate": 0}])
def test_no_frame_time_is_invented(elements: dict):
    times, warnings = frame_times_of(header_with(**elements), 3)
    assert times is None
    assert len(warnings) == 1


def test_a_vector_of_another_length_is_said():
    times, (warning,) = frame_times_of(header_with(FrameTimeVector=["0", "30"]), 3)
    assert times is None
    assert warning == "its FrameTimeVector gives no times for 3 frames and is not used"


def test_a_single_frame_has_no_time():
    assert frame_times_of(header_with(FrameTime="40"), 1) == (None, ())


# ---- regions -------------------------------------------------------------------------------------


def test_a_region_that_fits_is_used_with_its_scale_in_mm():
    header = header_with(SequenceOfUltrasoundRegions=[region_item(4, 6, 99, 79)])
    (region,), warnings = regions_of(header, height=80, width=100)
    assert (region.left, region.top, region.right, region.bottom) == (4, 6, 100, 80)
    assert region.spacing_x_mm == pytest.approx(0.5)
    assert region.spacing_y_mm == pytest.approx(0.4)
    assert not warnings


@pytest.mark.parametrize(
    "corners",
    [(4, 6, 100, 79), (4, 6, 99, 80), (50, 6, 40, 79), (0, 0, 1023, 767)],
)
def test_a_region_outside_the_picture_is_not_used_and_this_is_said(corners: tuple):
    items = [region_item(4, 6, 50, 50), region_item(*corners)]
    regions, (warning,) = regions_of(header_with(SequenceOfUltrasoundRegions=items), 80, 100)
    assert len(regions) == 1
    assert warning.startswith("1 of 2 ultrasound regions do not fit its picture of 100 x 80 pixels")


def test_a_scale_that_is_no_length_is_none():
    """Seconds across, as in spectral Doppler; no scale at all."""
    item = region_item(0, 0, 9, 9, PhysicalUnitsXDirection=4, PhysicalDeltaY=0.0)
    (region,), _ = regions_of(header_with(SequenceOfUltrasoundRegions=[item]), 10, 10)
    assert region == Region(0, 0, 10, 10, None, None)


@pytest.mark.parametrize("delta", [math.nan, math.inf, -math.inf, [0.1, 0.2], None])
def test_a_scale_that_is_no_number_is_none(delta: object):
    item = region_item(0, 0, 9, 9, PhysicalDeltaX=delta)
    (region,), _ = regions_of(header_with(SequenceOfUltrasoundRegions=[item]), 10, 10)
    assert region == Region(0, 0, 10, 10, None, pytest.approx(0.4))


def test_a_region_with_two_numbers_for_a_corner_is_none():
    item = region_item(0, 0, 9, 9, RegionLocationMaxX1=[3, 4])
    assert regions_of(header_with(SequenceOfUltrasoundRegions=[item]), 10, 10) == ((), ())


def test_an_item_without_corners_is_no_region():
    """As GDCM writes it."""
    item = header_with(PhysicalDeltaX=1.0, PhysicalDeltaY=1.0)
    assert regions_of(header_with(SequenceOfUltrasoundRegions=[item]), 10, 10) == ((), ())


def test_a_header_without_regions_has_none():
    assert regions_of(header_with(), 10, 10) == ((), ())

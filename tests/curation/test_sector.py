"""The sector: found by what changes and what is light, without the letters around it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from cine_clips import BANNER_ROWS, BURNT_IN, HEIGHT, WIDTH, cine_frames, sector_mask

from utils.curation.sector import find_sector, region_mask
from utils.data.dicom_header import Region
from utils.data.images import read_image


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    return (found & expected).sum() / (found | expected).sum()


def test_the_sector_of_a_moving_clip_is_found_and_no_letter():
    found = find_sector(cine_frames())
    assert overlap(found, sector_mask()) > 0.92
    assert not found[:BANNER_ROWS].any()
    assert not found[50:, 270:].any()


def test_compression_around_letters_is_no_change():
    frames = []
    for quality, frame in zip(range(40, 80, 5), cine_frames(8), strict=True):
        content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        frames.append(cv2.imdecode(content, cv2.IMREAD_COLOR))
    assert not find_sector(frames)[:BANNER_ROWS].any()


@pytest.mark.parametrize("gap", [0, 2, 6])
def test_a_bar_with_a_name_beside_the_image_is_no_part_of_it(gap: int):
    """Even where it touches the image, and is as light."""
    frames = cine_frames()
    top = np.flatnonzero(sector_mask().any(axis=1))[0]
    bar = cine_frames()[:1, :BANNER_ROWS]
    frames[:, top - gap - BANNER_ROWS : top - gap] = np.maximum(bar, 120)
    assert not find_sector(frames)[: top - gap - 2].any()


def test_lines_of_letters_above_a_wide_image_are_no_part_of_it():
    generator = np.random.default_rng(0)
    frames = np.zeros((6, HEIGHT, WIDTH, 3), np.uint8)
    for frame in frames:
        frame[66:] = generator.integers(20, 220, (HEIGHT - 66, WIDTH, 1), dtype=np.uint8)
        for row in range(14, 64, 12):
            cv2.putText(frame, BURNT_IN, (4, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3)
    found = find_sector(frames)
    assert not found[:62].any() and found[70:].mean() > 0.95


def test_a_dark_cavity_belongs_to_the_sector():
    frames = cine_frames()
    for frame in frames:
        cv2.circle(frame, (160, 120), 30, (0, 0, 0), -1)
    assert find_sector(frames)[120, 160]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        np.zeros((3, HEIGHT, WIDTH, 3), np.uint8),
        cine_frames(1),
        cine_frames(1).repeat(4, axis=0),
        np.stack(
            [np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)]
        ),
        cine_frames(2) * (1 - sector_mask()[..., None].astype(np.uint8)),
    ],
    ids=["no frame", "black", "one frame", "still", "another page", "letters alone"],
)
def test_where_it_is_not_clear_there_is_no_sector(frames: np.ndarray):
    assert find_sector(frames) is None


def test_regions_of_tissue_count_and_those_of_spectra_do_not():
    tissue = Region(10, 20, 30, 50, 0.5, 0.5)
    spectrum = Region(0, 60, 30, 90, None, None)
    mask = region_mask([tissue, spectrum], 100, 120)
    assert mask.shape == (100, 120) and mask.sum() == 20 * 30
    assert mask[20, 10] and mask[49, 29] and not mask[50, 29] and not mask[49, 30]


def test_all_flow_of_real_clips_lies_in_their_sector(shared_dir: Path):
    images = sorted((shared_dir / "regurgitation/train/images").glob("P54_V1-3_F*.jpg"))
    frames = [read_image(path) for path in images]
    found = find_sector(frames)
    channels = np.array(frames).astype(int)
    coloured = (channels.max(axis=3) - channels.min(axis=3) > 100).any(axis=0)
    assert 0.2 < found.mean() < 0.8
    assert (coloured & found).sum() > 0.95 * coloured.sum()

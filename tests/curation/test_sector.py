"""The sector: found by what changes and what is light, without the letters around it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from cine_clips import BANNER_ROWS, HEIGHT, WIDTH, cine_frames, sector_mask

from utils.curation.sector import find_sector, region_mask
from utils.data.dicom_header import Region
from utils.data.images import read_image


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    return (found & expected).sum() / (found | expected).sum()


def test_the_sector_of_a_moving_clip_is_found_and_no_letter():
    found = find_sector(cine_frames())
    assert overlap(found, sector_mask()) > 0.93
    assert not found[:BANNER_ROWS].any()
    assert not found[50:, 270:].any()


def test_the_sector_of_a_still_picture_is_found():
    found = find_sector(cine_frames(count=1))
    assert overlap(found, sector_mask()) > 0.93 and not found[:BANNER_ROWS].any()


def test_compression_around_letters_is_no_change():
    frames = []
    for quality, frame in zip(range(40, 80, 5), cine_frames(8), strict=True):
        content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        frames.append(cv2.imdecode(content, cv2.IMREAD_COLOR))
    assert not find_sector(frames)[:BANNER_ROWS].any()


def test_a_light_frame_around_the_image_is_not_taken_for_it():
    frames = cine_frames()
    frames[:, ~sector_mask()] = np.maximum(frames[:, ~sector_mask()], 90)
    found = find_sector(frames)
    assert overlap(found, sector_mask()) > 0.9 and not found[:BANNER_ROWS].any()


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
        np.full((1, HEIGHT, WIDTH, 3), 120, np.uint8),
        cine_frames(2) * (1 - sector_mask()[..., None].astype(np.uint8)),
    ],
    ids=["no frame", "black", "light all over", "letters alone"],
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

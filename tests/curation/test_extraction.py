"""Extraction: which frames are kept, and that nothing is left outside the image region."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cine_clips import HEIGHT, WIDTH, cine_frames, sector_mask
from dicom_files import PYDICOM_FILES

from utils.core.script import UserError
from utils.curation.extraction import ClipContent, Extracted, Selection, extract
from utils.curation.pseudonyms import ClipName
from utils.data.dicom import open_dicom
from utils.data.dicom_header import Region
from utils.data.images import read_image

NAME = ClipName(7, 2)
REGION = Region(60, 40, 260, 220, 0.5, 0.25)


def content(frames: np.ndarray, **facts: object) -> ClipContent:
    return ClipContent(lambda: iter(frames), **facts)


def numbers(found: Extracted) -> list[int]:
    """Of the frames that were written."""
    return [int(path.stem.partition("_F")[2]) for path in found.files]


def test_files_are_called_by_patient_clip_and_frame(tmp_path: Path):
    found = extract(content(cine_frames(3)), NAME, tmp_path, Selection())
    assert [path.name for path in found.files] == [
        "P0007_C002_F0001.png",
        "P0007_C002_F0002.png",
        "P0007_C002_F0003.png",
    ]
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    images = {f"images/{path.name}" for path in found.files}
    assert written == images | {"sheets/P0007_C002.png"}


def test_pixels_of_a_region_stay_and_all_others_are_black(tmp_path: Path):
    frames = cine_frames(2, inside="ROE")
    found = extract(content(frames, regions=(REGION,)), NAME, tmp_path, Selection())
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[40:220, 60:260] = True
    for frame, path in zip(frames, found.files, strict=True):
        pixels = read_image(path)
        assert np.array_equal(pixels[inside], frame[inside])
        assert not pixels[~inside].any()
    assert (found.kept, found.spacing_mm) == ("regions", (0.5, 0.25))


@pytest.mark.parametrize(
    "regions",
    [(), (Region(0, 0, WIDTH, HEIGHT, 0.5, 0.5),), (Region(60, 40, 260, 220, None, None),)],
    ids=["none", "the whole picture", "a spectrum"],
)
def test_where_regions_tell_nothing_the_sector_is_kept(regions: tuple, tmp_path: Path):
    frames = cine_frames()
    found = extract(content(frames, regions=regions), NAME, tmp_path, Selection())
    pixels = read_image(found.files[0])
    assert found.kept == "sector"
    assert not pixels[:24].any() and not pixels[:, 290:].any()
    kept = (pixels == frames[0]).all(axis=2)
    assert kept[sector_mask()].mean() > 0.93


def test_a_clip_without_a_clear_image_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(UserError, match="no sector is found by what moves"):
        extract(content(np.zeros((3, 40, 40, 3), np.uint8)), NAME, tmp_path, Selection())
    assert not list(tmp_path.iterdir())


def test_every_counts_from_the_first_frame(tmp_path: Path):
    found = extract(content(cine_frames(8)), NAME, tmp_path, Selection(every=3))
    assert numbers(found) == [1, 4, 7] and found.clip_frames == 8


def test_only_frames_with_flow_are_kept(tmp_path: Path):
    frames = cine_frames(6, flow_from=4)
    found = extract(content(frames), NAME, tmp_path, Selection(only_colour=True))
    assert numbers(found) == [5, 6]


def test_colour_outside_the_image_is_no_flow(tmp_path: Path):
    frames = cine_frames(3)
    frames[:, :20, :200] = (200, 20, 20)
    found = extract(content(frames), NAME, tmp_path, Selection(only_colour=True))
    assert not found.files and not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [5, 10, 24, 25, 30, 60, 120])
@pytest.mark.parametrize("fps", [1, 3, 10, 25])
def test_frames_a_second_are_no_more_than_asked_for_and_evenly_spread(rate: int, fps: int):
    times = tuple(index * 1000 / rate for index in range(10 * rate))
    keep = Selection(fps=fps).indices(times)
    kept = [index for index in range(len(times)) if keep(index)]
    assert len(kept) == 10 * min(rate, fps)
    gaps = np.diff(kept)
    assert gaps.max() - gaps.min() <= 1


def test_frames_a_second_follow_uneven_times():
    keep = Selection(fps=10).indices((0, 30, 60, 400, 410, 500, 590, 601))
    assert [index for index in range(8) if keep(index)] == [0, 3, 5, 7]


def test_frames_a_second_of_a_clip_without_times_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="states no frame times"):
        extract(content(cine_frames(3)), NAME, tmp_path, Selection(fps=5))


def test_the_frame_time_is_the_clips_own_and_not_invented(tmp_path: Path):
    frames = cine_frames(4)
    timed = extract(content(frames, times_ms=(0, 40, 80, 160)), NAME, tmp_path, Selection(every=2))
    assert timed.frame_time_ms == 40
    assert extract(content(frames), NAME, tmp_path, Selection()).frame_time_ms is None


def test_a_clip_that_breaks_off_leaves_what_could_be_read(tmp_path: Path):
    def frames() -> Iterator[np.ndarray]:
        yield from cine_frames(3)
        raise UserError("ends after 3 of 9 frames")

    found = extract(ClipContent(frames), NAME, tmp_path, Selection())
    assert numbers(found) == [1, 2, 3] and found.problem == "ends after 3 of 9 frames"


def test_a_clip_without_any_frame_says_why(tmp_path: Path):
    def frames() -> Iterator[np.ndarray]:
        raise UserError("cannot be decoded")
        yield

    with pytest.raises(UserError, match="cannot be decoded"):
        extract(ClipContent(frames), NAME, tmp_path, Selection())


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path):
    """The frames are asked for one by one, and none is held when the next one comes."""
    alive = []

    def frames() -> Iterator[np.ndarray]:
        for frame in cine_frames(30):
            own = frame.copy()
            alive.append(sum(1 for other in held if other() is not None))
            held.append(weakref.ref(own))
            yield own

    held: list[weakref.ref] = []
    extract(ClipContent(frames, regions=(REGION,)), NAME, tmp_path, Selection())
    assert max(alive) <= 2


def test_a_real_cine_with_a_stale_region_keeps_its_sector_and_loses_its_letters(tmp_path: Path):
    clip = open_dicom(PYDICOM_FILES / "examples_ybr_color.dcm")
    frames = list(clip.frames())
    whole = content(frames, times_ms=clip.frame_times_ms, regions=clip.regions)
    found = extract(whole, NAME, tmp_path, Selection(fps=10))
    assert found.kept == "sector" and found.spacing_mm is None
    assert found.frame_time_ms == pytest.approx(33.333)
    assert numbers(found) == [1, 5, 8, 11, 14, 17, 20, 23, 26, 29]
    for path in found.files:
        pixels = read_image(path)
        letters = (pixels[:22], pixels[225:], pixels[:, :60], pixels[:, 285:])
        assert not any(part.any() for part in letters)
        frame = frames[int(path.stem[-4:]) - 1]
        assert np.array_equal(pixels[60:190, 130:180], frame[60:190, 130:180])

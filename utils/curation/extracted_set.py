"""The extracted frames as a data set: a table of clips, and a data.yaml with lists of images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from utils.core.data_config import DataConfig
from utils.core.files import write_atomically
from utils.core.script import LOGGER
from utils.curation.clips import write_split
from utils.curation.extraction import Extracted

COLUMNS = (
    "patient",
    "clip",
    "frames",
    "clip_frames",
    "width",
    "height",
    "frame_time_ms",
    "spacing_x_mm",
    "spacing_y_mm",
    "kept",
)
VAL_SHARE = 0.2  # of the patients
DATA_NOTE = """By extract_frames.py. Text inside the image region was left as it is: see sheets/.
Before you train: put nc, names (and cls_names: the views) in, and label files into labels/,
one for each image of that name, as docs/reference/data-format.md says."""


def write_table(path: Path, extracted: Sequence[tuple[Extracted, str]], with_make: bool) -> None:
    """A row a clip."""
    columns = list(COLUMNS)
    if with_make:
        columns.append("manufacturer")

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            for clip, make in extracted:
                writer.writerow(row_of(clip) | {"manufacturer": make})

    write_atomically(path, write)


def row_of(clip: Extracted) -> dict[str, object]:
    patient, _, number = str(clip.name).partition("_")
    row = {"patient": patient, "clip": number, "frames": len(clip.files)}
    row |= {"clip_frames": clip.clip_frames, "width": clip.width, "height": clip.height}
    if clip.frame_time_ms is not None:
        row["frame_time_ms"] = f"{clip.frame_time_ms:.3f}"
    if clip.spacing_mm is not None:
        across, down = clip.spacing_mm
        row |= {"spacing_x_mm": f"{across:.5f}", "spacing_y_mm": f"{down:.5f}"}
    return row | {"kept": clip.kept}


def write_data(folder: Path, clips: Sequence[Extracted], needs_colour: bool) -> None:
    """Write train.txt, val.txt and data.yaml: a fifth of the patients, the last ones, for val.

    Args:
        needs_colour: the frames were chosen by their flow colour, so a model of them is to look at
            no other.
    """
    patients = sorted({clip.name.patient for clip in clips})
    held_out = set(patients[-max(1, round(VAL_SHARE * len(patients))) :])
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    for clip in clips:
        split = "train"
        if clip.name.patient in held_out:
            split = "val"
        splits[split] += clip.files
    if not splits["train"]:
        splits["train"] = splits["val"]
        LOGGER.warning(
            "warning: all frames count as one patient's, so train.txt and val.txt are the same; "
            "scores would say nothing of new patients"
        )
    data = DataConfig(
        source=folder / "data.yaml",
        root=folder,
        splits={},
        names=(),
        group_pattern=r"^(P\d+)_",
        clip_pattern=r"^(P\d+_C\d+)_F(\d+)",
        needs_colour=needs_colour,
    )
    write_split(folder, data, splits, DATA_NOTE)

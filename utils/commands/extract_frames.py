"""What extract_frames.py does: frames for a data set, out of what clinics hold.

Nothing that is printed or written names a file of the source, since its name may be the patient's:
a clip is called by its pseudonym, any other file by its place in the order of paths.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.commands.split_dataset import refuse_full
from utils.core.data_config import DataConfig
from utils.core.files import refuse_unwritable, write_atomically
from utils.core.lock import claim_run_folder
from utils.core.script import LOGGER, UserError
from utils.core.terminal import one_line
from utils.core.user_file import real_path
from utils.curation.clips import write_split
from utils.curation.extraction import ClipContent, Extracted, Selection, extract
from utils.curation.identity import dicom_identity, file_identity, manufacturer_class
from utils.curation.pseudonyms import (
    ClipName,
    Identity,
    KeyRow,
    give_names,
    read_key,
    write_key,
)
from utils.data.dicom import INSTALL, has_reader, is_dicom, open_dicom, other_kind
from utils.data.splits import below
from utils.inference.sources import VIDEO_SUFFIXES, Source

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
MS_A_SECOND = 1000
DATA_NOTE = """By extract_frames.py. Text inside the image region was left as it is: see sheets/.
Before you train: put nc, names (and cls_names: the views) in, and label files into labels/,
one for each image of that name, as docs/reference/data-format.md says."""


@dataclass(frozen=True)
class ClipFile:
    """A file of the source that holds a clip.

    Attributes:
        place: what it is called where its name must not be: "file 3 of 40".
    """

    path: Path
    place: str
    is_dicom: bool
    identity: Identity


@dataclass
class Survey:
    """What the source holds.

    Attributes:
        passed_by: how many files of each other kind.
        problems: a line each.
    """

    clips: list[ClipFile] = field(default_factory=list)
    passed_by: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(args: argparse.Namespace) -> None:
    folder = real_path(args.out)
    refuse_places(args, folder)
    refuse_full(folder, args.out)
    known: list[KeyRow] = []
    if args.key:
        refuse_unwritable(real_path(args.key))
        known = read_key(real_path(args.key))
    survey = look_through(Path(args.source))
    with claim_run_folder(folder.parent, folder.name, exist_ok=True) as claimed:
        refuse_full(claimed.folder, args.out)
        identities = [clip.identity for clip in survey.clips]
        names = give_names(identities, known, counts_on=bool(args.key))
        if args.key:  # before the frames, so that none is left without its patient
            new = [KeyRow(name, own) for name, own in zip(names, identities, strict=True)]
            write_key(real_path(args.key), merged(known, new))
        extracted = extract_all(args, survey, names, claimed.folder)
        write_results(args, survey, extracted, claimed.folder)


def refuse_places(args: argparse.Namespace, folder: Path) -> None:
    """Raise a `UserError` for a source, an output and a key that do not go together."""
    source = real_path(args.source)
    if not source.is_dir():
        raise UserError(f"--source {args.source}: no such folder; expected one with clips")
    if folder.is_relative_to(source) or source.is_relative_to(folder):
        raise UserError(f"--out {args.out}: lies in --source, or around it; choose another")
    if args.key and real_path(args.key).is_relative_to(folder):
        raise UserError(
            f"--key {args.key}: lies in --out, which others will get; "
            "put it where only you can read it"
        )


def merged(known: Sequence[KeyRow], new: Sequence[KeyRow]) -> list[KeyRow]:
    """All rows of a key by name; a clip that was met again has the place where it is now."""
    rows = {row.name: row for row in (*known, *new)}
    return [rows[name] for name in sorted(rows, key=str)]


def look_through(root: Path) -> Survey:
    """Find the clips below a folder, and name nothing of the rest.

    Raises:
        UserError: there is no clip, or pydicom is missing.
    """
    survey = Survey()
    files = sorted(path for path in below(root) if path.is_file())
    for number, path in enumerate(files, start=1):
        place = f"file {number} of {len(files)}"
        if path.suffix.lower() in VIDEO_SUFFIXES:
            survey.clips.append(ClipFile(path, place, False, file_identity(path, root)))
        elif is_dicom(path):
            add_dicom(survey, path, place, root)
        else:
            survey.passed_by["of other kinds"] += 1
    if not survey.clips:
        problem = "; ".join([f"no clip among its {len(files)} files", *survey.problems])
        raise UserError(f"--source {root}: {problem}; expected DICOM clips or videos")
    return survey


def add_dicom(survey: Survey, path: Path, place: str, root: Path) -> None:
    if not has_reader():
        raise UserError(f"--source {root}: it holds DICOM, which needs pydicom: {INSTALL}")
    if other_kind(path):
        survey.passed_by["DICOM without a picture"] += 1
        return
    try:
        open_dicom(path)
    except UserError as error:
        survey.problems.append(anonymous(error, path, place))
        return
    survey.clips.append(ClipFile(path, place, True, dicom_identity(path, root)))


def anonymous(error: UserError, path: Path, name: object) -> str:
    """What is wrong with a file, under another name."""
    text = str(error)
    for shown in (str(path), one_line(str(path))):
        text = text.replace(shown, str(name))
    if text.startswith(str(name)):
        return text
    return f"{name}: {text}"


def extract_all(
    args: argparse.Namespace, survey: Survey, names: Sequence[ClipName], folder: Path
) -> list[tuple[Extracted, str]]:
    """What was written of every clip, and its machine's make; notes problems in the survey.

    A file whose clip was there before, as a copy has the same UID, is left out.
    """
    selection = Selection(args.every, args.fps, args.only_colour)
    done: dict[ClipName, tuple[Extracted, str]] = {}
    pairs = list(zip(survey.clips, names, strict=True))
    for clip, name in tqdm(pairs, "extract", unit="clip", leave=False):
        if name in done:
            survey.problems.append(f"{clip.place}: a copy of {name}; left out")
            continue
        try:
            found = extract(content_of(clip, name, survey), name, folder, selection)
        except UserError as error:
            survey.problems.append(anonymous(error, clip.path, name))
            continue
        if found.problem:
            survey.problems.append(anonymous(UserError(found.problem), clip.path, name))
        make = ""
        if args.manufacturer and clip.is_dicom:
            make = manufacturer_class(clip.path)
        done[name] = (found, make)
    return [done[name] for name in sorted(done, key=str)]


def content_of(clip: ClipFile, name: ClipName, survey: Survey) -> ClipContent:
    """A clip's frames, times and regions; what is odd about it is noted in the survey."""
    if not clip.is_dicom:
        return video_content(clip.path)
    opened = open_dicom(clip.path)
    survey.problems += [anonymous(UserError(text), clip.path, name) for text in opened.warnings]
    return ClipContent(opened.frames, opened.frame_times_ms, opened.regions)


def video_content(path: Path) -> ClipContent:
    """A video; its frames are equally far apart, by the rate that it states."""
    source = Source(path, Path(path.stem), None)

    def frames() -> Iterator[np.ndarray]:
        for frame in source.frames():
            yield frame.image

    rate = next(source.frames()).rate
    times = None
    if rate > 0:
        times = tuple(index * MS_A_SECOND / rate for index in range(source.count()))
    return ClipContent(frames, times)


def write_results(
    args: argparse.Namespace,
    survey: Survey,
    extracted: Sequence[tuple[Extracted, str]],
    folder: Path,
) -> None:
    """Write the table and the data.yaml, and say what was done and what is left to a person.

    Raises:
        UserError: there is no frame.
    """
    for problem in survey.problems:
        LOGGER.warning(f"warning: {problem}")
    clips = [clip for clip, _ in extracted if clip.files]
    if not clips:
        raise UserError(f"--source {args.source}: no frame was kept of {len(survey.clips)} clips")
    write_table(folder / "extracted.csv", extracted, args.manufacturer)
    write_data(folder, clips)
    if survey.passed_by:
        others = ", ".join(f"{count} {kind}" for kind, count in survey.passed_by.most_common())
        LOGGER.warning(f"warning: --source: left out: {others}")
    frames = sum(len(clip.files) for clip in clips)
    patients = len({clip.name.patient for clip in clips})
    LOGGER.info(
        f"{frames} frames of {len(clips)} of {len(survey.clips)} clips of {patients} patients "
        f"are in {folder}"
    )
    LOGGER.info(
        f"look at every picture in {folder / 'sheets'} before you give frames away: letters "
        "inside the image region are still there, and no program can promise that they name nobody"
    )


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


def write_data(folder: Path, clips: Sequence[Extracted]) -> None:
    """Write train.txt, val.txt and data.yaml: a fifth of the patients, the last ones, for val."""
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
    )
    write_split(folder, data, splits, DATA_NOTE)

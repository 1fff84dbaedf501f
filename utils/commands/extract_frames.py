"""What extract_frames.py does: frames for a data set, out of what clinics hold.

Nothing that is printed or written names a file of the source, since its name may be the patient's:
a clip is called by its pseudonym, any other file by its place in the order of paths.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.commands.split_dataset import refuse_full
from utils.core.files import refuse_unwritable
from utils.core.lock import claim_run_folder
from utils.core.script import LOGGER, UserError
from utils.core.terminal import one_line
from utils.core.user_file import real_path
from utils.curation.extracted_set import write_data, write_table
from utils.curation.extraction import ClipContent, Extracted, Selection, extract
from utils.curation.identity import (
    dicom_identity,
    file_identity,
    manufacturer_class,
    names_nobody,
    study_in,
)
from utils.curation.pseudonyms import (
    ClipName,
    Identity,
    KeyRow,
    give_names,
    read_key,
    write_key,
)
from utils.curation.sector import is_tissue
from utils.data.dicom import INSTALL, has_reader, open_dicom
from utils.data.splits import below
from utils.inference.kinds import Content, Kind, content_of
from utils.inference.sources import Source

MS_A_SECOND = 1000


@dataclass(frozen=True)
class ClipFile:
    """A file of the source that holds a clip.

    Attributes:
        place: what it is called where its name must not be: "file 3 of 40".
    """

    path: Path
    place: str
    content: Content
    identity: Identity

    @property
    def is_dicom(self) -> bool:
        return self.content.kind is Kind.DICOM


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
    if args.key:
        refuse_unwritable(real_path(args.key))
        read_key(real_path(args.key))  # refused now rather than after the survey
    survey = look_through(Path(args.source))
    with claim_run_folder(folder.parent, folder.name, exist_ok=True) as claimed:
        refuse_full(claimed.folder, args.out)
        names = names_of(survey.clips, args.key)
        survey.problems += shared_ids(survey.clips, names)
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


def names_of(clips: Sequence[ClipFile], key: str | None) -> list[ClipName]:
    """The clips' pseudonyms, which are in the key before the first frame is written."""
    identities = [clip.identity for clip in clips]
    if not key:
        return give_names(identities, [], counts_on=False)
    path = real_path(key)
    known = read_key(path)
    names = give_names(identities, known, counts_on=True)
    new = [KeyRow(name, own) for name, own in zip(names, identities, strict=True)]
    write_key(path, merged(known, new))
    return names


def shared_ids(clips: Sequence[ClipFile], names: Sequence[ClipName]) -> Iterator[str]:
    """A line for every patient who may be several, as studies share an ID that names nobody."""
    studies: dict[int, set[str]] = defaultdict(set)
    for clip, name in zip(clips, names, strict=True):
        if clip.is_dicom and names_nobody(clip.identity.patient):
            studies[name.patient].add(study_in(clip.path))
    for patient, own in studies.items():
        if len(own) > 1:
            yield (
                f"P{patient:04d}: {len(own)} studies share an ID that names nobody, such as "
                "ANONYMOUS, so they count as one patient; give each patient an ID of their own"
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
        add_file(survey, path, place, root)
    known = patients_of_folders(survey.clips, root)
    for index, clip in enumerate(survey.clips):
        patient = known.get(clip.identity.patient, clip.identity.patient)
        survey.clips[index] = replace(clip, identity=replace(clip.identity, patient=patient))
    if not survey.clips:
        problem = "; ".join([f"no clip among its {len(files)} files", *survey.problems])
        raise UserError(f"--source {root}: {problem}; expected DICOM clips or videos")
    return survey


def patients_of_folders(clips: Sequence[ClipFile], root: Path) -> dict[str, str]:
    """What stands for a folder's patient -> their ID, where all DICOM clips there have the same."""
    found: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.is_dicom:
            found[file_identity(clip.path, root).patient].add(clip.identity.patient)
    return {folder: own.pop() for folder, own in found.items() if len(own) == 1}


def add_file(survey: Survey, path: Path, place: str, root: Path) -> None:
    content = content_of(path)
    if content.kind is Kind.DICOM:
        add_dicom(survey, ClipFile(path, place, content, file_identity(path, root)), root)
    elif content.name and not has_reader():
        raise UserError(f"--source {root}: it holds DICOM, which needs pydicom: {INSTALL}")
    elif content.name:  # which may repeat what is in the header
        survey.passed_by["DICOM without a picture"] += 1
    elif content.is_clip:
        survey.clips.append(ClipFile(path, place, content, file_identity(path, root)))
    else:
        survey.passed_by["of other kinds"] += 1


def add_dicom(survey: Survey, file: ClipFile, root: Path) -> None:
    try:
        clip = open_dicom(file.path)
    except UserError as error:
        survey.problems.append(anonymous(error, file.path, file.place))
        return
    if clip.frame_count == 1 and not any(map(is_tissue, clip.regions)):
        survey.passed_by["single pictures without an image region"] += 1
        return
    survey.clips.append(replace(file, identity=dicom_identity(file.path, root)))


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
            survey.problems.append(
                f"{clip.place}: has the UID of {name}; taken for a copy and left out"
            )
            continue
        try:
            found = extract(clip_content(clip, name, survey), name, folder, selection)
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


def clip_content(clip: ClipFile, name: ClipName, survey: Survey) -> ClipContent:
    """A clip's frames, times and regions; what is odd about it is noted in the survey."""
    if not clip.is_dicom:
        return video_content(clip)
    opened = open_dicom(clip.path)
    survey.problems += [anonymous(UserError(text), clip.path, name) for text in opened.warnings]
    return ClipContent(opened.frames, opened.frame_times_ms, opened.regions)


def video_content(clip: ClipFile) -> ClipContent:
    """A video, a GIF or a stack; a video's frames are equally far apart, by the rate it states."""
    source = Source(clip.path, Path(clip.path.stem), None, clip.content)

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
    write_data(folder, clips, args.only_colour)
    if survey.passed_by:
        others = ", ".join(f"{count} {kind}" for kind, count in survey.passed_by.most_common())
        LOGGER.warning(f"warning: --source: left out: {others}")
    frames = sum(len(clip.files) for clip in clips)
    patients = len({clip.name.patient for clip in clips})
    LOGGER.info(
        f"{frames} frames of {len(clips)} of {len(survey.clips)} clips of {patients} patients "
        f"are in {folder}"
    )
    if args.key:
        LOGGER.info(f"who they are is in {args.key}: keep it apart from the frames")
    LOGGER.info(
        f"look at every picture in {folder / 'sheets'} before you give frames away: letters "
        "inside the image region are still there, and no program can promise that they name nobody"
    )

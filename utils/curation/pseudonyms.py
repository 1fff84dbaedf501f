"""Names for patients and clips that say nothing of them: P0001_C002.

The numbers come from a counter, or from a random generator, never from what they stand for: a hash
of a patient's ID is found again by hashing all IDs that there are. The table that leads back to
the patients is the *key*, a file that only its owner sees.
"""

from __future__ import annotations

import csv
import io
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.core.files import write_atomically
from utils.core.script import UserError
from utils.core.user_file import read_regular

KEY_COLUMNS = ("name", "patient", "clip", "file")
CLIP_NAME = re.compile(r"P(\d{4,})_C(\d{3,})")
MOST_DRAWN = 9999  # numbers have four digits while a tenth of them is enough
MOST_KEY_BYTES = 1 << 28


@dataclass(frozen=True)
class Identity:
    """What tells a clip, and its patient, from all others. It leads back to the patient.

    Attributes:
        patient: their ID, or the folder that stands for it.
        clip: its UID, or its path.
        file: where it was found; another place makes it no other clip.
    """

    patient: str
    clip: str
    file: str


@dataclass(frozen=True)
class ClipName:
    """The pseudonym of a clip.

    Attributes:
        patient, clip: their numbers; a clip's counts within its patient. Both begin at 1.
    """

    patient: int
    clip: int

    def __str__(self) -> str:
        return f"P{self.patient:04d}_C{self.clip:03d}"

    def frame(self, number: int) -> str:
        """What a frame is called, by its number in the clip, from 1."""
        return f"{self}_F{number:04d}"


@dataclass(frozen=True)
class KeyRow:
    """A line of a key."""

    name: ClipName
    identity: Identity


def give_names(
    identities: Sequence[Identity], known: Sequence[KeyRow], counts_on: bool
) -> list[ClipName]:
    """A name for each clip, in the given order; clips and patients that are known keep theirs.

    New patients come in random order, so that their numbers tell nothing of the order of files.

    Args:
        known: the key's rows.
        counts_on: number new patients after the last known one; else draw the numbers at random.
    """
    names = {row.identity.clip: row.name for row in known}
    patients = {row.identity.patient: row.name.patient for row in known}
    last_clip: dict[int, int] = {}
    for row in known:
        number = row.name.patient
        last_clip[number] = max(row.name.clip, last_clip.get(number, 0))
    patients |= _new_patients(identities, patients, counts_on)
    for identity in identities:
        if identity.clip in names:
            continue
        patient = patients[identity.patient]
        last_clip[patient] = last_clip.get(patient, 0) + 1
        names[identity.clip] = ClipName(patient, last_clip[patient])
    return [names[identity.clip] for identity in identities]


def _new_patients(
    identities: Sequence[Identity], known: Mapping[str, int], counts_on: bool
) -> dict[str, int]:
    """Patient who is not known -> number."""
    generator = random.SystemRandom()
    new = sorted({identity.patient for identity in identities} - known.keys())
    generator.shuffle(new)
    if counts_on:
        first = max(known.values(), default=0) + 1
        numbers = list(range(first, first + len(new)))
    else:
        numbers = generator.sample(range(1, max(MOST_DRAWN, 10 * len(new)) + 1), len(new))
    return dict(zip(new, numbers, strict=True))


def read_key(path: Path) -> list[KeyRow]:
    """The rows of a key; none if there is no such file yet.

    Raises:
        UserError: it is not a key.
        OSError: it cannot be read.
    """
    if not os.path.lexists(path):
        return []
    text = read_regular(path, MOST_KEY_BYTES).decode("utf-8", "surrogateescape")
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header, *rows = list(lines) or [[]]
    except csv.Error:
        raise UserError(f"--key {path}: is no table; give a key that this script wrote") from None
    if tuple(header) != KEY_COLUMNS:
        raise UserError(
            f"--key {path}: the first line is not {','.join(KEY_COLUMNS)}; "
            "give a key that this script wrote, or the name of a new file"
        )
    return [_row(path, number, cells) for number, cells in enumerate(rows, start=2)]


def _row(path: Path, number: int, cells: Sequence[str]) -> KeyRow:
    found = None
    if len(cells) == len(KEY_COLUMNS):
        found = CLIP_NAME.fullmatch(cells[0])
    if found is None:
        raise UserError(
            f"--key {path}: row {number} is damaged, expected P0001_C002 and three texts; "
            "take an earlier copy of the file"
        )
    return KeyRow(ClipName(int(found[1]), int(found[2])), Identity(*cells[1:]))


def write_key(path: Path, rows: Sequence[KeyRow]) -> None:
    """Write a key that only its owner may read.

    Raises:
        OSError: it cannot be written.
    """

    def write(temporary: Path) -> None:
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
            writer = csv.writer(stream)
            writer.writerow(KEY_COLUMNS)
            for row in rows:
                owner = row.identity
                writer.writerow([row.name, owner.patient, owner.clip, owner.file])

    write_atomically(path, write)

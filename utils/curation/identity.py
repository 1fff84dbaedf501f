"""Who a clip is of, for the key and nothing else; its machine's make, as one of a few words."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from utils.core.user_file import real_path
from utils.curation.pseudonyms import Identity

TAGS = ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "Manufacturer")
# Part of what manufacturers call themselves, in small letters -> the class that is written
MANUFACTURERS = {
    "ge ": "GE",
    "g.e.": "GE",
    "general electric": "GE",
    "vingmed": "GE",
    "philips": "Philips",
    "siemens": "Siemens",
    "acuson": "Siemens",
    "canon": "Canon",
    "toshiba": "Canon",
    "samsung": "Samsung",
    "medison": "Samsung",
    "mindray": "Mindray",
    "fujifilm": "Fujifilm",
    "sonosite": "Fujifilm",
    "hitachi": "Fujifilm",
    "aloka": "Fujifilm",
    "esaote": "Esaote",
}
OTHER_MANUFACTURER = "other"
# Patient IDs that files of several patients may share once they are anonymised; ANON012 is none
NOBODY = re.compile(r"(anon|unknown|de-?ident|no.?name)[^1-9]*|none|null|n/?a|[0x]+", re.IGNORECASE)


def dicom_identity(path: Path, root: Path) -> Identity:
    """Of a DICOM file below the folder `root`.

    The patient is the patient ID; else the study; else what `file_identity` takes.
    """
    file = file_identity(path, root)
    clip = _header(path)["SOPInstanceUID"]
    return Identity(patient_in(path) or file.patient, clip or file.clip, file.file)


def patient_in(path: Path) -> str:
    """The patient ID in a DICOM file, else its study; empty where it has neither."""
    header = _header(path)
    return header["PatientID"] or header["StudyInstanceUID"]


def names_nobody(patient: str) -> bool:
    """Whether a patient ID is a word such as ANONYMOUS, which may stand for several patients."""
    return NOBODY.fullmatch(patient) is not None


def study_in(path: Path) -> str:
    """The study in a DICOM file; empty where it has none."""
    return _header(path)["StudyInstanceUID"]


def file_identity(path: Path, root: Path) -> Identity:
    """Of a file without a header that names a patient.

    The folder directly below `root` that the file lies in stands for the patient; a file that lies
    in `root` itself is a patient of its own.
    """
    first_folder = root / path.relative_to(root).parts[0]
    return Identity(str(real_path(first_folder)), str(real_path(path)), str(real_path(path)))


def manufacturer_class(path: Path) -> str:
    """The class of a DICOM file's Manufacturer: a word of `MANUFACTURERS`, `other`, or nothing."""
    text = _header(path)["Manufacturer"]
    if not text:
        return ""
    for part, name in MANUFACTURERS.items():
        if part in f"{text.lower()} ":
            return name
    return OTHER_MANUFACTURER


def _header(path: Path) -> dict[str, str]:
    """Tag -> its value, or nothing where it is absent or damaged."""
    from pydicom import dcmread

    with _hushed():
        header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(TAGS))
        return {tag: _text(header, tag) for tag in TAGS}


def _text(header: object, tag: str) -> str:
    try:
        return str(header.get(tag) or "").strip()
    except Exception:  # pydicom decodes a value when it is asked for, and a damaged one can be all
        return ""


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep pydicom's warnings back: they repeat what is in the header."""
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled

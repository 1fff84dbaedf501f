"""The embedded default data set: stylised colour-Doppler echocardiography, drawn, not recorded.

What is simulated. Three views whose chambers, walls and valves lie where anatomy puts them: A4C
(with the root of the aorta in sight), PSAX at the level of the aortic valve, PLAX. Each synthetic
patient has one heart (size, proportions, smooth deformation), one machine (frame size, sector
angle, gain, dynamic range, speckle size, colour map, furniture on the screen) and two clips of
different views. Each frame has a phase of the beat: ventricles contract while atria fill, valves
open and close. A *jet* is flow backwards through a closed valve; its kind (AR, MR, PR, TR: aortic,
mitral, pulmonary, tricuspid regurgitation) is which valve it leaves, not how it looks: all kinds
share one turbulent mosaic of colours. *Forward flow* through open valves, smooth and of one colour,
appears too and is not labelled. Red flows towards the probe and blue away, unless the operator
inverted the colours; speeds beyond the scale wrap around. Speckle is complex Gaussian scatter times
the reflectivity, smoothed along and across the beams, log-compressed, and converted from beams to
pixels.

What is not simulated. Physics: no wave propagation, no real flow, no artefacts; no
electrocardiogram, no disease that ties a patient's clips together, no mistakes of a human labeller
(a box is the exact bounding box of the jet's pixels, a view is always right). It shows whether a
program trains, and says nothing about real patients.

Anatomy is in *sector units*: origin at the probe, x to the right, y down, 1 = the depth of the
picture.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from utils.core.files import write_bytes
from utils.core.lock import is_alive
from utils.core.script import UserError
from utils.data.phantom.anatomy import KINDS, VIEWS
from utils.data.phantom.frames import FrameSpec, draw
from utils.data.phantom.patients import move_probe, new_patient

TRAIN_PATIENTS = 60
VAL_PATIENTS = 16
FRAMES_PER_CLIP = 2  # and two clips a patient

EMPTY_EVERY = 17  # one frame in so many has no jet
NO_VIEW_EVERY = 35  # one in so many has no view line

README = """\
Synthetic colour-Doppler echocardiography frames, drawn by utils/data/phantom (seed {seed}).

No patient was involved and no physics was simulated: the pictures show whether a program trains.
Boxes are exact. Classes: AR, MR, PR, TR. Views, in the order of the one-hot lines: A4C, PSAX, PLAX.
"""

BOX_FORMS = ("corners", "xywh", "outline")
# What stands before, between and after the view's values.
VIEW_FORMS = (("", " ", ""), ("[", ", ", "]"), ("", ", ", ""), ("[", " ", "]"))
# The third: a blank line before the view, or none.
LABEL_FORMS = tuple(product(BOX_FORMS, VIEW_FORMS, ("\n", "")))


def _box_line(kind: str, mask: np.ndarray, form: str) -> str:
    """A label line whose bounding box is that of the mask, (H, W) bool.

    Pixel (x, y) covers [x, x + 1] x [y, y + 1].
    """
    rows, columns = np.nonzero(mask)
    size = np.array([mask.shape[1], mask.shape[0]])
    low = np.array([columns.min(), rows.min()]) / size
    high = np.array([columns.max() + 1, rows.max() + 1]) / size
    if form == "xywh":
        numbers = np.concatenate([(low + high) / 2, high - low])
    elif form == "corners":
        numbers = np.array([low[0], low[1], high[0], low[1], high[0], high[1], low[0], high[1]])
    else:
        pixels = np.stack([columns, rows], axis=1)
        corners = np.concatenate([pixels + offset for offset in ([0, 0], [1, 0], [0, 1], [1, 1])])
        numbers = (cv2.convexHull(corners.astype(np.int32))[:, 0] / size).ravel()
    written = [str(KINDS.index(kind))]
    written += [f"{number:.8f}" for number in numbers]
    return " ".join(written)


def label_text(spec: FrameSpec, masks: Sequence[tuple[str, np.ndarray]]) -> str:
    """The frame's label file, in the form that `spec.index` selects."""
    box_form, (before, between, after), gap = LABEL_FORMS[spec.index % len(LABEL_FORMS)]
    lines = [_box_line(kind, mask, box_form) + "\n" for kind, mask in masks]
    if spec.index % NO_VIEW_EVERY != NO_VIEW_EVERY // 2:
        one_hot = between.join(str(int(view == spec.view)) for view in VIEWS)
        lines += [gap, before + one_hot + after]
    return "".join(lines)


def _frame_specs(patients: int) -> Iterator[list[FrameSpec]]:
    """The frames of each patient, in two clips of different views.

    A view's frames have the findings of its list in turn.
    """
    drawn = Counter()  # view -> frames with findings so far
    views = list(VIEWS)
    index = 0
    for number in range(patients):
        specs = []
        for clip, frame in product(range(2), range(FRAMES_PER_CLIP)):
            view = views[(number + clip) % len(views)]
            jets: tuple[str, ...] = ()
            if index % EMPTY_EVERY != EMPTY_EVERY - 1:
                findings = VIEWS[view].findings
                jets = tuple(findings[drawn[view] % len(findings)].split("+"))
                drawn[view] += 1
            name = f"P{number + 1:02d}_{view}-{clip + 1}_F{3 + 5 * frame:04d}"
            specs.append(FrameSpec(name, view, jets, index))
            index += 1
        yield specs


def _write_patient(
    folder: Path, split: str, number: int, specs: Sequence[FrameSpec], seed: int
) -> None:
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    patient = new_patient(number, rng)
    clips = [move_probe(patient, rng) for _ in range(2)]
    for position, spec in enumerate(specs):
        frame, masks = draw(spec, clips[position // FRAMES_PER_CLIP], rng)
        image = folder / "images" / split / f"{spec.name}.png"
        if not cv2.imwrite(str(image), frame[..., ::-1]):
            raise OSError(errno.EIO, "cannot be written; is the disk full?", str(image))
        label = folder / "labels" / split / f"{spec.name}.txt"
        write_bytes(label, label_text(spec, masks).encode())


def _remove_half_made(folder: Path) -> None:
    """Remove what processes left that were killed while they drew the data set."""
    for path in folder.parent.glob(f".{folder.name}.*.tmp"):
        pid = path.suffixes[-2].removeprefix(".")
        if pid.isdecimal() and not is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def generate(
    folder: Path,
    seed: int = 0,
    train_patients: int = TRAIN_PATIENTS,
    val_patients: int = VAL_PATIENTS,
) -> None:
    """Draw the data set; the same arguments give the same bytes, and a half-made set is never seen.

    Args:
        folder: the data set's folder; made, must not exist.
        seed: non-negative; selects hearts, machines and noise. What is in which file does not
            depend on it.
        train_patients, val_patients: how many; each has 2 clips of `FRAMES_PER_CLIP` frames.

    Raises:
        UserError: the folder exists.
        OSError: it cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it to draw the data set again")
    _remove_half_made(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for kind, split in product(("images", "labels"), ("train", "val")):
            (temporary / kind / split).mkdir(parents=True)
        for number, specs in enumerate(_frame_specs(train_patients + val_patients)):
            split = "val"
            if number < train_patients:
                split = "train"
            _write_patient(temporary, split, number, specs, seed)
        write_bytes(temporary / "README.txt", README.format(seed=seed).encode())
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # else another process, started at the same time, was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

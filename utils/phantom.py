"""The embedded default data set: stylised colour-Doppler echocardiography, drawn, not recorded.

What is simulated. Three views whose chambers, walls and valves lie where anatomy puts them: A4C (with the
root of the aorta in sight), PSAX at the level of the aortic valve, PLAX. Each synthetic patient has one heart
(size, proportions, smooth deformation), one machine (frame size, sector angle, gain, dynamic range, speckle
size, colour map, furniture on the screen) and two clips of different views. Each frame has a phase of the
beat: ventricles contract while atria fill, valves open and close. A *jet* is flow backwards through a closed
valve; its kind (AR, MR, PR, TR: aortic, mitral, pulmonary, tricuspid regurgitation) is which valve it leaves,
not how it looks: all kinds share one turbulent mosaic of colours. *Forward flow* through open valves, smooth
and of one colour, appears too and is not labelled. Red flows towards the probe and blue away, unless the
operator inverted the colours; speeds beyond the scale wrap around. Speckle is complex Gaussian scatter times
the reflectivity, smoothed along and across the beams, log-compressed, and converted from beams to pixels.

What is not simulated. Physics: no wave propagation, no real flow, no artefacts; no electrocardiogram, no
disease that ties a patient's clips together, no mistakes of a human labeller (a box is the exact bounding box
of the jet's pixels, a view is always right). It shows whether a program trains, and says nothing about real
patients.

Anatomy is in *sector units*: origin at the probe, x to the right, y down, 1 = the depth of the picture.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from utils.general import UserError

KINDS = ("AR", "MR", "PR", "TR")
TRAIN_PATIENTS, VAL_PATIENTS = 60, 16
FRAMES_PER_CLIP = 2  # and two clips a patient
FRAME_SIZES = ((320, 240), (320, 240), (320, 240), (400, 300), (352, 288))  # width, height; patients in turn
EMPTY_EVERY, NO_VIEW_EVERY = 17, 35  # one frame in so many has no jet, no view line
FORWARD_FLOW_SHARE = 0.6  # of the open valves
JET_LENGTH, JET_WIDTH = (0.8, 1.25), (0.9, 1.25)  # times the typical jet of the valve
DEFORMATION, ROTATION, SCALE, SHIFT = 0.010, 0.12, (0.88, 1.04), 0.035  # of hearts; radians, sector units

README = """Synthetic colour-Doppler echocardiography frames, drawn by utils/phantom.py (seed {seed}).

No patient was involved and no physics was simulated: the pictures show whether a program trains.
Boxes are exact. Classes: AR, MR, PR, TR. Views, in the order of the one-hot lines: A4C, PSAX, PLAX.
"""


# ---- anatomy -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chamber:
    """A blood pool: a closed outline, (n, 2), and its size when the ventricles are contracted."""

    outline: np.ndarray
    systole: float = 1.0


@dataclass(frozen=True)
class Valve:
    """Two leaflets. Walking from the first hinge to the second, forward flow goes to the left.

    `length`, `width` (half) and `bend` are of its typical jet. An `en_face` valve is seen along the flow.
    """

    hinges: np.ndarray
    opens_in_systole: bool
    length: float
    width: float
    bend: float = 0.0
    en_face: bool = False


@dataclass(frozen=True)
class View:
    """What one cut through the heart shows. Valves go by the kind of jet they leak.

    `findings` are the jets of successive frames; MR and TR belong to systole, AR and PR to diastole.
    """

    heart: np.ndarray
    chambers: dict[str, Chamber]
    valves: dict[str, Valve]
    findings: tuple[str, ...]


def _points(text: str) -> np.ndarray:
    """ "x,y x,y ..." in percent of a sector unit -> (n, 2)."""
    return np.array([pair.split(",") for pair in text.split()], dtype=np.float64) / 100


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    turns = np.arange(12) * np.pi / 6
    return np.stack([x + radius_x * np.cos(turns), y + radius_y * np.sin(turns)], axis=1) / 100


A4C = View(
    heart=_points("4,9 21,17 37,40 41,62 37,86 18,96 -14,95 -36,85 -41,62 -34,40 -17,20"),
    chambers={
        "left ventricle": Chamber(_points("6,15.5 16,22 27,38 31,52 28,61 16,63 5,61 2,50 0.5,32"), 0.84),
        "right ventricle": Chamber(_points("-7.5,27 -6,42 -4.5,59 -15,61 -28,59 -31,50 -24,37 -14,29"), 0.86),
        "left atrium": Chamber(_points("15,67.5 21,66 29,67.5 34.5,77 29,89 17,92 8,88 10,77"), 1.08),
        "right atrium": Chamber(_points("-6,66 -16,63.5 -28,65 -33,75 -28,86 -16,90 -5,87 -2,77"), 1.08),
        "root of the aorta": Chamber(_points("2.5,64 10,64 10.5,70 7,76 3,74 1,69")),
    },
    valves={
        "AR": Valve(_points("10.5,63 3,63"), True, 0.25, 0.062, 0.03),
        "MR": Valve(_points("13.5,65 28.5,65"), False, 0.23, 0.08, -0.02),
        "TR": Valve(_points("-26,62 -6.5,62"), False, 0.23, 0.085, 0.02),
    },
    findings=("MR", "TR", "AR", "MR+TR", "AR", "TR", "MR"),
)

PSAX = View(
    heart=_ellipse(0, 55, 45, 43),
    chambers={
        "right ventricle and its outflow": Chamber(
            _points("-33,43 -23,29.5 -9,20 8,17.5 20.5,22.5 25.5,31 19,39 10,33.5 -2,31 -12,34 -17.5,43 -25,46"),
            0.95,
        ),
        "pulmonary artery": Chamber(_points("20.5,41.5 27.5,34 34.5,45 36.5,58 31,73 23.5,70 25.5,59 23.5,48")),
        "right atrium": Chamber(_points("-20,50.5 -30,49 -39,58 -36,73 -25,80 -16.5,75 -15.5,61"), 1.08),
        "left atrium": Chamber(_points("0,66.5 13,68 20,77 14,89 0,92 -12,88 -13,76"), 1.08),
        "aorta": Chamber(_ellipse(2, 48.5, 12.5, 12.5)),
    },
    valves={
        "AR": Valve(_points("-9,48.5 13,48.5"), True, 0.15, 0.08, en_face=True),
        "PR": Valve(_points("27.5,31.5 19.5,40.5"), True, 0.25, 0.068, -0.03),
        "TR": Valve(_points("-32.5,47 -18.5,47.5"), False, 0.25, 0.078),
    },
    findings=("PR", "TR", "PR", "AR+PR", "TR", "PR", "AR+PR"),
)

PLAX = View(
    heart=_points("-44,58 -36,38 -20,20 0,11 20,13 42,28 50,52 44,74 25,83 0,83 -20,82 -37,74"),
    chambers={
        "right ventricle": Chamber(_points("-20,26 -5,17.5 11,17 19,22 10,27.5 -6,30 -19,36 -24,33"), 0.92),
        "left ventricle": Chamber(_points("-37,60 -30,48 -14,40.5 0,38.5 6,41 5.5,52 1,62 -7,70 -20,73 -33,70"), 0.84),
        "root of the aorta": Chamber(_points("7.5,37.5 18,33.5 33,29 39,37 30,45.5 19,48.5 8.5,51")),
        "left atrium": Chamber(_points("6,61 13,55 25,53.5 37,55 41,64 35,74 20,78 7,74 3,67"), 1.08),
        "descending aorta": Chamber(_ellipse(20, 88.5, 5, 4)),
    },
    valves={
        "AR": Valve(_points("6.2,38.5 8,50.5"), True, 0.27, 0.062, -0.03),
        "MR": Valve(_points("2,71.5 6,57.5"), False, 0.27, 0.08, 0.02),
    },
    findings=("AR", "MR", "AR", "MR", "AR", "MR", "MR"),
)

VIEWS = {"A4C": A4C, "PSAX": PSAX, "PLAX": PLAX}


# ---- patients ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patient:
    """One heart in front of one machine: everything that the frames of a patient share."""

    size: tuple[int, int]  # width, height
    half_angle: float
    rotation: float
    scale: np.ndarray  # (2,)
    shift: np.ndarray  # (2,)
    waves: np.ndarray  # (2, 2): frequency and phase, per axis, of the smooth deformation
    gain_db: float
    range_db: float
    speckle: tuple[float, float]  # along and across the beam, in samples
    polarity: int  # 1: red flows towards the probe; -1: the operator inverted the colours
    shows_bar: bool
    shows_box: bool

    @property
    def probe(self) -> tuple[float, float]:
        """The sector's origin in pixels."""
        return self.size[0] / 2, self.depth * 0.025

    @property
    def depth(self) -> float:
        """The length of a sector unit in pixels."""
        return self.size[1] * 0.96

    @cached_property
    def polar(self) -> tuple[np.ndarray, np.ndarray]:
        """Depth in sector units and angle from the vertical of every pixel, (H, W) float32 each."""
        x, y = (grid / self.depth for grid in self.grid(self.probe))
        return np.hypot(x, y), np.arctan2(x, y)

    def grid(self, origin: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The x and y of every pixel seen from `origin`, in pixels, (H, W) float32 each."""
        width, height = self.size
        x, y = np.arange(width) - origin[0], np.arange(height) - origin[1]
        return tuple(np.meshgrid(x.astype(np.float32), y.astype(np.float32)))

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Anatomy in sector units, (n, 2), -> this patient's pixels, (n, 2) float."""
        x, y = points.T
        (kx, px), (ky, py) = self.waves
        bent = np.stack([x + DEFORMATION * np.sin(kx * y + px), y + DEFORMATION * np.sin(ky * x + py)], axis=1)
        centre = np.array([0.0, 0.5])
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        turned = ((bent - centre) * self.scale) @ np.array([[c, s], [-s, c]])
        return np.array(self.probe) + self.depth * (turned + centre + self.shift)


def _new_patient(number: int, rng: np.random.Generator) -> Patient:
    width, height = FRAME_SIZES[number % len(FRAME_SIZES)]
    speckle = rng.uniform(0.8, 1.2) * height / 240
    return Patient(
        size=(width, height),
        half_angle=rng.uniform(0.70, 0.78),
        rotation=rng.uniform(-ROTATION, ROTATION),
        scale=rng.uniform(*SCALE, size=2),
        shift=rng.uniform(-SHIFT, SHIFT, size=2),
        waves=np.stack([rng.uniform(6, 12, size=2), rng.uniform(0, 2 * np.pi, size=2)], axis=1),
        gain_db=rng.uniform(-5, 3),
        range_db=rng.uniform(43, 50),
        speckle=(0.9 * speckle, 1.3 * speckle),
        polarity=int(rng.choice([-1, 1])),
        shows_bar=rng.random() < 0.6,
        shows_box=rng.random() < 0.7,
    )


# ---- tissue ------------------------------------------------------------------------------------------------


def _smooth_outline(points: np.ndarray, pieces: int = 8) -> np.ndarray:
    """Closed Catmull-Rom spline through (n, 2) points -> (n * pieces, 2)."""
    before, start, end, after = (np.roll(points, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
    t = (np.arange(pieces) / pieces)[None, :, None]
    cubic = 3 * (start - end) + after - before
    square = 2 * before - 5 * start + 4 * end - after
    return (start + t / 2 * (end - before + t * (square + t * cubic))).reshape(-1, 2)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Float pixels to OpenCV's fixed point with 4 fractional bits."""
    return np.round(points * 16).astype(np.int32)


def _line(canvas: np.ndarray, points: np.ndarray, value: float, thickness: float, closed: bool = False) -> None:
    cv2.polylines(canvas, [_fixed(points)], closed, value, max(1, round(thickness)), cv2.LINE_AA, 4)


def _chamber_outline(chamber: Chamber, patient: Patient, systole: float) -> np.ndarray:
    points = chamber.outline
    size = 1 + (chamber.systole - 1) * systole
    centre = points.mean(axis=0)
    return _smooth_outline(patient.to_pixels(centre + (points - centre) * size))


def _leaflets(valve: Valve, patient: Patient, is_open: bool) -> list[np.ndarray]:
    """The valve's leaflets as polylines in pixels."""
    start, end = patient.to_pixels(valve.hinges)
    axis, middle = end - start, (start + end) / 2
    if valve.en_face:
        turns = np.array([[0.5], [2.6], [4.7]])
        rim = middle + np.hypot(*axis) / 2 * np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
        # Closed, the three cusps meet in a star; open, their edges make a triangle.
        return [rim] if is_open else [np.stack([middle, corner]) for corner in rim]
    forward = np.array([axis[1], -axis[0]])
    reach, gap = (0.42, 0.10) if is_open else (0.10, 0.50)
    return [
        hinge + np.array([[0], [0.7 * reach], [reach]]) * forward + np.array([[0], [0.4 * gap], [gap]]) * inward
        for hinge, inward in ((start, axis), (end, -axis))
    ]


def _draw_heart(view: View, patient: Patient, systole: float) -> tuple[np.ndarray, np.ndarray]:
    """Reflectivity, (H, W) float32 in [0, 1], and the blood pools, (H, W) bool."""
    width, height = patient.size
    unit = patient.depth
    tissue, blood = np.full((height, width), 7, np.uint8), np.zeros((height, width), np.uint8)
    heart = _smooth_outline(patient.to_pixels(view.heart))
    cv2.fillPoly(tissue, [_fixed(heart)], 30, cv2.LINE_AA, 4)
    _line(tissue, heart, 170, 0.014 * unit, closed=True)
    outlines = [_chamber_outline(chamber, patient, systole) for chamber in view.chambers.values()]
    for outline in outlines:
        _line(tissue, outline, 110, 0.018 * unit, closed=True)
    for outline in outlines:
        cv2.fillPoly(blood, [_fixed(outline)], 255, cv2.LINE_AA, 4)
    for valve in view.valves.values():
        if not valve.en_face:
            _line(blood, patient.to_pixels(valve.hinges), 255, 0.05 * unit)
    tissue = tissue * (1 - blood / 255.0)
    for valve in view.valves.values():
        for leaflet in _leaflets(valve, patient, valve.opens_in_systole == (systole > 0.5)):
            _line(tissue, leaflet, 200, 0.007 * unit, closed=valve.en_face)
    return (tissue / 255).astype(np.float32), blood > 127


# ---- speckle -----------------------------------------------------------------------------------------------


def _blur(image: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigmaX=sigma[1], sigmaY=sigma[0])


def _blur_gain(sigma: Sequence[float]) -> float:
    """By how much `_blur` reduces the standard deviation of white noise."""
    return float(2 * np.sqrt(np.pi * sigma[0] * sigma[1]))


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: Sequence[float]) -> np.ndarray:
    """Gaussian noise of unit variance, smoothed with `sigma` (rows, columns), float32."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return _blur(noise, sigma) * _blur_gain(sigma)


def _scan(reflectivity: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """What a machine shows of the reflectivity: (H, W) float32 grey levels in [0, 255], black outside."""
    samples, beams = patient.size[1], round(patient.size[0] * 0.6)
    depth = np.linspace(0, 1, samples)[:, None]
    angle = np.linspace(-patient.half_angle, patient.half_angle, beams)[None, :]
    map_x = patient.probe[0] + patient.depth * depth * np.sin(angle)
    map_y = patient.probe[1] + patient.depth * depth * np.cos(angle)
    lines = cv2.remap(reflectivity, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
    clutter = 0.35 * np.exp(-depth / 0.035) + 0.002  # near the probe, and everywhere a little
    mottle = 0.3 * _smooth_noise(rng, lines.shape, (9, 7)) + 0.35 * _smooth_noise(rng, lines.shape, (50, 9))
    amplitude = (lines * np.exp(mottle) + clutter).astype(np.float32)
    scatter = [rng.standard_normal(amplitude.shape, dtype=np.float32) for _ in range(2)]
    real, imaginary = (_blur(amplitude * part, patient.speckle) for part in scatter)
    echo = np.hypot(real, imaginary) * _blur_gain(patient.speckle)
    level_db = 20 * np.log10(echo + 1e-5) + patient.gain_db + 4 * depth
    grey = 255 * np.clip(1 + level_db / patient.range_db, 0, 1)
    return _to_pixels_from_beams(grey.astype(np.float32), patient)


def _to_pixels_from_beams(grey: np.ndarray, patient: Patient) -> np.ndarray:
    """Scan conversion: (samples, beams) -> (H, W), with the sector's edge smoothed over a pixel."""
    samples, beams = grey.shape
    radius, angle = patient.polar
    columns = (angle / patient.half_angle + 1) / 2 * (beams - 1)
    frame = cv2.remap(grey, columns, radius * (samples - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    side = (patient.half_angle - np.abs(angle)) * radius * patient.depth
    ends = np.minimum(1 - radius, radius - 0.03) * patient.depth
    return frame * np.clip(np.minimum(side, ends) + 0.5, 0, 1)


# ---- flow --------------------------------------------------------------------------------------------------

SCALE_SPEEDS = (-1.0, -0.6, -1e-4, 1e-4, 0.6, 1.0)  # of the machine's limit; away from the probe is negative
SCALE_RGB = ((150, 255, 255), (0, 110, 255), (0, 0, 110), (110, 0, 0), (255, 60, 0), (255, 255, 90))


def _colour(speed: np.ndarray) -> np.ndarray:
    """Speeds in units of the machine's limit, any shape, wrapped around as aliasing does -> RGB float."""
    wrapped = (speed + 1) % 2 - 1
    return np.stack([np.interp(wrapped, SCALE_SPEEDS, channel) for channel in zip(*SCALE_RGB, strict=True)], axis=-1)


def _plume(valve: Valve, patient: Patient, forward: bool, stretch: tuple[float, float]) -> tuple[np.ndarray, float]:
    """The stream that leaves a valve: a height over every pixel, (H, W), above 0 inside; and its direction.

    `stretch` scales length and width. The direction is the cosine to the beam: 1 flows away from the probe.
    """
    start, end = patient.to_pixels(valve.hinges)
    axis, middle = (end - start) / np.hypot(*(end - start)), (start + end) / 2
    direction = np.array([axis[1], -axis[0]]) * (1 if forward else -1)
    length, width = valve.length * stretch[0] * patient.depth, valve.width * stretch[1] * patient.depth
    x, y = patient.grid(middle)
    if valve.en_face:
        return 1 - np.hypot(x / stretch[0], y * stretch[0]) / width, 0.3 if forward else -0.3
    along = (x * float(direction[0]) + y * float(direction[1])) / length
    square = along * along
    across = (y * float(direction[0]) - x * float(direction[1]) - valve.bend * patient.depth * square) / width
    opening = np.clip(along + 0.08, 0, None)
    profile = 1.3 * np.sqrt(opening * np.sqrt(opening)) * np.sqrt(np.clip(1 - square * square, 0, None))
    overshoot = np.clip(along - 1, 0, None) + np.clip(-along, 0, None)
    beam = middle - np.array(patient.probe)
    return profile - np.abs(across) - 6 * overshoot, float(direction @ beam / np.hypot(*beam))


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, without hair; empty if there is none."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return parts == 1 + np.argmax(areas) if len(areas) else np.zeros_like(mask)


def _jet(valve: Valve, patient: Patient, room: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A regurgitant jet inside `room`: its mask, (H, W) bool, and its speeds, (H, W)."""
    stretch = rng.uniform(*JET_LENGTH), rng.uniform(*JET_WIDTH)
    height, direction = _plume(valve, patient, False, stretch)
    grain = patient.size[1] / 240
    ragged = height + 0.16 * _smooth_noise(rng, room.shape, (2.5 * grain, 2.5 * grain))
    turbulence = _smooth_noise(rng, room.shape, (2.2 * grain, 2.2 * grain))
    # Jets are fast enough to exceed the scale even where they cross the beam.
    core = -patient.polarity * np.copysign(max(abs(direction), 0.8), direction)
    speed = core * (0.3 + 0.9 * np.clip(height, 0, 1)) + 0.4 * turbulence
    return _largest_part((ragged > 0.12) & room), speed


def _forward_flow(
    valve: Valve, patient: Patient, room: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Laminar flow through an open valve: mask, (H, W) bool, and speeds, (H, W), far below the limit."""
    height, direction = _plume(valve, patient, True, (rng.uniform(0.7, 1.0), rng.uniform(0.8, 1.1)))
    grain = patient.size[1] / 240
    noise = _smooth_noise(rng, room.shape, (3.0 * grain, 3.0 * grain))
    speed = -patient.polarity * np.sign(direction) * (0.05 + 0.45 * np.clip(height + 0.2 * noise, 0, 1))
    return _largest_part((height + 0.15 * noise > 0.12) & room), speed


# ---- frames ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One frame to be drawn."""

    name: str
    view: str
    jets: tuple[str, ...]
    index: int  # over the whole data set; selects the form of the label file


def _draw_furniture(frame: np.ndarray, patient: Patient) -> None:
    """The outline of the colour box and the colour scale, where the machine shows them."""
    if patient.shows_box:
        limit = 0.93 * patient.half_angle
        angles = np.concatenate([[-limit], np.linspace(-limit, limit, 24), [limit]])
        radii = np.array([0.1] + [0.96] * 24 + [0.1])
        corners = np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)
        canvas = np.zeros(frame.shape[:2], np.uint8)
        _line(canvas, np.array(patient.probe) + patient.depth * corners, 150, 1)
        np.maximum(frame, canvas[..., None], out=frame)
    if patient.shows_bar:
        length, width = patient.size[1] // 4, patient.size[0] // 40
        speeds = patient.polarity * np.linspace(0.999, -0.999, length)[:, None].repeat(width, axis=1)
        frame[width : width + length, -2 * width : -width] = _colour(speeds)


def draw(shot: Shot, patient: Patient, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Draw a frame.

    Returns:
        The frame, (H, W, 3) uint8 RGB, and for every jet its kind and its mask, (H, W) bool.
    """
    view = VIEWS[shot.view]
    in_systole = bool({"MR", "TR"} & set(shot.jets)) if shot.jets else rng.random() < 0.5
    systole = rng.uniform(0.75, 1.0) if in_systole else rng.uniform(0.0, 0.25)
    reflectivity, blood = _draw_heart(view, patient, systole)
    frame = np.repeat(_scan(reflectivity, patient, rng)[..., None], 3, axis=-1)
    _draw_furniture(frame, patient)
    radius, angle = patient.polar
    room = blood & (np.abs(angle) < 0.93 * patient.half_angle) & (radius > 0.1) & (radius < 0.96)
    for valve in view.valves.values():
        if valve.opens_in_systole == in_systole and rng.random() < FORWARD_FLOW_SHARE:
            mask, speed = _forward_flow(valve, patient, room, rng)
            frame[mask] = 0.9 * _colour(speed[mask]) + 0.1 * frame[mask]
    masks = []
    for kind in shot.jets:
        mask, speed = _jet(view.valves[kind], patient, room, rng)
        frame[mask] = 0.95 * _colour(speed[mask]) + 0.05 * frame[mask]
        room = room & ~mask
        masks.append((kind, mask))
    return np.round(np.clip(frame, 0, 255)).astype(np.uint8), masks


# ---- labels ------------------------------------------------------------------------------------------------

BOX_FORMS = ("corners", "xywh", "outline")
VIEW_FORMS = (("", " ", ""), ("[", ", ", "]"), ("", ", ", ""), ("[", " ", "]"))  # before, between, after
LABEL_FORMS = tuple(product(BOX_FORMS, VIEW_FORMS, ("\n", "")))  # and a blank line before the view, or none


def _box_line(kind: str, mask: np.ndarray, form: str) -> str:
    """A label line whose bounding box is that of the mask: pixel (x, y) covers [x, x + 1] x [y, y + 1]."""
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
    return " ".join([str(KINDS.index(kind)), *(f"{number:.8f}" for number in numbers)])


def label_text(shot: Shot, masks: Sequence[tuple[str, np.ndarray]]) -> str:
    """The frame's label file, in the form that `shot.index` selects."""
    box_form, (before, between, after), gap = LABEL_FORMS[shot.index % len(LABEL_FORMS)]
    lines = [_box_line(kind, mask, box_form) + "\n" for kind, mask in masks]
    if shot.index % NO_VIEW_EVERY != NO_VIEW_EVERY // 2:
        one_hot = between.join(str(int(view == shot.view)) for view in VIEWS)
        lines += [gap, before + one_hot + after]
    return "".join(lines)


# ---- the data set ------------------------------------------------------------------------------------------


def _shots(patients: int) -> Iterator[list[Shot]]:
    """The frames of each patient: two clips of different views, whose findings go round the view's list."""
    drawn, views, index = Counter(), list(VIEWS), 0
    for number in range(patients):
        shots = []
        for clip, frame in product(range(2), range(FRAMES_PER_CLIP)):
            view = views[(number + clip) % len(views)]
            findings = VIEWS[view].findings[drawn[view] % len(VIEWS[view].findings)].split("+")
            is_empty = index % EMPTY_EVERY == EMPTY_EVERY - 1
            name = f"P{number + 1:02d}_{view}-{clip + 1}_F{3 + 5 * frame:04d}"
            shots.append(Shot(name, view, () if is_empty else tuple(findings), index))
            drawn[view] += not is_empty
            index += 1
        yield shots


def _move_probe(patient: Patient, rng: np.random.Generator) -> Patient:
    """The same heart and machine in another clip."""
    turn, shift = rng.uniform(-0.03, 0.03), rng.uniform(-0.01, 0.01, size=2)
    return replace(patient, rotation=patient.rotation + turn, shift=patient.shift + shift)


def _write_patient(folder: Path, split: str, number: int, shots: Sequence[Shot], seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    patient = _new_patient(number, rng)
    clips = [_move_probe(patient, rng) for _ in range(2)]
    for position, shot in enumerate(shots):
        frame, masks = draw(shot, clips[position // FRAMES_PER_CLIP], rng)
        path = folder / "images" / split / f"{shot.name}.png"
        if not cv2.imwrite(str(path), frame[..., ::-1]):
            raise OSError(f"{path}: could not be written")
        (folder / "labels" / split / f"{shot.name}.txt").write_text(label_text(shot, masks), encoding="utf-8")


def generate(
    folder: Path, seed: int = 0, train_patients: int = TRAIN_PATIENTS, val_patients: int = VAL_PATIENTS
) -> None:
    """Draw the data set; the same arguments give the same bytes, and a half-made set is never seen.

    Args:
        folder: the data set's folder; made, must not exist.
        seed: non-negative; selects hearts, machines and noise. What is in which file does not depend on it.
        train_patients, val_patients: how many; each has 2 clips of `FRAMES_PER_CLIP` frames.

    Raises:
        UserError: the folder exists.
        OSError: it cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it to draw the data set again")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for kind, split in product(("images", "labels"), ("train", "val")):
            (temporary / kind / split).mkdir(parents=True)
        for number, shots in enumerate(_shots(train_patients + val_patients)):
            _write_patient(temporary, "train" if number < train_patients else "val", number, shots, seed)
        (temporary / "README.txt").write_text(README.format(seed=seed), encoding="utf-8")
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # else another process, started at the same time, was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

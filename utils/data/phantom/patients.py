"""What a patient's frames share: size of the picture, place and shape of the heart, speckle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

# Width and height in pixels; patients have them in turn.
FRAME_SIZES = ((320, 240), (320, 240), (320, 240), (400, 300), (352, 288))

# How much hearts differ.
DEFORMATION = 0.010  # sector units
ROTATION = 0.12  # radians
SCALE = (0.88, 1.04)
SHIFT = 0.035  # sector units


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
        x = np.arange(width) - origin[0]
        y = np.arange(height) - origin[1]
        return tuple(np.meshgrid(x.astype(np.float32), y.astype(np.float32)))

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Anatomy in sector units, (n, 2), -> this patient's pixels, (n, 2) float."""
        x, y = points.T
        (frequency_x, phase_x), (frequency_y, phase_y) = self.waves
        bent_x = x + DEFORMATION * np.sin(frequency_x * y + phase_x)
        bent_y = y + DEFORMATION * np.sin(frequency_y * x + phase_y)
        bent = np.stack([bent_x, bent_y], axis=1)
        centre = np.array([0.0, 0.5])
        cos = np.cos(self.rotation)
        sin = np.sin(self.rotation)
        turned = ((bent - centre) * self.scale) @ np.array([[cos, sin], [-sin, cos]])
        return np.array(self.probe) + self.depth * (turned + centre + self.shift)


def new_patient(number: int, rng: np.random.Generator) -> Patient:
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


def move_probe(patient: Patient, rng: np.random.Generator) -> Patient:
    """The same heart and machine in another clip."""
    turn = rng.uniform(-0.03, 0.03)
    shift = rng.uniform(-0.01, 0.01, size=2)
    return replace(patient, rotation=patient.rotation + turn, shift=patient.shift + shift)

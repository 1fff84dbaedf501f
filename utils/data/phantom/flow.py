"""The colour: jets of leaking valves and the flow through open ones, as masks and speeds."""

from __future__ import annotations

import cv2
import numpy as np

from utils.data.phantom.anatomy import Valve
from utils.data.phantom.patients import Patient
from utils.data.phantom.tissue import smooth_noise

JET_LENGTH, JET_WIDTH = (0.8, 1.25), (0.9, 1.25)  # times the typical jet of the valve

SCALE_SPEEDS = (
    -1.0,
    -0.6,
    -1e-4,
    1e-4,
    0.6,
    1.0,
)  # of the machine's limit; away from the probe is negative
SCALE_RGB = ((150, 255, 255), (0, 110, 255), (0, 0, 110), (110, 0, 0), (255, 60, 0), (255, 255, 90))


def flow_colour(speed: np.ndarray) -> np.ndarray:
    """Speeds in units of the machine's limit, any shape, wrapped around as aliasing does -> RGB float."""
    wrapped = (speed + 1) % 2 - 1
    return np.stack(
        [np.interp(wrapped, SCALE_SPEEDS, channel) for channel in zip(*SCALE_RGB, strict=True)],
        axis=-1,
    )


def _plume(
    valve: Valve, patient: Patient, forward: bool, stretch: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """The stream that leaves a valve: a height over every pixel, (H, W), above 0 inside; and its direction.

    `stretch` scales length and width. The direction is the cosine to the beam: 1 flows away from
    the probe.
    """
    start, end = patient.to_pixels(valve.hinges)
    axis, middle = (end - start) / np.hypot(*(end - start)), (start + end) / 2
    direction = np.array([axis[1], -axis[0]]) * (1 if forward else -1)
    length, width = (
        valve.length * stretch[0] * patient.depth,
        valve.width * stretch[1] * patient.depth,
    )
    x, y = patient.grid(middle)
    if valve.en_face:
        return 1 - np.hypot(x / stretch[0], y * stretch[0]) / width, 0.3 if forward else -0.3
    along = (x * float(direction[0]) + y * float(direction[1])) / length
    square = along * along
    across = (
        y * float(direction[0]) - x * float(direction[1]) - valve.bend * patient.depth * square
    ) / width
    opening = np.clip(along + 0.08, 0, None)
    profile = (
        1.3 * np.sqrt(opening * np.sqrt(opening)) * np.sqrt(np.clip(1 - square * square, 0, None))
    )
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


def regurgitant_jet(
    valve: Valve, patient: Patient, room: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A regurgitant jet inside `room`: its mask, (H, W) bool, and its speeds, (H, W)."""
    stretch = rng.uniform(*JET_LENGTH), rng.uniform(*JET_WIDTH)
    height, direction = _plume(valve, patient, False, stretch)
    grain = patient.size[1] / 240
    ragged = height + 0.16 * smooth_noise(rng, room.shape, (2.5 * grain, 2.5 * grain))
    turbulence = smooth_noise(rng, room.shape, (2.2 * grain, 2.2 * grain))
    # Jets are fast enough to exceed the scale even where they cross the beam.
    core = -patient.polarity * np.copysign(max(abs(direction), 0.8), direction)
    speed = core * (0.3 + 0.9 * np.clip(height, 0, 1)) + 0.4 * turbulence
    return _largest_part((ragged > 0.12) & room), speed


def forward_flow(
    valve: Valve, patient: Patient, room: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Laminar flow through an open valve: mask, (H, W) bool, and speeds, (H, W), far below the limit."""
    height, direction = _plume(valve, patient, True, (rng.uniform(0.7, 1.0), rng.uniform(0.8, 1.1)))
    grain = patient.size[1] / 240
    noise = smooth_noise(rng, room.shape, (3.0 * grain, 3.0 * grain))
    speed = (
        -patient.polarity * np.sign(direction) * (0.05 + 0.45 * np.clip(height + 0.2 * noise, 0, 1))
    )
    return _largest_part((height + 0.15 * noise > 0.12) & room), speed

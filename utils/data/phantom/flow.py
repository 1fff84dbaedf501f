"""The colour: jets of leaking valves and the flow through open ones, as masks and speeds."""

from __future__ import annotations

import cv2
import numpy as np

from utils.data.phantom.anatomy import Valve
from utils.data.phantom.patients import Patient
from utils.data.phantom.tissue import smooth_noise

# Times the typical jet of the valve.
JET_LENGTH = (0.8, 1.25)
JET_WIDTH = (0.9, 1.25)

# The colour scale: speeds in units of the machine's limit, negative away from the probe.
SCALE_SPEEDS = (-1.0, -0.6, -1e-4, 1e-4, 0.6, 1.0)
SCALE_RGB = ((150, 255, 255), (0, 110, 255), (0, 0, 110), (110, 0, 0), (255, 60, 0), (255, 255, 90))


def flow_colour(speed: np.ndarray) -> np.ndarray:
    """Speeds in units of the machine's limit, any shape (...) -> (..., 3) RGB float.

    Speeds beyond the limit wrap around, as aliasing does.
    """
    wrapped = (speed + 1) % 2 - 1
    channels = []
    for channel in zip(*SCALE_RGB, strict=True):
        channels.append(np.interp(wrapped, SCALE_SPEEDS, channel))
    return np.stack(channels, axis=-1)


def _plume(
    valve: Valve, patient: Patient, forward: bool, stretch: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """The stream that leaves a valve, and its direction.

    Args:
        forward: whether it flows as it should, not back.
        stretch: factors of its length and width.

    Returns:
        A height over every pixel, (H, W), above 0 inside the stream; and the cosine of the stream
        to the beam, 1 where it flows away from the probe.
    """
    sign = 1
    if not forward:
        sign = -1
    start, end = patient.to_pixels(valve.hinges)
    axis = (end - start) / np.hypot(*(end - start))
    middle = (start + end) / 2
    length = valve.length * stretch[0] * patient.depth
    width = valve.width * stretch[1] * patient.depth
    x, y = patient.grid(middle)
    if valve.en_face:
        return 1 - np.hypot(x / stretch[0], y * stretch[0]) / width, sign * 0.3
    direction = np.array([axis[1], -axis[0]]) * sign
    direction_x = float(direction[0])
    direction_y = float(direction[1])
    along = (x * direction_x + y * direction_y) / length
    square = along * along
    bend = valve.bend * patient.depth * square
    across = (y * direction_x - x * direction_y - bend) / width
    opening = np.clip(along + 0.08, 0, None)
    taper = np.sqrt(np.clip(1 - square * square, 0, None))
    profile = 1.3 * np.sqrt(opening * np.sqrt(opening)) * taper
    overshoot = np.clip(along - 1, 0, None) + np.clip(-along, 0, None)
    height = profile - np.abs(across) - 6 * overshoot
    beam = middle - np.array(patient.probe)
    return height, float(direction @ beam / np.hypot(*beam))


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, without hair; empty if there is none."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return np.zeros_like(mask)
    return parts == 1 + np.argmax(areas)


def regurgitant_jet(
    valve: Valve, patient: Patient, blood: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A regurgitant jet inside the `blood`, (H, W) bool.

    Returns:
        Its mask, (H, W) bool, and its speeds, (H, W), in units of the machine's limit.
    """
    stretch = rng.uniform(*JET_LENGTH), rng.uniform(*JET_WIDTH)
    height, direction = _plume(valve, patient, forward=False, stretch=stretch)
    grain = patient.size[1] / 240
    ragged = height + 0.16 * smooth_noise(rng, blood.shape, (2.5 * grain, 2.5 * grain))
    turbulence = smooth_noise(rng, blood.shape, (2.2 * grain, 2.2 * grain))
    # Jets are fast enough to exceed the scale even where they cross the beam.
    core = -patient.polarity * np.copysign(max(abs(direction), 0.8), direction)
    speed = core * (0.3 + 0.9 * np.clip(height, 0, 1)) + 0.4 * turbulence
    return _largest_part((ragged > 0.12) & blood), speed


def forward_flow(
    valve: Valve, patient: Patient, blood: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Laminar flow through an open valve, inside the `blood`, (H, W) bool.

    Returns:
        Its mask, (H, W) bool, and its speeds, (H, W), far below the machine's limit, which is 1.
    """
    stretch = rng.uniform(0.7, 1.0), rng.uniform(0.8, 1.1)
    height, direction = _plume(valve, patient, forward=True, stretch=stretch)
    grain = patient.size[1] / 240
    noise = smooth_noise(rng, blood.shape, (3.0 * grain, 3.0 * grain))
    core = -patient.polarity * np.sign(direction)
    speed = core * (0.05 + 0.45 * np.clip(height + 0.2 * noise, 0, 1))
    return _largest_part((height + 0.15 * noise > 0.12) & blood), speed

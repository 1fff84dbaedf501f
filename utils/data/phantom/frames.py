"""One frame: tissue, flow and the machine's scales put together, and the box round the jet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.data.phantom.anatomy import VIEWS
from utils.data.phantom.flow import flow_colour, forward_flow, regurgitant_jet
from utils.data.phantom.patients import Patient
from utils.data.phantom.tissue import draw_heart, draw_line, ultrasound_scan

FORWARD_FLOW_SHARE = 0.6  # of the open valves
SYSTOLIC = {"MR", "TR"}  # jets of valves that are closed in systole

# The colour box: a share of the sector's angle, and depths in sector units.
COLOUR_BOX_WIDTH = 0.93
COLOUR_BOX_TOP = 0.1
COLOUR_BOX_BOTTOM = 0.96


@dataclass(frozen=True)
class FrameSpec:
    """One frame to be drawn."""

    name: str
    view: str
    jets: tuple[str, ...]
    index: int  # over the whole data set; selects the form of the label file


def _draw_furniture(frame: np.ndarray, patient: Patient) -> None:
    """The outline of the colour box and the colour scale, where the machine shows them."""
    if patient.shows_box:
        limit = COLOUR_BOX_WIDTH * patient.half_angle
        angles = np.concatenate([[-limit], np.linspace(-limit, limit, 24), [limit]])
        radii = np.array([COLOUR_BOX_TOP] + [COLOUR_BOX_BOTTOM] * 24 + [COLOUR_BOX_TOP])
        corners = np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)
        canvas = np.zeros(frame.shape[:2], np.uint8)
        draw_line(canvas, np.array(patient.probe) + patient.depth * corners, 150, 1)
        np.maximum(frame, canvas[..., None], out=frame)
    if patient.shows_bar:
        length = patient.size[1] // 4
        width = patient.size[0] // 40
        speeds = patient.polarity * np.linspace(0.999, -0.999, length)[:, None]
        bar = flow_colour(speeds.repeat(width, axis=1))
        frame[width : width + length, -2 * width : -width] = bar


def _colour_box(patient: Patient) -> np.ndarray:
    """(H, W) bool, the part of the sector in which the machine measures flow."""
    radius, angle = patient.polar
    in_width = np.abs(angle) < COLOUR_BOX_WIDTH * patient.half_angle
    return in_width & (radius > COLOUR_BOX_TOP) & (radius < COLOUR_BOX_BOTTOM)


def _draw_phase(jets: tuple[str, ...], rng: np.random.Generator) -> tuple[bool, float]:
    """Whether the frame is in systole, and how far the ventricles are contracted, 0 to 1."""
    if jets:
        in_systole = not SYSTOLIC.isdisjoint(jets)
    else:
        in_systole = rng.random() < 0.5
    if in_systole:
        return in_systole, rng.uniform(0.75, 1.0)
    return in_systole, rng.uniform(0.0, 0.25)


def draw(
    spec: FrameSpec, patient: Patient, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Draw a frame.

    Returns:
        The frame, (H, W, 3) uint8 RGB, and for every jet its kind and its mask, (H, W) bool.
    """
    view = VIEWS[spec.view]
    in_systole, systole = _draw_phase(spec.jets, rng)
    reflectivity, blood = draw_heart(view, patient, systole)
    grey = ultrasound_scan(reflectivity, patient, rng)
    frame = np.repeat(grey[..., None], 3, axis=-1)
    _draw_furniture(frame, patient)
    blood = blood & _colour_box(patient)
    for valve in view.valves.values():
        if valve.opens_in_systole == in_systole and rng.random() < FORWARD_FLOW_SHARE:
            mask, speed = forward_flow(valve, patient, blood, rng)
            frame[mask] = 0.9 * flow_colour(speed[mask]) + 0.1 * frame[mask]
    masks = []
    for kind in spec.jets:
        mask, speed = regurgitant_jet(view.valves[kind], patient, blood, rng)
        frame[mask] = 0.95 * flow_colour(speed[mask]) + 0.05 * frame[mask]
        blood = blood & ~mask
        masks.append((kind, mask))
    return np.round(np.clip(frame, 0, 255)).astype(np.uint8), masks

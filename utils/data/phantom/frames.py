"""One frame: tissue, flow and the machine's scales put together, and the box round the jet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.data.phantom.anatomy import VIEWS
from utils.data.phantom.flow import flow_colour, forward_flow, regurgitant_jet
from utils.data.phantom.patients import Patient
from utils.data.phantom.tissue import draw_heart, draw_line, ultrasound_scan

FORWARD_FLOW_SHARE = 0.6  # of the open valves


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
        draw_line(canvas, np.array(patient.probe) + patient.depth * corners, 150, 1)
        np.maximum(frame, canvas[..., None], out=frame)
    if patient.shows_bar:
        length, width = patient.size[1] // 4, patient.size[0] // 40
        speeds = patient.polarity * np.linspace(0.999, -0.999, length)[:, None].repeat(
            width, axis=1
        )
        frame[width : width + length, -2 * width : -width] = flow_colour(speeds)


def draw(
    shot: Shot, patient: Patient, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Draw a frame.

    Returns:
        The frame, (H, W, 3) uint8 RGB, and for every jet its kind and its mask, (H, W) bool.
    """
    view = VIEWS[shot.view]
    in_systole = bool({"MR", "TR"} & set(shot.jets)) if shot.jets else rng.random() < 0.5
    systole = rng.uniform(0.75, 1.0) if in_systole else rng.uniform(0.0, 0.25)
    reflectivity, blood = draw_heart(view, patient, systole)
    frame = np.repeat(ultrasound_scan(reflectivity, patient, rng)[..., None], 3, axis=-1)
    _draw_furniture(frame, patient)
    radius, angle = patient.polar
    room = blood & (np.abs(angle) < 0.93 * patient.half_angle) & (radius > 0.1) & (radius < 0.96)
    for valve in view.valves.values():
        if valve.opens_in_systole == in_systole and rng.random() < FORWARD_FLOW_SHARE:
            mask, speed = forward_flow(valve, patient, room, rng)
            frame[mask] = 0.9 * flow_colour(speed[mask]) + 0.1 * frame[mask]
    masks = []
    for kind in shot.jets:
        mask, speed = regurgitant_jet(view.valves[kind], patient, room, rng)
        frame[mask] = 0.95 * flow_colour(speed[mask]) + 0.05 * frame[mask]
        room = room & ~mask
        masks.append((kind, mask))
    return np.round(np.clip(frame, 0, 255)).astype(np.uint8), masks

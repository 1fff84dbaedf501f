"""The grey picture: reflectivity of the heart, speckle, and what a machine shows of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.data.phantom.anatomy import Chamber, Valve, View
from utils.data.phantom.patients import Patient


def _smooth_outline(points: np.ndarray, pieces: int = 8) -> np.ndarray:
    """Closed Catmull-Rom spline through (n, 2) points -> (n * pieces, 2)."""
    before, start, end, after = (
        np.roll(points, shift, axis=0)[:, None] for shift in (1, 0, -1, -2)
    )
    t = (np.arange(pieces) / pieces)[None, :, None]
    cubic = 3 * (start - end) + after - before
    square = 2 * before - 5 * start + 4 * end - after
    return (start + t / 2 * (end - before + t * (square + t * cubic))).reshape(-1, 2)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Float pixels to OpenCV's fixed point with 4 fractional bits."""
    return np.round(points * 16).astype(np.int32)


def draw_line(
    canvas: np.ndarray, points: np.ndarray, value: float, thickness: float, closed: bool = False
) -> None:
    cv2.polylines(canvas, [_fixed(points)], closed, value, max(1, round(thickness)), cv2.LINE_AA, 4)


def _chamber_outline(chamber: Chamber, patient: Patient, systole: float) -> np.ndarray:
    points = chamber.outline
    size = 1 + (chamber.systole - 1) * systole
    centre = points.mean(axis=0)
    return _smooth_outline(patient.to_pixels(centre + (points - centre) * size))


def _leaflets(valve: Valve, patient: Patient, is_open: bool) -> list[np.ndarray]:
    """The valve's leaflets as polylines in pixels."""
    start, end = patient.to_pixels(valve.hinges)
    axis = end - start
    middle = (start + end) / 2
    if valve.en_face:
        turns = np.array([[0.5], [2.6], [4.7]])
        rim = middle + np.hypot(*axis) / 2 * np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
        if is_open:  # the edges of the three cusps make a triangle
            return [rim]
        return [np.stack([middle, corner]) for corner in rim]  # they meet in a star
    reach = 0.10
    gap = 0.50
    if is_open:
        reach = 0.42
        gap = 0.10
    forward = np.array([axis[1], -axis[0]])
    forth = np.array([[0], [0.7 * reach], [reach]]) * forward
    inward = np.array([[0], [0.4 * gap], [gap]]) * axis
    return [start + forth + inward, end + forth - inward]


def draw_heart(view: View, patient: Patient, systole: float) -> tuple[np.ndarray, np.ndarray]:
    """Reflectivity, (H, W) float32 in [0, 1], and the blood pools, (H, W) bool."""
    width, height = patient.size
    unit = patient.depth
    tissue = np.full((height, width), 7, np.uint8)
    blood = np.zeros((height, width), np.uint8)
    heart = _smooth_outline(patient.to_pixels(view.heart))
    cv2.fillPoly(tissue, [_fixed(heart)], 30, cv2.LINE_AA, 4)
    draw_line(tissue, heart, 170, 0.014 * unit, closed=True)
    outlines = [_chamber_outline(chamber, patient, systole) for chamber in view.chambers.values()]
    for outline in outlines:
        draw_line(tissue, outline, 110, 0.018 * unit, closed=True)
    for outline in outlines:
        cv2.fillPoly(blood, [_fixed(outline)], 255, cv2.LINE_AA, 4)
    for valve in view.valves.values():
        if not valve.en_face:
            draw_line(blood, patient.to_pixels(valve.hinges), 255, 0.05 * unit)
    tissue = tissue * (1 - blood / 255.0)
    for valve in view.valves.values():
        is_open = valve.opens_in_systole == (systole > 0.5)
        for leaflet in _leaflets(valve, patient, is_open):
            draw_line(tissue, leaflet, 200, 0.007 * unit, closed=valve.en_face)
    return (tissue / 255).astype(np.float32), blood > 127


def _blur(image: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigmaX=sigma[1], sigmaY=sigma[0])


def _blur_gain(sigma: Sequence[float]) -> float:
    """By how much `_blur` reduces the standard deviation of white noise."""
    return float(2 * np.sqrt(np.pi * sigma[0] * sigma[1]))


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: Sequence[float]
) -> np.ndarray:
    """Gaussian noise of unit variance, smoothed with `sigma` (rows, columns), float32."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return _blur(noise, sigma) * _blur_gain(sigma)


def ultrasound_scan(
    reflectivity: np.ndarray, patient: Patient, rng: np.random.Generator
) -> np.ndarray:
    """What a machine shows of the reflectivity, (H, W).

    Returns:
        (H, W) float32 grey levels in [0, 255], black outside the sector.
    """
    samples = patient.size[1]
    beams = round(patient.size[0] * 0.6)
    depth = np.linspace(0, 1, samples)[:, None]
    angle = np.linspace(-patient.half_angle, patient.half_angle, beams)[None, :]
    map_x = patient.probe[0] + patient.depth * depth * np.sin(angle)
    map_y = patient.probe[1] + patient.depth * depth * np.cos(angle)
    lines = cv2.remap(
        reflectivity, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR
    )
    clutter = 0.35 * np.exp(-depth / 0.035) + 0.002  # near the probe, and everywhere a little
    fine = smooth_noise(rng, lines.shape, (9, 7))
    coarse = smooth_noise(rng, lines.shape, (50, 9))
    mottle = 0.3 * fine + 0.35 * coarse
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
    frame = cv2.remap(
        grey, columns, radius * (samples - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    side = (patient.half_angle - np.abs(angle)) * radius * patient.depth
    ends = np.minimum(1 - radius, radius - 0.03) * patient.depth
    return frame * np.clip(np.minimum(side, ends) + 0.5, 0, 1)

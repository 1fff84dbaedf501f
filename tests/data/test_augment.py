"""Augmentation: boxes move with their pixels, and a frame of an epoch is always the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_runs import assert_same_run, new_job, resume, run, small_options

from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.signals import Interrupted
from utils.data.augment import Augmenter, Sample, moved_boxes, recoloured, translation
from utils.data.dataset import JointDataset
from utils.data.loader import make_loader
from utils.data.sampling import EpochSampler
from utils.data.splits import load_split
from utils.training.trainer import train

OFF = HyperParameters()
HEIGHT, WIDTH = 96, 128
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], np.uint8)
GEOMETRY = {
    "degrees": 20,
    "translate": 0.2,
    "scale": 0.4,
    "shear": 8,
    "perspective": 0.001,
    "flipud": 0.5,
    "fliplr": 0.5,
}


def frame_of(boxes_px: Sequence[tuple[int, int, int, int, int]]) -> Sample:
    """A black frame with a box (class, left, top, right, bottom) filled in its class's colour."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rows = []
    for kind, left, top, right, bottom in boxes_px:
        frame[top:bottom, left:right] = COLOURS[kind]
        xywh = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        rows.append((kind, *np.divide(xywh, (WIDTH, HEIGHT, WIDTH, HEIGHT))))
    return frame, np.array(rows, np.float32).reshape(-1, 5)


def augmenter(
    samples: Sequence[Sample], views: Sequence[int] | None = None, seed: int = 0, **keys: float
) -> Augmenter:
    views = [0] * len(samples) if views is None else views
    return Augmenter(replace(OFF, **keys), seed, lambda index: samples[index], views)


def painted_xyxy(frame: np.ndarray, kind: int) -> np.ndarray:
    """The bounding box of the pixels nearer to a class's colour than to black, pixels."""
    rows, columns = np.nonzero(np.abs(frame.astype(int) - COLOURS[kind]).sum(axis=2) < 200)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def xyxy(row: np.ndarray) -> np.ndarray:
    centre, half = row[1:3] * (WIDTH, HEIGHT), row[3:5] * (WIDTH, HEIGHT) / 2
    return np.concatenate((centre - half, centre + half))


# ---- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys", [{key: value} for key, value in GEOMETRY.items()] + [GEOMETRY], ids=str
)
def test_boxes_move_with_their_pixels(keys: dict[str, float]):
    augment = augmenter([frame_of([(0, 50, 30, 80, 60)])], **keys)
    changed = checked = 0
    for epoch in range(40):
        frame, boxes = augment(epoch, 0)
        if len(boxes):
            np.testing.assert_allclose(xyxy(boxes[0]), painted_xyxy(frame, 0), atol=1.6)
            changed += not np.allclose(xyxy(boxes[0]), (50, 30, 80, 60), atol=0.05)
            checked += 1
    assert checked >= 30 and changed >= 10


def test_a_flip_is_exact():
    frame, boxes = frame_of([(0, 10, 20, 40, 50), (2, 90, 5, 128, 96)])
    for key, axis, column in (("fliplr", 1, 1), ("flipud", 0, 2)):
        flipped, moved = augmenter([(frame, boxes)], **{key: 1.0})(0, 0)
        assert (flipped == np.flip(frame, axis)).all()
        expected = boxes.copy()
        expected[:, column] = 1 - expected[:, column]
        np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_flip_left_to_right_swaps_the_classes_that_a_mirror_image_swaps():
    frame, boxes = frame_of([(0, 10, 20, 40, 50), (2, 90, 5, 128, 96), (1, 50, 5, 60, 15)])
    classes = {}
    for key in ("fliplr", "flipud"):
        augment = augmenter([(frame, boxes)], **{key: 1.0})
        augment.mirrored_classes = np.array([2, 1, 0])
        _, moved = augment(0, 0)
        classes[key] = moved[:, 0].tolist()
    assert classes == {"fliplr": [2, 0, 1], "flipud": [0, 2, 1]}


def test_classes_are_swapped_in_mosaics_and_mixtures_too_and_nothing_else_changes():
    samples = [frame_of([(0, 10, 20, 60, 70), (2, 64, 0, 128, 96), (1, 30, 5, 90, 55)])] * 3
    keys = GEOMETRY | {"mosaic": 0.5, "mixup": 0.5, "fliplr": 1.0}
    for epoch in range(10):
        same, before = augmenter(samples, **keys)(epoch, 0)
        augment = augmenter(samples, **keys)
        augment.mirrored_classes = np.array([2, 1, 0])
        frame, boxes = augment(epoch, 0)
        assert (frame == same).all()
        assert (boxes[:, 1:] == before[:, 1:]).all()
        assert (boxes[:, 0] == 2 - before[:, 0]).all()


def test_without_keys_a_frame_stays_as_it_is():
    frame, boxes = frame_of([(1, 10, 20, 40, 50)])
    same, moved = augmenter([(frame, boxes)])(3, 0)
    assert (same == frame).all()
    np.testing.assert_allclose(moved, boxes, atol=1e-6)


@pytest.mark.parametrize(
    ("shift_px", "kept"),
    [((0, 0), True), ((-34, 0), True), ((-38, 0), False), ((0, 200), False), ((-60, -60), False)],
)
def test_a_box_of_which_too_little_is_left_is_left_out(shift_px: tuple[int, int], kept: bool):
    boxes = frame_of([(3, 0, 0, 40, 40)])[
        1
    ]  # 40 px: what a shift by 34 leaves is 15 %, by 38 it is 5 %
    moved = moved_boxes(boxes, translation(*shift_px), HEIGHT, WIDTH)
    assert len(moved) == kept
    if kept:
        np.testing.assert_allclose(xyxy(moved[0]), (0, 0, 40 + shift_px[0], 40), atol=1e-4)


def test_a_frame_without_boxes_has_none_afterwards():
    _, boxes = augmenter([frame_of([])], mosaic=0.5, mixup=0.5, **GEOMETRY)(0, 0)
    assert boxes.shape == (0, 5) and boxes.dtype == np.float32


# ---- several frames ------------------------------------------------------------------------------


def test_a_mosaic_shows_frames_of_the_same_view_and_boxes_where_their_colours_are():
    samples = [frame_of([(kind, 30, 20, 100, 80)]) for kind in range(4)]
    augment = augmenter(samples, views=[0, 1, 0, 1], mosaic=1.0)
    kinds = set()
    for epoch in range(30):
        frame, boxes = augment(epoch, 0)
        kinds |= set(boxes[:, 0].astype(int))
        for row in boxes:
            left, top, right, bottom = np.round(xyxy(row)).astype(int)
            inside = frame[top + 2 : bottom - 2, left + 2 : right - 2]
            assert (np.abs(inside.astype(int) - COLOURS[int(row[0])]) < 30).all()
    assert kinds == {0, 2}


def test_mixup_lays_a_frame_of_the_same_view_over_the_first():
    samples = [frame_of([(kind, 30 * kind, 20, 30 * kind + 30, 80)]) for kind in range(4)]
    augment = augmenter(samples, views=[-1, 0, 0, 0], mixup=1.0)
    for epoch in range(10):
        frame, boxes = augment(epoch, 1)
        assert len(boxes) == 2 and boxes[0, 0] == 1 and boxes[1, 0] in (1, 2, 3)
        if boxes[1, 0] != 1:
            assert 60 < frame[50, 45].max() < 200  # about half of either
    assert {int(augment(epoch, 0)[1][1, 0]) for epoch in range(10)} == {
        0
    }  # no view is a view of its own


# ---- colour --------------------------------------------------------------------------------------


def test_gamma_keeps_black_white_and_the_order_of_greys():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    middles = []
    for number in range(200):
        changed = recoloured(ramp, replace(OFF, gamma=0.5), np.random.default_rng(number))[
            0, :, 0
        ].astype(int)
        assert changed[0] == 0 and changed[255] == 255 and (np.diff(changed) >= 0).all()
        middles.append(np.log(changed[128] / 255) / np.log(128 / 255))
    assert min(middles) == pytest.approx(np.exp(-0.5), rel=0.05) and max(middles) == pytest.approx(
        np.exp(0.5), rel=0.05
    )


@pytest.mark.parametrize(("key", "channel"), [("hsv_h", 0), ("hsv_s", 1), ("hsv_v", 2)])
def test_each_of_hue_saturation_and_value_changes_alone(key: str, channel: int):
    hsv = np.array([[[60, 100, 120]]], np.uint8)
    frame = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    factors = []
    for number in range(200):
        changed = recoloured(frame, replace(OFF, **{key: 0.4}), np.random.default_rng(number))
        found = cv2.cvtColor(changed, cv2.COLOR_RGB2HSV)[0, 0].astype(float)
        others = [other for other in range(3) if other != channel]
        np.testing.assert_allclose(found[others], hsv[0, 0, others], atol=3)
        factors.append(found[channel] / hsv[0, 0, channel])
    assert min(factors) == pytest.approx(0.6, abs=0.03) and max(factors) == pytest.approx(
        1.4, abs=0.03
    )


# ---- always the same -----------------------------------------------------------------------------


def test_a_frame_depends_on_seed_epoch_and_number_alone():
    samples = [frame_of([(kind, 30, 20, 100, 80)]) for kind in range(4)]
    keys = {**GEOMETRY, "mosaic": 0.5, "mixup": 0.5, "gamma": 0.5, "hsv_s": 0.5}
    first = {(e, i): augmenter(samples, **keys)(e, i) for e in range(3) for i in range(4)}
    again = augmenter(samples, **keys)
    for key in sorted(first, reverse=True):
        np.random.default_rng().random()
        assert (again(*key)[0] == first[key][0]).all() and (again(*key)[1] == first[key][1]).all()
    assert not (augmenter(samples, seed=1, **keys)(0, 0)[0] == first[0, 0][0]).all()
    assert len({frame.tobytes() for frame, _ in first.values()}) == len(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_the_same_frames_in_every_epoch(tiny_data: Path, workers: int):
    hyp = load_hyperparameters(ROOT / "hyp/joint_with_augmentation.yaml")
    split = load_split(load_data_config(tiny_data), "train")
    expected, dataset = JointDataset(split, 64, "ram"), JointDataset(split, 64, "off")
    for one in (expected, dataset):
        one.augment(hyp, seed=7)
    sampler = EpochSampler(len(split.images), 0)
    loader = make_loader(dataset, 5, workers, False, sampler)
    for epoch in (0, 1):  # the workers stay
        sampler.set_epoch(epoch)
        for batch in loader:
            for number, image in zip(batch["indices"].tolist(), batch["images"], strict=True):
                assert torch.equal(
                    image.permute(1, 2, 0), torch.from_numpy(expected[epoch, number][1])
                )
    assert not (expected[0, 3][1] == expected[1, 3][1]).all()
    assert (
        expected[3][1] == JointDataset(split, 64, "ram")[3][1]
    ).all()  # without an epoch: as it is


def test_a_resumed_training_sees_the_frames_it_would_have_seen(
    tiny_data: Path, tmp_path: Path, monkeypatch
):
    options = small_options(tiny_data, tmp_path) | {
        "hyp": str(ROOT / "hyp/joint_with_augmentation.yaml")
    }
    whole = run(options, tmp_path / "whole")
    plain = run(options | {"hyp": str(ROOT / "hyp/joint_training_rules.yaml")}, tmp_path / "plain")
    with pytest.raises(AssertionError):
        assert_same_run(whole, plain)
    job = new_job(options | {"project": str(tmp_path), "name": "parts"})
    load, calls = job.frames.train.augmenter.load, iter(range(10**6))

    # In the second epoch's second batch.
    def stopping(index: int) -> object:
        if next(calls) >= 17:
            raise Interrupted("", 2)
        return load(index)

    monkeypatch.setattr(job.frames.train.augmenter, "load", stopping)
    with pytest.raises(Interrupted):
        train(job)
    resume(tmp_path / "parts")
    assert_same_run(whole, tmp_path / "parts")

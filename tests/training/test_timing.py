"""Stopwatch, ratios of epochs, operations of a forward pass."""

import pytest
import torch

from models.yolo import DetectionModel
from utils.training.timing import EpochTime, Stopwatch, count_gflops, epoch_ratio

CPU = torch.device("cpu")


def test_a_stopwatch_notes_every_call_and_passes_results_on():
    watch = Stopwatch(CPU)
    assert watch.timed("sum", sum)([1, 2]) == 3 and watch.timed("sum", sum)([4]) == 4
    assert len(watch.seconds["sum"]) == 2 and watch.total("sum") == pytest.approx(
        sum(watch.seconds["sum"])
    )


def epoch_of(step_ms: list[float], validation_s: float) -> EpochTime:
    training = {"load": 0.0, "forward": 10 * sum(step_ms) / len(step_ms) / 1000}
    validation = {"validation forward": 0.6 * validation_s, "NMS": 0.4 * validation_s}
    return EpochTime(160, 16, training, 0.1, validation, step_ms, 900.0, 100.0, 5.0, 50.0)


def test_the_ratio_of_two_epochs_is_taken_block_by_block():
    slow, fast = epoch_of([200.0] * 20, 1.0), epoch_of([100.0] * 20, 0.5)
    assert epoch_ratio(fast, slow, block=10)["median"] == pytest.approx(0.5)
    assert slow.epoch_s == pytest.approx(3.0) and slow.images_per_s == pytest.approx(80)
    shares = {row["stage"]: row["share"] for row in slow.rows()}
    assert shares["NMS"] == slow.validation_rest == pytest.approx(0.4 / 3)
    assert shares["of these GradNorm"] == pytest.approx(0.1 / 3)


# The public YOLOv5's table, at 640 px and 80 classes: 10^9 operations.
@pytest.mark.parametrize(
    ("size", "gflops"), [("n", 4.5), ("s", 16.5), ("m", 49.0), ("l", 109.1), ("x", 205.7)]
)
def test_operations_are_the_published_ones(size: str, gflops: float):
    with torch.device("meta"):
        model = DetectionModel("models/yolov5s.yaml", size=size)
    assert count_gflops(model.eval(), 640) == pytest.approx(gflops, rel=0.01)

"""The command of docs/performance.md that times the evaluation."""

import re
import sys
import tracemalloc

import numpy as np
import pytest

from docs import evaluation_speed
from utils.core.script import UserError
from utils.evaluation.average_precision import coco_evaluation, resampled_ap


@pytest.mark.parametrize("arguments", [(), ("--intervals",)])
def test_it_says_what_an_evaluation_takes(monkeypatch, capsys, arguments: tuple[str, ...]):
    command = ["evaluation_speed", "--frames", "12", "--boxes", "20", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    evaluation_speed.main()
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"12 frames of 20 boxes: \d+\.\d s of processor time, \d+\.\d\d GB at most; "
        r"mAP50 0\.[3-9]\d+\n",
        said,
    )


@pytest.mark.parametrize("option", ["--frames", "--boxes"])
def test_nothing_to_evaluate_is_refused(monkeypatch, option: str):
    monkeypatch.setattr(sys, "argv", ["evaluation_speed", option, "0"])
    with pytest.raises(UserError, match=f"{option} is 0, expected at least 1"):
        evaluation_speed.main()


def test_memory_does_not_grow_with_the_square_of_the_frames():
    """Where right detections are counted in every image, 3,000 frames take half a gigabyte."""
    rng = np.random.default_rng(0)
    results = [evaluation_speed.made_up_result(rng, number, 20) for number in range(3000)]
    draws = np.ones((20, 3000), int)
    tracemalloc.start()
    resampled_ap(coco_evaluation(results, len(evaluation_speed.NAMES)), draws)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6

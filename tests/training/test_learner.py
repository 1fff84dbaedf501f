"""The moving average follows YOLOv5's ramp.

An epoch is the best by scaled parts, and not too early.
"""

import numpy as np
import pytest
import torch

from models.graph import LayerGraph
from models.yolo import YOLOv5WithClassification
from utils.core.device import frozen_copy, select_compute
from utils.core.files import ROOT
from utils.core.hyperparameters import HyperParameters
from utils.core.names import TASKS
from utils.training.learner import Learner, ModelEMA, Part, Ramp
from utils.training.optimiser import Schedule, Stepper


def test_ema_follows_yolov5s_ramp():
    model = torch.nn.BatchNorm1d(2)
    average = frozen_copy(model)
    ema = ModelEMA(model, average)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(5.0)
    ema.update()
    keep = 0.9999 * (1 - np.exp(-1 / 2000))
    torch.testing.assert_close(average.weight, torch.full((2,), keep * 1.0 + (1 - keep) * 3.0))
    torch.testing.assert_close(average.running_mean, torch.full((2,), (1 - keep) * 5.0))


@pytest.mark.parametrize(
    ("updates", "epoch", "expected"), [(1320, 66, 0.04), (945, 63, 0.035), (3300, 66, 0.14)]
)
def test_the_window_of_short_trainings_is_a_fraction_of_an_epoch(
    updates: int, epoch: int, expected: float
):
    """As the review computed it: 20 and 50 epochs of 66 batches, 15 of 63."""
    ema = ModelEMA(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    assert ema.window_steps() == 0
    ema.updates = updates
    assert ema.window_steps() / epoch == pytest.approx(expected, rel=0.15)


def test_the_window_is_that_of_the_weights_that_the_average_gives_the_steps():
    """Step k changes the model by one unit of coordinate k.

    The average then holds the weights themselves.
    """
    count = 30
    model, average = (
        torch.nn.Linear(count, 1, bias=False).double(),
        torch.nn.Linear(count, 1, bias=False).double(),
    )
    torch.nn.init.zeros_(average.weight)
    ema = ModelEMA(model, average, Ramp(decay=0.9, tau=5.0))
    for k in range(count):
        with torch.no_grad():
            model.weight.zero_()
            model.weight[0, k] = 1.0
        ema.update()
    assert ema.window_steps() == pytest.approx(1 / average.weight.square().sum().item())


# ---- the best epoch ------------------------------------------------------------------------------


def learner(
    epochs: range = range(20), tasks: tuple[str, ...] = TASKS, batches: int = 66, **hyp: float
) -> Learner:
    model = torch.nn.Linear(1, 1)
    part = Part("joint", "", tasks, HyperParameters(**hyp), epochs)
    return Learner(
        part,
        model,
        frozen_copy(model),
        select_compute("off", torch.device("cpu")),
        batches,
        16,
    )


def evaluation(detection: float, balanced: float) -> dict:
    boxes = {"mAP_0.5": detection, "mAP_0.5:0.95": detection}
    return {
        "detection": boxes,
        "views": {"balanced_accuracy": balanced},
        "view_names": ["A", "B", "C"],
    }


def best_of(learner: Learner, course: list[tuple[float, float]], start: int = 0) -> int:
    for epoch, (detection, balanced) in enumerate(course, start):
        learner.note_evaluation(evaluation(detection, balanced), epoch)
    return learner.best_epoch


def test_no_epoch_before_three_after_the_warm_up_can_be_the_best():
    falling = [(1 - epoch / 20, 0.9) for epoch in range(19)]  # one is to come
    assert best_of(learner(), falling) == 6  # three epochs of warm-up, then three
    assert best_of(learner(warmup_epochs=0.0), falling) == 3
    late = learner(epochs=range(5, 20))
    assert best_of(late, falling[:14], start=5) == 11


@pytest.mark.parametrize("count", [1, 2, 4, 20])
def test_the_last_epoch_of_the_schedule_is_kept_whatever_its_fitness(count: int):
    falling = [(1 - epoch / 20, 0.9) for epoch in range(count)]
    assert best_of(learner(epochs=range(count)), falling) == count - 1


def test_a_view_that_peaks_early_does_not_choose_alone():
    """As in the review: AP50-95 0.02 at the view's early peak, 0.06 at the end.

    The view falls by 0.04.
    """
    course = [(0.02, 0.64)] * 6 + [(0.02, 0.64), (0.04, 0.62), (0.06, 0.60)]
    assert best_of(learner(), course) == 8


def test_the_scale_is_the_highest_so_far_whatever_the_best_has():
    course = [(0.5, 0.5)] * 6 + [(0.5, 0.5), (0.45, 0.9), (0.9, 0.3)]
    chosen = learner()
    assert best_of(chosen, course) == 7
    assert chosen.highest_detection == pytest.approx(0.9)
    assert chosen.best_fitness == pytest.approx((0.45 + 0.85) / 2)


def test_its_state_goes_on_with_the_same_choice():
    first, second = learner(), learner()
    course = [(0.5, 0.5)] * 6 + [(0.5, 0.5), (0.45, 0.9), (0.9, 0.3)]
    best_of(first, course[:8])
    second.load_state_dict(first.state_dict())
    assert best_of(second, course[8:], start=8) == 7


# ---- clipping ------------------------------------------------------------------------------------


def test_a_views_gradient_cannot_scale_the_detectors_step():
    """The steps of trunk and detection head are the same whatever the view head's own gradient is."""
    moved = {}
    for size in (0.0, 1.0, 1e6):
        torch.manual_seed(0)
        model = YOLOv5WithClassification(ROOT / "models" / "yolov5n_joint.yaml", nc=2, views=3)
        before = {name: tensor.clone() for name, tensor in model.named_parameters()}
        hyp = HyperParameters(gradient_clip=1.0, warmup_epochs=0.0, nominal_batch_size=None)
        stepper = Stepper(
            model, hyp, Schedule(hyp, 1, 1), select_compute("off", torch.device("cpu")), 1
        )
        stepper.begin(0, 0)
        head = set(map(id, model.model[model.view_index].parameters()))
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, size if id(parameter) in head else 0.01)
        stepper.step(0, 0)
        moved[size] = {name: tensor - before[name] for name, tensor in model.named_parameters()}
    view_names = [name for name in moved[0.0] if name.startswith(f"model.{model.view_index}.")]
    for name in moved[0.0].keys() - set(view_names):
        assert torch.equal(moved[0.0][name], moved[1e6][name])
    assert any(not torch.equal(moved[0.0][name], moved[1.0][name]) for name in view_names)


def test_the_parts_that_are_clipped_are_all_parameters_once():
    model = YOLOv5WithClassification(ROOT / "models" / "yolov5n_joint.yaml", nc=2, views=3)
    parts = model.clipped_parts()
    listed = [id(parameter) for part in parts for parameter in part]
    assert len(parts) == 2 and sorted(listed) == sorted(map(id, model.parameters()))
    assert len(LayerGraph.clipped_parts(model)) == 1

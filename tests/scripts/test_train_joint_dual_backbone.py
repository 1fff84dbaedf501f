"""Two networks that share nothing.

Independence, rest, a best epoch each, exact resume, and what is refused.
"""

import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_runs import (
    EPOCHS,
    assert_equal,
    assert_same_run,
    break_run,
    new_job,
    resume,
    run,
    small_options,
)

import train_joint_dual_backbone as script
import val
from models.yolo import DetectionModel
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.commands.train_joint_dual_backbone import PARTS
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.evaluation.metrics import fitness, fitness_parts, summarise
from utils.losses.joint import LossMeter, task_losses
from utils.training.learner import Learner, Part
from utils.training.trainer import Trainer


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg"), script)


@pytest.fixture(scope="module")
def finished(options: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an uninterrupted training."""
    return run(options, tmp_path_factory.mktemp("runs") / "whole", script, pictures=True)


def part_state(state: dict, part: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def train_steps(trainer: Trainer, steps: int) -> None:
    trainer.job.run.folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(trainer.options.epochs):
        trainer.sampler.set_epoch(epoch)
        for learner in trainer.learners:
            learner.module.train(learner.trains(epoch))
        for index, batch in enumerate(trainer.train_loader):
            trainer.step(epoch, index, batch, LossMeter(1))
            steps -= 1
            if not steps:
                return
    raise AssertionError("not enough epochs")


# ---- independence --------------------------------------------------------------------------------


def test_no_gradient_of_one_task_reaches_the_other_network(options):
    job = new_job(options, script)
    trainer = Trainer(job)
    batch = next(iter(trainer.train_loader))
    assert (batch["views"] >= 0).any() and len(batch["boxes"])
    losses = task_losses(job.criterion(job.model(batch["images"] / 255), batch))
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        own, foreign = (
            list(getattr(job.model, PARTS[name]).parameters()) for name in (task, other)
        )
        gradients = torch.autograd.grad(
            losses[task], [*own, *foreign], retain_graph=True, allow_unused=True
        )
        assert all(gradient is None for gradient in gradients[len(own) :])
        assert any(gradient is not None and gradient.any() for gradient in gradients[: len(own)])


@pytest.mark.parametrize("frozen", TASKS)
def test_a_step_on_one_task_leaves_the_other_network_alone(options, tmp_path, frozen):
    changes = {"freeze_task": [frozen], "project": str(tmp_path)}
    trainer = Trainer(new_job({**options, **changes}, script))
    before, average = copy_of(trainer.model), copy_of(trainer.ema_model)
    train_steps(trainer, 3)
    for old, module in ((before, trainer.model), (average, trainer.ema_model)):
        new = copy_of(module)
        assert_equal(part_state(old, PARTS[frozen]), part_state(new, PARTS[frozen]))
        (other,) = set(PARTS.values()) - {PARTS[frozen]}
        moved = [n for n, t in part_state(new, other).items() if not torch.equal(t, old[n])]
        assert any("running_mean" in name for name in moved) and any(
            "conv.weight" in name for name in moved
        )


def test_beside_a_classifier_the_detector_learns_what_it_learns_alone(options, tmp_path):
    """Bit for bit after 20 steps, on the CPU, in float32, with gradients clipped."""
    changes = {**options, "epochs": 7, "project": str(tmp_path)}
    together = new_job(changes, script)
    clipped = dataclasses.replace(together.run.hyp, gradient_clip=0.1)
    torch.manual_seed(together.run.options.seed)
    detector = DetectionModel(options["cfg"], nc=4)
    hyp, epochs = clipped.of_network("detection"), range(7)
    alone = dataclasses.replace(
        together, model=detector, parts=(Part("detection", "", ("detection",), hyp, epochs),)
    )
    both = tuple(dataclasses.replace(n, hyp=clipped.of_network(n.name)) for n in together.parts)
    trainers = [Trainer(job) for job in (dataclasses.replace(together, parts=both), alone)]
    for trainer in trainers:
        train_steps(trainer, 20)
    assert_equal(copy_of(trainers[0].model.detector), copy_of(detector))
    assert_equal(copy_of(trainers[0].ema_model.detector), copy_of(trainers[1].ema_model))


# ---- the script ----------------------------------------------------------------------------------


def test_a_run_leaves_its_folder(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "results.csv",
        "summary.json",
        "results.png",
        "learning_rates.png",
        "val_batch_pred.png",
    } <= names
    assert not {name for name in names if name.startswith("gradnorm")}
    results = pd.read_csv(finished / "results.csv")
    rates = {f"x/{task}_lr{group}" for task in TASKS for group in range(3)}
    assert rates <= set(results) and "x/lr0" not in results
    assert (
        results[[*rates, "train/box_loss", "train/view_loss", "val/view_loss"]].notna().all().all()
    )
    best = json.loads((finished / "summary.json").read_text())["best"]
    assert best.keys() == set(TASKS)


def test_best_holds_each_network_as_of_its_own_best_epoch(options, tmp_path, monkeypatch):
    """The detector is made best in the first epoch, the classifier in the second.

    Patience ends the training after the third: of a whole schedule the last epoch is kept.
    """
    marks = {"detection": [0.9, 0.1, 0.2], "classification": [0.3, 0.8, 0.8]}
    monkeypatch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -9)
    confidences = iter([0.11, 0.22, 0.33, 0.33])  # of the last epoch twice: in full at the end

    def marked(metrics: dict, tasks: tuple[str, ...]) -> dict[str, float]:
        return {tasks[0]: marks[tasks[0]][evaluated[tasks[0]]]}

    monkeypatch.setattr("utils.training.learner.fitness_parts", marked)
    evaluated = dict.fromkeys(TASKS, -1)
    original = Learner.note_evaluation

    def note_evaluation(self: Learner, metrics: dict, epoch: int) -> bool:
        evaluated[self.part.name] = epoch
        return original(self, metrics, epoch)

    def summarise_and_mark(*args: object, **options: object) -> dict:
        metrics = summarise(*args, **options)
        metrics["detection"]["confidence"] = next(confidences)
        return metrics

    monkeypatch.setattr("utils.training.validation.summarise", summarise_and_mark)
    monkeypatch.setattr(Learner, "note_evaluation", note_evaluation)
    folder = run(options, tmp_path / "run", script, save_period=1, epochs=5, patience=1)
    best = load_checkpoint(folder / "weights/best.pt")
    assert best["best"] == {
        "detection": {"epoch": 0, "fitness": 0.9, "parts": {"detection": 0.9}},
        "classification": {"epoch": 1, "fitness": 0.8, "parts": {"classification": 0.8}},
    }
    for part, epoch in (("detector", 0), ("classifier", 1)):
        then = load_checkpoint(folder / f"weights/epoch{epoch}.pt")
        assert_equal(part_state(best["model"], part), part_state(then["ema"]["model"], part))
    assert best["confidence"] == 0.11
    results = pd.read_csv(folder / "results.csv")
    for task, values in marks.items():
        assert results[f"metrics/{task}_fitness"].tolist() == values


def test_the_same_command_twice_and_resume_give_the_same_bits(options, finished, tmp_path):
    break_and_resume(options, tmp_path / "broken", (1, 2))
    assert_same_run(tmp_path / "broken", finished)


def break_and_resume(
    options: dict, folder: Path, place: tuple[int, int], **changes: object
) -> None:
    """Power fails in an epoch's batch; `--resume` starts at that epoch."""
    break_run(options, folder, place, script, **changes)
    resume(folder, script)


def test_a_kill_between_the_two_checkpoints_resumes_exactly(options, finished, tmp_path):
    """best.pt is already of the interrupted epoch; last.pt is of the one before."""

    def failing_save(path: Path, content: dict) -> None:
        if path.name == "last.pt" and content["epoch"] == 1:
            raise OSError("power failure")
        save_checkpoint(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.state.save_checkpoint", failing_save)
        with pytest.raises(OSError, match="power failure"):
            run(options, tmp_path / "broken", script)
    resume(tmp_path / "broken", script)
    assert_same_run(tmp_path / "broken", finished)


@pytest.mark.slow
def test_a_late_and_short_classifier(options, tmp_path):
    """It trains in the second of three epochs only.

    Before and after nothing of it moves, also across a resume.
    """
    timing = {"classification_start_epoch": 1, "classification_epochs": 1}
    folder = run(options, tmp_path / "late", script, save_period=1, **timing)
    for place in ((1, 1), (2, 0)):
        break_and_resume(options, tmp_path / f"broken{place[0]}", place, save_period=1, **timing)
        assert_same_run(tmp_path / f"broken{place[0]}", folder)
    states = [load_checkpoint(folder / f"weights/epoch{epoch}.pt") for epoch in range(EPOCHS)]
    start = copy_of(new_job({**options, "project": str(tmp_path)}, script).model)
    for read in (lambda state: state["model"], lambda state: state["ema"]["model"]):
        parts = [part_state(state, "classifier") for state in (start, *map(read, states))]
        assert_equal(parts[0], parts[1])
        assert not torch.equal(
            parts[1]["classifier.model.0.conv.weight"], parts[2]["classifier.model.0.conv.weight"]
        )
        assert_equal(parts[2], parts[3])
    results = pd.read_csv(folder / "results.csv")
    for column in ("train/view_loss", "x/classification_lr0"):
        assert results[column].notna().tolist() == [False, True, False]
    assert results["train/box_loss"].notna().all() and results["val/view_loss"].notna().all()
    assert results["x/classification_lr1"][1] == pytest.approx(
        1e-3 * 1.0, rel=0.01
    )  # its own schedule's first epoch


def test_fine_tuning_the_classifier_alone(options, finished, tmp_path):
    weights = finished / "weights/best.pt"
    folder = run(
        options,
        tmp_path / "fine",
        script,
        weights=str(weights),
        freeze_task=["detection"],
        epochs=1,
    )
    before, after = (load_checkpoint(path) for path in (weights, folder / "weights/last.pt"))
    assert_equal(
        part_state(before["model"], "detector"), part_state(after["ema"]["model"], "detector")
    )
    name = "classifier.model.0.conv.weight"
    assert not torch.equal(before["model"][name], after["model"][name])


def test_each_network_has_its_own_rates(options, tmp_path):
    given = {"detection_lr0": 0.004, "classification_lr0": 0.002, "classification_lrf": 1.0}
    given |= {
        "detection_warmup_epochs": 0.0,
        "classification_warmup_epochs": 0.0,
        "classification_weight_decay": 0.5,
    }
    trainer = Trainer(new_job({**options, **given, "project": str(tmp_path)}, script))
    detection, classification = (learner.stepper for learner in trainer.learners)
    for stepper, first, last in ((detection, 0.004, 0.0004), (classification, 0.002, 0.002)):
        stepper.begin(0, 0)
        assert stepper.learning_rates == [pytest.approx(first)] * 3
        assert stepper.schedule.hyp.lr0 * stepper.schedule.factor(EPOCHS) == pytest.approx(last)
    assert detection.optimizer.param_groups[1]["weight_decay"] == pytest.approx(0.01)
    assert classification.optimizer.param_groups[1]["weight_decay"] == pytest.approx(0.5)
    assert detection.scaler is not classification.scaler


def test_patience_waits_for_a_classifier_that_has_not_begun(options, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "utils.training.learner.fitness_parts", lambda metrics, tasks: {"detection": 0.5}
    )
    monkeypatch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -2)
    late = run(
        options, tmp_path / "late", script, epochs=6, patience=1, classification_start_epoch=3
    )
    assert len(pd.read_csv(late / "results.csv")) == 4  # one epoch of patience after three of rest
    early = run(
        options, tmp_path / "early", script, epochs=6, patience=1, freeze_task=["classification"]
    )
    assert len(pd.read_csv(early / "results.csv")) == 2


def evaluated(weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    arguments = [
        "val.py",
        "--weights",
        str(weights),
        "--project",
        str(folder),
        "--device",
        "cpu",
        "--amp",
        "off",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    val.main()
    return json.loads((folder / "exp/metrics.json").read_text())


@pytest.mark.usefixtures("no_pictures")
def test_val_evaluates_a_dual_checkpoint(finished, tmp_path, monkeypatch):
    best = evaluated(finished / "weights/best.pt", tmp_path / "best", monkeypatch)
    marks = load_checkpoint(finished / "weights/best.pt")["best"]
    found = [fitness(fitness_parts(best, (task,))) for task in TASKS]
    assert found == pytest.approx([marks[task]["fitness"] for task in TASKS])
    metrics = evaluated(finished / "weights/last.pt", tmp_path / "last", monkeypatch)
    expected = json.loads((finished / "metrics.json").read_text())
    for kind, key in (
        ("detection", "mAP_0.5"),
        ("detection", "mAP_0.5:0.95"),
        ("views", "accuracy"),
    ):
        assert metrics[kind][key] == pytest.approx(expected[kind][key])


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_task": list(TASKS)}, "nothing is left to train"),
        ({"classification_start_epoch": EPOCHS}, "expected 0 to 2"),
        ({"classification_start_epoch": -1}, "expected 0 to 2"),
        ({"classification_epochs": 0}, "expected 1 to 3"),
        ({"classification_start_epoch": 2, "classification_epochs": 2}, "expected 1 to 1"),
        ({"freeze_task": ["detection"], "classification_start_epoch": 1}, "goes with neither"),
        ({"freeze_task": ["classification"], "classification_epochs": 2}, "goes with neither"),
        ({"detection_lr0": -0.1}, "--detection-lr0 is -0.1, expected"),
        ({"classification_lrf": 1.5}, "--classification-lrf is 1.5, expected"),
        ({"freeze": 25}, "nothing to train of the detection network"),
    ],
)
def test_wrong_combinations_of_options(options, changes, message):
    with pytest.raises(UserError, match=message):
        Trainer(new_job({**options, **changes}, script))


def test_weights_of_a_joint_model_are_refused(options, tmp_path):
    data, folder = Path(options["data"]), tmp_path / "joint"
    folder.mkdir()
    joint = run(small_options(data, folder), tmp_path / "run", epochs=1) / "weights"
    with pytest.raises(UserError, match=r"model of kind 'joint'.*none of its .* tensors fits"):
        new_job({**options, "weights": str(joint / "best.pt")}, script)
    with pytest.raises(UserError, match=r"last\.pt of a training of kind 'dual'"):
        new_job({"resume": str(joint / "last.pt")}, script)

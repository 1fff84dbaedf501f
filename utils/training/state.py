"""What a checkpoint holds of a training, how it is written, and how a training is put back to it.

Here alone a training's keys are written and read: "networks" holds the state of every part.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.model_file import take_weights
from utils.core import distributed
from utils.core.script import LOGGER, UserError
from utils.core.values import to_mapping
from utils.evaluation.metrics import confidence_of
from utils.evaluation.thresholds import BY_TASK
from utils.training.learner import Learner
from utils.training.setup import Setup
from utils.training.validation import validate


def random_states() -> dict[str, object]:
    """The states of Python's, NumPy's and PyTorch's generators, as tensors and plain types."""
    name, keys, *rest = np.random.get_state()
    cuda = []
    if torch.cuda.is_available():
        cuda = torch.cuda.get_rng_state_all()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def restore_random_states(states: Mapping[str, object]) -> None:
    """Put the generators back where `random_states` found them."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def best_epochs(setup: Setup) -> dict[str, dict[str, object]]:
    """Part -> its best epoch, the fitness there, and what that is made of."""
    found = {}
    for learner in setup.learners:
        found[learner.part.name] = {
            "epoch": learner.best_epoch,
            "fitness": learner.best_fitness,
            "parts": dict(learner.best_scores),
        }
    return found


def description(setup: Setup, epoch: int) -> dict[str, object]:
    """What every checkpoint says of the run that wrote it after `epoch`."""
    run, frames = setup.job.run, setup.job.frames
    prior = None
    if setup.prior:
        prior = to_mapping(setup.prior)
    return {
        "kind": setup.model.kind,
        "arguments": setup.model.arguments(),
        "epoch": epoch,
        "best": best_epochs(setup),
        "options": to_mapping(setup.options),
        "hyp": to_mapping(run.hyp),
        "names": list(frames.data.names),
        "view_names": list(frames.data.view_names),
        "bits": frames.train.bits or frames.val.bits,
        "data": frames.data.settings(),
        "view_prior": prior,
        "fingerprint": setup.fingerprint,
        "launch": distributed.launch_id(),
        "precision": str(setup.compute.dtype).removeprefix("torch."),
    }


def training_state(setup: Setup, random_of_ranks: list[dict[str, object]]) -> dict[str, object]:
    """What a resumed run goes on from, beside its `description`."""
    return {
        "confidence": confidence_of(setup.metrics or {}),
        "thresholds": (setup.metrics or {}).get("thresholds", {}),
        "model": setup.model.state_dict(),
        "ema": {"model": setup.ema_model.state_dict()},
        "networks": {learner.part.name: learner.state_dict() for learner in setup.learners},
        "balancer": setup.job.balancer.state_dict(),
        "random": random_of_ranks,
    }


def save(setup: Setup, epoch: int, is_best: bool) -> None:
    """Write best.pt if a part is at its best, epochN.pt every `--save-period` epochs, and last.pt.

    That is the last one: a run that is killed before resumes from the epoch before, and writes the
    others again.
    """
    random_of_ranks = distributed.gathered([random_states()])
    if not distributed.is_main():
        return
    setup.job.run.confirm()
    about = description(setup, epoch)
    content = about | training_state(setup, random_of_ranks)
    if is_best:
        save_checkpoint(setup.last_path.with_name("best.pt"), about | setup.best)
    period = setup.options.save_period
    if period > 0 and epoch >= 0 and (epoch + 1) % period == 0:
        save_checkpoint(setup.last_path.with_name(f"epoch{epoch}.pt"), content)
    save_checkpoint(setup.last_path, content)


def keep_best(setup: Setup, epoch: int) -> list[str]:
    """Put aside the average of every part that is at its best; returns those parts' names."""
    improved = []
    average = setup.ema_model.state_dict()
    for learner in setup.learners:
        if not learner.note_evaluation(setup.metrics, epoch):
            continue
        improved.append(learner.part.name)
        prefix = ""
        if learner.part.path:
            prefix = f"{learner.part.path}."
        for name, tensor in average.items():
            if name.startswith(prefix):
                setup.best["model"][name] = tensor.cpu().clone()
        if "detection" in learner.part.tasks:
            setup.best["confidence"] = confidence_of(setup.metrics)
        for task in learner.part.tasks:
            name = BY_TASK[task]
            setup.best["thresholds"][name] = setup.metrics["thresholds"][name]
    return improved


def restore(setup: Setup, state: Mapping[str, object]) -> None:
    """Put a training back to where last.pt, whose content is `state`, was written.

    Raises:
        UserError: the data have changed since, or the file does not fit the run.
    """
    if state["fingerprint"] != setup.fingerprint:
        raise UserError(
            f"{setup.job.frames.data.source}: images or labels changed since this run started; "
            "start a new run instead"
        )
    last_path = setup.last_path
    take_weights(setup.model, state["model"], last_path)
    take_weights(setup.ema_model, state["ema"]["model"], last_path)
    for learner in setup.learners:
        name = learner.part.name
        with _restoring(last_path, f"networks.{name}"):
            learner.load_state_dict(state["networks"][name])
    with _restoring(last_path, "balancer"):
        setup.job.balancer.load_state_dict(state["balancer"])
    setup.first_epoch = state["epoch"] + 1
    if any(learner.best_epoch >= 0 for learner in setup.learners):
        if distributed.from_main(setup.last_path.with_name("best.pt").is_file()):
            _restore_best(setup)
        else:
            _replace_best(setup, state["epoch"])
    _restore_random(state["random"], last_path)


def _restore_best(setup: Setup) -> None:
    """From best.pt, perhaps of the interrupted epoch already, which then finds nothing better."""
    path = setup.last_path.with_name("best.pt")
    content = load_checkpoint(path)
    setup.best |= {key: content[key] for key in setup.best if key in content}
    for learner in setup.learners:
        with _restoring(path, f"best.{learner.part.name}"):
            _restore_best_epoch(learner, content["best"][learner.part.name])


def _replace_best(setup: Setup, epoch: int) -> None:
    """best.pt is gone: the last average takes its place, and is the best so far."""
    path = setup.last_path.with_name("best.pt")
    LOGGER.warning(f"warning: {path} is gone; the average of epoch {epoch + 1} takes its place")
    validate(setup, epoch)
    for learner in setup.learners:
        learner.best_epoch = -1
    keep_best(setup, epoch)
    if distributed.is_main():
        save_checkpoint(path, description(setup, epoch) | setup.best)


def _restore_best_epoch(learner: Learner, stored: Mapping[str, object]) -> None:
    learner.best_epoch = stored["epoch"]
    learner.best_scores = dict(stored["parts"])


def _restore_random(of_ranks: list[Mapping[str, object]], path: Path) -> None:
    """Every process its own, or all of them the first one's if there are more or fewer now."""
    own = 0
    if len(of_ranks) == distributed.world_size():
        own = distributed.rank()
    with _restoring(path, f"random.{own}"):
        restore_random_states(of_ranks[own])


@contextlib.contextmanager
def _restoring(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a library raises about a state of another shape into a `UserError`."""
    try:
        yield
    except Exception as error:
        reason = type(error).__name__
        if str(error):
            reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: {what} does not fit this run ({type(error).__name__}: {reason}); "
            "the file is damaged or was changed, so it cannot be resumed; "
            f"start a new run with --weights {path}"
        ) from None

"""What train_joint_gradnorm.py does: the joint model, its losses and their balancer, trained."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from models.balancers import fixed_weights
from models.gradnorm_balancer import GradNorm, LossWeighting
from models.torchjd_balancers import torchjd_balancer
from models.yolo import YOLOv5WithClassification
from utils.commands.report import report_if_asked
from utils.core import distributed
from utils.core.hyperparameters import HyperParameters
from utils.core.options import (
    GRADNORM_KEYS,
    INITIAL_WEIGHTS,
    JointOptions,
    warn_without_effect,
)
from utils.core.script import LOGGER, UserError
from utils.data.sampling import view_loss_weights
from utils.losses.joint import joint_loss
from utils.training.anchors import prepare_anchors
from utils.training.frames import load_frames
from utils.training.learner import Part
from utils.training.run import Run, build_model, freeze_layers, start_run
from utils.training.setup import Job
from utils.training.trainer import train


def run(args: argparse.Namespace) -> None:
    with start_run(vars(args), YOLOv5WithClassification.kind, JointOptions) as started:
        train(build_job(started))
        report_if_asked(started)


def build_job(run: Run) -> Job:
    """A joint training: frames, one model with two heads, both losses, and their balancer."""
    options, hyp = run.options, run.hyp
    refuse_rates_of_networks(run)
    frames = load_frames(run, options.tasks)
    views = len(frames.data.view_names)
    model = build_model(
        run,
        YOLOv5WithClassification,
        cfg=options.cfg,
        size=options.size,
        nc=len(frames.data.names),
        views=views,
        tasks=options.tasks,
    )
    freeze_layers(model, options.freeze)
    refuse_frozen_place(run, model)
    prepare_anchors(model.detect, run, frames.train)
    view_weights = view_loss_weights(hyp, frames.data, frames.train.split)
    criterion = joint_loss(model.detect, hyp, options.imgsz, view_weights)
    balancer = build_balancer(hyp, options.tasks, views)
    if model.stops_gradient and "classification" in options.tasks:
        balancer = weights_behind_stop_gradient(run)
    if isinstance(balancer, GradNorm):
        warn_of_idle_gradnorm(run, model, len(frames.train))
    whole_model = Part(
        name="joint", path="", tasks=tuple(options.tasks), hyp=hyp, epochs=range(options.epochs)
    )
    return Job(
        run=run,
        frames=frames,
        model=model,
        parts=(whole_model,),
        criterion=criterion,
        balancer=balancer,
        diagnose_interval=options.diagnose_interval,
    )


def refuse_rates_of_networks(run: Run) -> None:
    """Raise a `UserError` for learning rates that only the dual backbone's networks have."""
    if run.hyp.network_rates:
        raise UserError(
            f"{run.options.hyp}: {sorted(run.hyp.network_rates)} are the dual backbone's; "
            "here use lr0, lrf, ..."
        )


def refuse_frozen_place(run: Run, model: YOLOv5WithClassification) -> None:
    """Raise a `UserError` if GradNorm is to measure at a layer that is frozen."""
    if run.hyp.gradnorm_place != "weights" or model.last_shared_parameter().requires_grad:
        return
    raise UserError(
        f"--freeze {run.options.freeze} holds the last shared layer; use --gradnorm-place features"
    )


def warn_of_idle_gradnorm(run: Run, model: YOLOv5WithClassification, frames: int) -> None:
    """Warn where GradNorm has nothing to do, with so many training frames."""
    options, interval = run.options, run.hyp.gradnorm_interval
    batches = math.ceil(frames / options.batch_size) * options.epochs
    if interval > batches:
        LOGGER.warning(
            f"warning: GradNorm never acts: {batches} batches, an update every {interval}"
        )
    if not model.trunk_parameters():
        LOGGER.warning(
            f"warning: --freeze {options.freeze} holds the whole trunk: "
            "GradNorm weighs two heads that share nothing"
        )


def weights_behind_stop_gradient(run: Run) -> LossWeighting:
    """The weights 1 and 1: a view head behind a stop-gradient needs no balance with the boxes.

    Raises:
        UserError: another balancer was asked for, or the gradients' interference.
    """
    source = run.options.cfg
    balancer = run.hyp.balancer
    if "detection" not in run.options.tasks:
        raise UserError(
            f"--tasks classification: in {source} the view head is behind a stop-gradient; "
            "it trains no trunk"
        )
    if "balancer" in run.given and balancer != "fixed":
        raise UserError(
            f"--balancer {balancer}: in {source} the view head is behind a stop-gradient; "
            "leave it out"
        )
    if run.options.diagnose_interval:
        raise UserError(
            f"--diagnose-interval: in {source} a stop-gradient keeps the tasks apart; leave it out"
        )
    reason = f"{source}, whose view head is behind a stop-gradient"
    warn_without_effect(run.given, dict.fromkeys(GRADNORM_KEYS + INITIAL_WEIGHTS, reason))
    LOGGER.info(
        f"{source}: the view head is behind a stop-gradient: nothing to balance, "
        "the weights are 1 and 1"
    )
    return fixed_weights(1.0, 1.0)


def build_balancer(hyp: HyperParameters, tasks: Sequence[str], views: int) -> LossWeighting:
    """What the hyp file names; a single task, which needs no balance, has the weight 1.

    Args:
        views: their number; the cross-entropy of an untrained head is its logarithm, class weights
            or not.
    """
    if len(tasks) == 1:
        return LossWeighting({tasks[0]: 1.0})
    initial = {
        "detection": hyp.initial_detection_weight,
        "classification": hyp.initial_classification_weight,
    }
    if hyp.balancer == "fixed":
        return fixed_weights(**initial)
    if hyp.balancer != "gradnorm":
        if distributed.world_size() > 1:
            raise UserError(
                f"--balancer {hyp.balancer} works in one process; "
                "use gradnorm or fixed with torchrun"
            )
        return torchjd_balancer(hyp.balancer)
    initial_losses = None
    if views > 1:
        initial_losses = {"classification": math.log(views)}
    return GradNorm(
        initial,
        alpha=hyp.gradnorm_alpha,
        interval=hyp.gradnorm_interval,
        rule=hyp.gradnorm_rule,
        place=hyp.gradnorm_place,
        learning_rate=hyp.gradnorm_lr,
        momentum=hyp.gradnorm_momentum,
        kappa=hyp.gradnorm_kappa,
        weight_sum=hyp.weight_sum,
        min_share=hyp.gradnorm_min_share,
        initial_losses=initial_losses,
    )

"""What train_joint_dual_backbone.py does: two networks that share nothing, trained side by side."""

from __future__ import annotations

import argparse

from models.balancers import fixed_weights
from models.dual_backbone import DualBackbone
from utils.commands.report import report_if_asked
from utils.core.names import TASKS
from utils.core.options import DualOptions
from utils.core.script import LOGGER
from utils.data.sampling import view_loss_weights
from utils.losses.joint import joint_loss
from utils.training.anchors import prepare_anchors
from utils.training.frames import load_frames
from utils.training.learner import Part
from utils.training.run import Run, build_model, freeze_layers, start_run
from utils.training.setup import Job
from utils.training.trainer import train

# Task -> the network that answers for it, by its path in the model
PARTS = {"detection": "detector", "classification": "classifier"}


def run(args: argparse.Namespace) -> None:
    with start_run(vars(args), DualBackbone.kind, DualOptions) as started:
        train(build_job(started))
        report_if_asked(started)


def build_job(run: Run) -> Job:
    """Frames, the two networks, and their losses."""
    options = run.options
    frames = load_frames(run, trained=[task for task in TASKS if options.trained_epochs(task)])
    model = build_model(
        run,
        DualBackbone,
        cfg=options.cfg,
        classifier_cfg=options.classifier_cfg,
        size=options.size,
        nc=len(frames.data.names),
        views=len(frames.data.view_names),
    )
    if options.freeze_task and not options.weights:
        LOGGER.warning(
            f"warning: no --weights; "
            f"the {options.freeze_task[0]} network stays as it was initialised"
        )
    freeze_layers(model.detector, options.freeze)
    prepare_anchors(model.detect, run, frames.train)
    view_weights = view_loss_weights(run.hyp, frames.data, frames.train.split)
    criterion = joint_loss(model.detect, run.hyp, options.imgsz, view_weights)
    parts = []
    for task, path in PARTS.items():
        own_hyp, epochs = run.hyp.of_network(task), options.trained_epochs(task)
        parts.append(Part(name=task, path=path, tasks=(task,), hyp=own_hyp, epochs=epochs))
    return Job(
        run=run,
        frames=frames,
        model=model,
        parts=tuple(parts),
        criterion=criterion,
        balancer=fixed_weights(**dict.fromkeys(TASKS, 1.0)),
    )

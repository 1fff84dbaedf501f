"""Train two networks that share nothing: a YOLOv5s that detects boxes, and a small attentive one that names the view.

python train_joint_dual_backbone.py --epochs 50                              # on the embedded phantom
python train_joint_dual_backbone.py --data path/to/data.yaml --imgsz 320     # on your own frames
python train_joint_dual_backbone.py --weights last.pt --freeze-task detection --epochs 10   # the classifier alone
python train_joint_dual_backbone.py --resume runs/train/exp/weights/last.pt  # go on where it stopped
"""

from __future__ import annotations

import argparse

from models.balancers import fixed_weights
from models.dual_backbone import DualBackbone
from utils.core.hyperparameters import RATE_RANGES
from utils.core.names import TASKS
from utils.core.options import DualOptions, training_parser
from utils.core.script import LOGGER, run_script
from utils.data.sampling import view_loss_weights
from utils.losses.joint import joint_loss
from utils.training.anchors import prepare_anchors
from utils.training.learner import Part
from utils.training.run import (
    Run,
    build_model,
    freeze_layers,
    load_frames,
    start_run,
)
from utils.training.setup import Job
from utils.training.trainer import train

# Task -> the network that answers for it, by its path in the model.
PARTS = {
    "detection": "detector",
    "classification": "classifier",
}


def main() -> None:
    parser = training_parser(__doc__, DualOptions)
    add_network_options(parser)
    with start_run(vars(parser.parse_args()), DualBackbone.kind, DualOptions) as run:
        train(build_job(run))


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """What only two networks can be asked for."""
    networks = parser.add_argument_group("the two networks")
    networks.add_argument(
        "--classifier-cfg", help=f"classifier's YAML (default: {DualOptions.classifier_cfg})"
    )
    networks.add_argument(
        "--freeze-task", action="append", choices=TASKS, help="leave this task's network as it is"
    )
    networks.add_argument(
        "--classification-start-epoch",
        type=int,
        metavar="N",
        help="let the classifier rest for N epochs (default: 0)",
    )
    networks.add_argument(
        "--classification-epochs",
        type=int,
        metavar="N",
        help="then train it for N epochs (default: to the end)",
    )
    rates = parser.add_argument_group("each network's rates, over the hyp file's")
    for task in TASKS:
        for name in RATE_RANGES:
            rates.add_argument(
                f"--{task}-{name.replace('_', '-')}", type=float, help=f"as {name} in a hyp file"
            )


def build_job(run: Run) -> Job:
    """Frames, the two networks, and their losses."""
    options = run.options
    frames = load_frames(run, trained=[task for task in TASKS if options.trained_epochs(task)])
    shape = {
        "nc": len(frames.data.names),
        "views": len(frames.data.view_names),
        "size": options.size,
    }
    model = build_model(
        run, DualBackbone, cfg=options.cfg, classifier_cfg=options.classifier_cfg, **shape
    )
    if options.freeze_task and not options.weights:
        LOGGER.warning(
            f"warning: no --weights; the {options.freeze_task[0]} network stays as it was initialised"
        )
    freeze_layers(model.detector, options.freeze)
    prepare_anchors(model.detect, run, frames.train)
    view_weights = view_loss_weights(run.hyp, frames.data, frames.train.split)
    return Job(
        run=run,
        frames=frames,
        model=model,
        parts=tuple(
            Part(task, path, (task,), run.hyp.of_network(task), options.trained_epochs(task))
            for task, path in PARTS.items()
        ),
        criterion=joint_loss(model.detect, run.hyp, options.imgsz, view_weights),
        balancer=fixed_weights(**dict.fromkeys(TASKS, 1.0)),
    )


if __name__ == "__main__":
    run_script(main)

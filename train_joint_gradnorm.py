"""Train one YOLOv5s that detects boxes and names the view, its two losses balanced by GradNorm.

python train_joint_gradnorm.py --epochs 50 --gradnorm-alpha 1.5         # on the embedded phantom
python train_joint_gradnorm.py --data path/to/data.yaml --imgsz 320     # on your own frames
python train_joint_gradnorm.py --resume runs/train/exp/weights/last.pt  # go on where it stopped
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from models.balancers import fixed_weights
from models.gradnorm import GradNorm, LossWeighting
from models.torchjd_balancers import torchjd_balancer
from models.yolo import YOLOv5WithClassification
from utils.core import distributed
from utils.core.hyperparameters import HYP_CHOICES, HyperParameters
from utils.core.names import TASKS
from utils.core.options import (
    GRADNORM_KEYS,
    INITIAL_WEIGHTS,
    JointOptions,
    training_parser,
    warn_without_effect,
)
from utils.core.script import LOGGER, UserError, run_script
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


def main() -> None:
    with start_run(
        vars(build_parser(__doc__).parse_args()), YOLOv5WithClassification.kind, JointOptions
    ) as run:
        train(build_job(run))


def build_parser(description: str) -> argparse.ArgumentParser:
    """The options of a joint training."""
    parser = training_parser(description, JointOptions)
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        metavar="TASK",
        help=f"to train (default: {' '.join(TASKS)})",
    )
    parser.add_argument(
        "--diagnose-interval",
        type=int,
        metavar="N",
        help="measure interference every N batches (default: 0, never)",
    )
    gradnorm = parser.add_argument_group("the balance of the two losses, over the hyp file's")
    gradnorm.add_argument(
        "--balancer",
        choices=HYP_CHOICES["balancer"],
        help="fixed: the initial weights; else TorchJD's",
    )
    gradnorm.add_argument("--gradnorm-alpha", type=float, help="pull towards equal training rates")
    gradnorm.add_argument(
        "--gradnorm-interval", type=int, help="batches from one update to the next"
    )
    gradnorm.add_argument("--gradnorm-rule", choices=HYP_CHOICES["gradnorm_rule"])
    gradnorm.add_argument("--gradnorm-place", choices=HYP_CHOICES["gradnorm_place"])
    gradnorm.add_argument("--initial-detection-weight", type=float)
    gradnorm.add_argument("--initial-classification-weight", type=float)
    return parser


def build_job(run: Run) -> Job:
    """Frames, model, losses and balancer of a joint training."""
    options, hyp = run.options, run.hyp
    if hyp.network_rates:
        raise UserError(
            f"{options.hyp}: {sorted(hyp.network_rates)} are the dual backbone's; here use lr0, lrf, ..."
        )
    frames = load_frames(run, options.tasks)
    shape = {
        "nc": len(frames.data.names),
        "views": len(frames.data.view_names),
        "size": options.size,
    }
    model = build_model(
        run, YOLOv5WithClassification, cfg=options.cfg, tasks=options.tasks, **shape
    )
    freeze_layers(model, options.freeze)
    if hyp.gradnorm_place == "weights" and not model.last_shared_parameter().requires_grad:
        raise UserError(
            f"--freeze {options.freeze} holds the last shared layer; use --gradnorm-place features"
        )
    prepare_anchors(model.detect, run, frames.train)
    view_weights = view_loss_weights(hyp, frames.data, frames.train.split)
    balancer = build_balancer(hyp, options.tasks, len(frames.data.view_names))
    if model.stops_gradient and "classification" in options.tasks:
        balancer = weights_behind_stop_gradient(run)
    batches = math.ceil(len(frames.train) / options.batch_size) * options.epochs
    if isinstance(balancer, GradNorm) and hyp.gradnorm_interval > batches:
        LOGGER.warning(
            f"warning: GradNorm never acts: {batches} batches, an update every {hyp.gradnorm_interval}"
        )
    if isinstance(balancer, GradNorm) and not model.trunk_parameters():
        LOGGER.warning(
            f"warning: --freeze {options.freeze} holds the whole trunk: GradNorm weighs two heads that share nothing"
        )
    return Job(
        run=run,
        frames=frames,
        model=model,
        parts=(Part("joint", "", tuple(options.tasks), hyp, range(options.epochs)),),
        criterion=joint_loss(model.detect, hyp, options.imgsz, view_weights),
        balancer=balancer,
        diagnose_interval=options.diagnose_interval,
    )


def weights_behind_stop_gradient(run: Run) -> LossWeighting:
    """The weights 1 and 1: what a view head behind a stop-gradient learns needs no balance with what others learn.

    Raises:
        UserError: another balancer was asked for, or the gradients' interference.
    """
    source, hyp = run.options.cfg, run.hyp
    if "detection" not in run.options.tasks:
        raise UserError(
            f"--tasks classification: in {source} the view head is behind a stop-gradient; it trains no trunk"
        )
    if "balancer" in run.given and hyp.balancer != "fixed":
        raise UserError(
            f"--balancer {hyp.balancer}: in {source} the view head is behind a stop-gradient; leave it out"
        )
    if run.options.diagnose_interval:
        raise UserError(
            f"--diagnose-interval: in {source} a stop-gradient keeps the tasks apart; leave it out"
        )
    idle = dict.fromkeys(
        (*GRADNORM_KEYS, *INITIAL_WEIGHTS), f"{source}, whose view head is behind a stop-gradient"
    )
    warn_without_effect(run.given, idle)
    LOGGER.info(
        f"{source}: the view head is behind a stop-gradient: nothing to balance, the weights are 1 and 1"
    )
    return fixed_weights(1.0, 1.0)


def build_balancer(hyp: HyperParameters, tasks: Sequence[str], views: int) -> LossWeighting:
    """What the hyp file names; for a single task, whose loss there is nothing to balance with, the weight 1.

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
                f"--balancer {hyp.balancer} works in one process; use gradnorm or fixed with torchrun"
            )
        return torchjd_balancer(hyp.balancer)
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
        initial_losses={"classification": math.log(views)} if views > 1 else None,
    )


if __name__ == "__main__":
    run_script(main)

"""Train one YOLOv5s that detects boxes and names the view, its two losses balanced by GradNorm.

python train_joint_gradnorm.py --epochs 50 --gradnorm-alpha 1.5         # on the embedded phantom
python train_joint_gradnorm.py --data path/to/data.yaml --imgsz 320     # on your own frames
python train_joint_gradnorm.py --resume runs/train/exp/weights/last.pt  # go on where it stopped
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models import averaged_weights
from models.balancers import LossWeighting, fixed_weights
from models.gradnorm import GradNorm
from models.yolo import YOLOv5WithClassification
from utils.checkpoint import load_checkpoint, newest_checkpoint, transfer_weights
from utils.config import (
    HYP_CHOICES,
    HyperParameters,
    TrainOptions,
    from_mapping,
    load_data_config,
    load_hyperparameters,
    split_arguments,
    training_parser,
)
from utils.dataloaders import JointDataset, load_splits
from utils.engine import Job, train
from utils.general import LOGGER, UserError, new_run_folder, run_script, seed_everything
from utils.loss import DetectionLoss, JointLoss, LossGains
from utils.torch_utils import freeze_layers, select_device, select_precision


def main() -> None:
    parser = training_parser(__doc__)
    gradnorm = parser.add_argument_group("GradNorm, over the hyp file's")
    gradnorm.add_argument("--gradnorm-alpha", type=float, help="pull towards equal training rates")
    gradnorm.add_argument("--gradnorm-interval", type=int, help="batches from one update to the next")
    gradnorm.add_argument("--gradnorm-rule", choices=HYP_CHOICES["gradnorm_rule"], help="off: fixed weights")
    gradnorm.add_argument("--gradnorm-place", choices=HYP_CHOICES["gradnorm_place"])
    gradnorm.add_argument("--initial-detection-weight", type=float)
    gradnorm.add_argument("--initial-classification-weight", type=float)
    given = vars(parser.parse_args())
    resume = given.pop("resume", None)
    train(new_job(given) if resume is None else resumed_job(resume, given))


def new_job(given: Mapping[str, object]) -> Job:
    """A training from the command line's options."""
    options, over_hyp = split_arguments(given)
    hyp = load_hyperparameters(options.hyp, over_hyp)
    return build_job(options, hyp, new_run_folder(options.project, options.name, options.exist_ok))


def resumed_job(path: str, given: Mapping[str, object]) -> Job:
    """The training that wrote the checkpoint at `path`; the newest run's if `path` is empty."""
    if fixed := given.keys() - {"device", "workers", "project"}:
        raise UserError(f"--resume goes on with the options the run started with; leave out {sorted(fixed)}")
    path = Path(path) if path else newest_checkpoint(given.get("project", TrainOptions.project))
    state = load_checkpoint(path)
    if state["kind"] != YOLOv5WithClassification.kind or "stepper" not in state:
        raise UserError(f"{path}: cannot be resumed; expected the weights/last.pt of a joint training")
    options = from_mapping(TrainOptions, {**state["options"], **given})
    if state["epoch"] + 1 >= options.epochs:
        raise UserError(f"{path}: all {options.epochs} epochs are done; start a new run with --weights {path}")
    return build_job(options, from_mapping(HyperParameters, state["hyp"]), path.parents[1], state)


def build_job(
    options: TrainOptions, hyp: HyperParameters, folder: Path, resume: Mapping[str, object] | None = None
) -> Job:
    """Data, model, losses and balancer of a joint training."""
    precision = select_precision(options.amp, select_device(options.device))
    data = load_data_config(options.data)
    if not data.view_names:
        raise UserError(f"{data.source}: key 'cls_names' is missing; expected the views, in the columns' order")
    splits = load_splits(data, ("train", "val"), options.skip_bad_labels)
    if hyp.classification_required and all(labels.view < 0 for labels in splits[0].labels):
        raise UserError(f"{data.source}: no training frame has a view; expected a line like 0 1 0 in label files")
    seed_everything(options.seed)
    model = YOLOv5WithClassification(options.cfg, nc=len(data.names), views=len(data.view_names))
    if options.weights:
        transfer_weights(model, averaged_weights(load_checkpoint(options.weights)), options.weights)
    freeze_layers(model, options.freeze)
    train_set, val_set = (JointDataset(split, options.imgsz, options.cache) for split in splits)
    if hyp.not_applied:
        LOGGER.warning(f"warning: frames and anchors are used as they are; not applied: {hyp.not_applied}")
    LOGGER.info(f"{len(train_set)} training and {len(val_set)} validation frames; {precision}; {folder}")
    return Job(
        model=model,
        criterion=JointLoss(detection_loss(model, hyp, options.imgsz)),
        balancer=build_balancer(hyp),
        data=data,
        train_set=train_set,
        val_set=val_set,
        hyp=hyp,
        options=options,
        precision=precision,
        folder=folder,
        resume=resume,
    )


def detection_loss(model: YOLOv5WithClassification, hyp: HyperParameters, image_size: int) -> DetectionLoss:
    """The hyp file's detection loss for a model's anchors and an image size (pixels)."""
    anchors = model.detect.anchors
    gains = LossGains.scaled(hyp, len(anchors), model.detect.class_count, image_size)
    return DetectionLoss(anchors, gains, hyp.anchor_t, hyp.cls_pw, hyp.obj_pw, hyp.label_smoothing)


def build_balancer(hyp: HyperParameters) -> LossWeighting:
    """GradNorm as the hyp file sets it, or fixed weights if its rule is off."""
    initial = {
        "detection": hyp.initial_detection_weight,
        "classification": hyp.initial_classification_weight,
    }
    if hyp.gradnorm_rule == "off":
        return fixed_weights(**initial)
    return GradNorm(
        initial,
        alpha=hyp.gradnorm_alpha,
        interval=hyp.gradnorm_interval,
        rule=hyp.gradnorm_rule,
        place=hyp.gradnorm_place,
        learning_rate=hyp.gradnorm_lr,
        momentum=hyp.gradnorm_momentum,
        weight_sum=hyp.weight_sum,
        min_share=hyp.gradnorm_min_share,
    )


if __name__ == "__main__":
    run_script(main)

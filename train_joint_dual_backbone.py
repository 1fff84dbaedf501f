"""Train two networks that share nothing: a YOLOv5s for boxes, an attentive one for the view.

python train_joint_dual_backbone.py --epochs 50                             # the embedded phantom
python train_joint_dual_backbone.py --data path/to/data.yaml --imgsz 320    # on your own frames
python train_joint_dual_backbone.py --weights last.pt --freeze-task detection    # classifier alone
python train_joint_dual_backbone.py --resume runs/train/exp/weights/last.pt    # resume
"""

from __future__ import annotations

import argparse

from utils.core.options import DualOptions, training_parser
from utils.core.script import run_script


def main() -> None:
    args = parse_arguments()
    # There, `build_job` makes networks and losses, and `utils.training.trainer` trains them.
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.train_joint_dual_backbone import run

    run(args)


def build_parser(description: str | None = __doc__) -> argparse.ArgumentParser:
    return training_parser(description, DualOptions)


def parse_arguments() -> argparse.Namespace:
    return build_parser().parse_args()


if __name__ == "__main__":
    run_script(main)

"""Train one YOLOv5s that detects boxes and names the view, its two losses balanced by GradNorm.

python train_joint_gradnorm.py --epochs 50 --gradnorm-alpha 1.5         # on the embedded phantom
python train_joint_gradnorm.py --data path/to/data.yaml --imgsz 320     # on your own frames
python train_joint_gradnorm.py --resume runs/train/exp/weights/last.pt  # resume where it stopped
"""

from __future__ import annotations

import argparse

from utils.core.options import JointOptions, training_parser
from utils.core.script import run_script


def main() -> None:
    args = parse_arguments()
    # There, `build_job` makes model, losses and balancer, and `utils.training.trainer` trains them.
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.train_joint_gradnorm import run

    run(args)


def build_parser(description: str | None = __doc__) -> argparse.ArgumentParser:
    return training_parser(description, JointOptions)


def parse_arguments() -> argparse.Namespace:
    return build_parser().parse_args()


if __name__ == "__main__":
    run_script(main)

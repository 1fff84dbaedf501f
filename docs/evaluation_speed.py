"""What the evaluation of many frames takes, on made-up predictions.

python -m docs.evaluation_speed --frames 10000 --boxes 20                # processor time and memory
python -m docs.evaluation_speed --frames 10000 --boxes 20 --intervals    # with 1,000 resamples
"""

from __future__ import annotations

import resource
import time

import numpy as np

from utils.core.arguments import script_parser
from utils.core.script import run_script
from utils.core.settings import whole_number
from utils.evaluation.metrics import summarise
from utils.evaluation.results import ImageResult

NAMES = ("AR", "MR", "PR", "TR")
VIEWS = ("A4C", "PSAX", "PLAX")
SIDE = 300  # pixels
BYTES_A_KB = 1024


def main() -> None:
    parser = script_parser(__doc__, prog="python -m docs.evaluation_speed")
    frames = "how many, at least 1 (default: 10000)"
    parser.add_argument("--frames", type=whole_number(1), default=10000, help=frames)
    boxes = "true ones a frame, at least 1 (default: 20)"
    parser.add_argument("--boxes", type=whole_number(1), default=20, help=boxes)
    parser.add_argument("--intervals", action="store_true", help="with 95 %% intervals")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    results = [made_up_result(rng, number, args.boxes) for number in range(args.frames)]
    started = time.process_time()
    metrics = summarise(results, NAMES, VIEWS, intervals=args.intervals)
    taken_s = time.process_time() - started
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_A_KB / 1e9
    print(
        f"{args.frames} frames of {args.boxes} boxes: {taken_s:.1f} s of processor time, "
        f"{peak_gb:.2f} GB at most; mAP50 {metrics['detection']['mAP_0.5']:.3f}"
    )


def made_up_result(rng: np.random.Generator, number: int, boxes: int) -> ImageResult:
    """As many detections as true boxes: most a few pixels off, the others elsewhere."""
    low = rng.uniform(0, SIDE - 100, (boxes, 2))
    true_boxes_xyxy = np.hstack((low, low + rng.uniform(15, 60, (boxes, 2))))
    found = true_boxes_xyxy + rng.normal(0, 4, (boxes, 4))
    is_elsewhere = rng.random(boxes) < 0.3
    found[is_elsewhere] = rng.permutation(found[is_elsewhere])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    classes = rng.integers(0, len(NAMES), boxes)
    is_other = rng.random(boxes) < 0.1
    name = f"{number}.jpg"
    return ImageResult(
        image=name,
        group=name,
        height=SIDE,
        width=SIDE,
        true_boxes_xyxy=true_boxes_xyxy,
        true_classes=classes,
        true_view=int(rng.integers(len(VIEWS))),
        boxes_xyxy=found,
        scores=np.sort(rng.random(boxes))[::-1],
        classes=np.where(is_other, (classes + 1) % len(NAMES), classes),
        view_probabilities=rng.dirichlet(np.ones(len(VIEWS))),
    )


if __name__ == "__main__":
    run_script(main)

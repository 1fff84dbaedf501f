"""What a validation takes of an epoch's processor time, its forward passes aside.

python -m docs.validation_share --data DATA.yaml --imgsz 320 --steps 100

Options are those of benchmark.py. Ten training steps and a validation take turns, in one thread, so
that nothing else the machine does counts; the first turn warms up.
"""

from __future__ import annotations

import statistics
import tempfile
import time

import benchmark
from utils.core.names import BENCHMARK_BLOCK
from utils.core.script import run_script


def main() -> None:
    args = benchmark.parse_arguments()
    import torch

    from utils.commands.benchmark import Measured

    torch.set_num_threads(1)
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        measured = Measured(args.configurations["as asked"], folder)
        measured.watch.now = time.process_time
        for _ in range(1 + args.steps // BENCHMARK_BLOCK):
            measured.forget()
            measured.steps(BENCHMARK_BLOCK)
            shares.append(measured.epoch_time().validation_rest)
        detections = sum(len(result.scores) for result in measured.trainer.results)
        frames = len(measured.trainer.results)
    shares = shares[1:]
    print(
        f"validation but its forward passes: {statistics.median(shares):.2%} of an epoch's "
        f"processor time ({min(shares):.2%} to {max(shares):.2%} in {len(shares)} turns), "
        f"{detections / frames:.0f} detections a frame"
    )


if __name__ == "__main__":
    run_script(main)

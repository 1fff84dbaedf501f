"""What the start of a training costs, up to its first batch, on many frames.

python -m docs.start_up --source DATA.yaml --frames 20000 --out /tmp/many    # makes the data set
python -m docs.start_up --data /tmp/many/data.yaml --index auto              # starts, and measures

The frames are hard links to 32 frames of the source, so that a million of them need little room; a
file system allows 65,000 links a file. The second command ends with a line of JSON: processor seconds
of the imports and of the start, of all threads, wall seconds, and the largest resident size. The
start ends with the first batch, before the network sees it.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from pathlib import Path

from utils.core.arguments import filled, script_parser
from utils.core.script import UserError, run_script
from utils.core.settings import whole_number

SOURCES = 32
FRAMES_A_PATIENT = 100
VAL_SHARE = 0.1


def main() -> None:
    parser = script_parser(__doc__, prog="python -m docs.start_up")
    parser.add_argument("--source", type=filled, help="data.yaml whose frames are linked to")
    frames = f"how many, at least {FRAMES_A_PATIENT} (default: 20000)"
    parser.add_argument("--frames", type=whole_number(FRAMES_A_PATIENT), default=20000, help=frames)
    parser.add_argument("--out", type=filled, help="new or empty folder of the new data set")
    parser.add_argument("--data", type=filled, help="data.yaml to start a training on")
    parser.add_argument("--index", help="see train_joint_gradnorm.py --help")
    parser.add_argument("--cache", default="off", help="the same (default: off)")
    args = parser.parse_args()
    if args.source and args.out:
        write_links(args.source, args.frames, Path(args.out))
    elif args.data and not args.source:
        print(json.dumps(measure(args.data, args.cache, args.index)))
    else:
        raise UserError("give --source and --out to make a data set, or --data to start on one")


def write_links(source: str, frames: int, out: Path) -> None:
    """A data set of so many frames in `out`, training and validation together."""
    from utils.commands.split_dataset import refuse_full
    from utils.core.data_config import load_data_config
    from utils.data.splits import label_path, load_split

    refuse_full(out, str(out))
    data = load_data_config(source)
    images = list(load_split(data, "train").images)[:SOURCES]
    for number in range(frames):
        split = "val" if number % FRAMES_A_PATIENT < VAL_SHARE * FRAMES_A_PATIENT else "train"
        image = images[number % len(images)]
        patient = number // FRAMES_A_PATIENT * 2 + (split == "val")
        name = f"P{patient:06d}_F{number:07d}"
        label = label_path(image, data)
        for kind, file, suffix in (("images", image, image.suffix), ("labels", label, ".txt")):
            target = out / kind / split / (name + suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target)
    lines = [
        "train: images/train",
        "val: images/val",
        f"names: {json.dumps(list(data.names))}",
        f"cls_names: {json.dumps(list(data.view_names))}",
        "group_pattern: '^(P[0-9]+)_'",
    ]
    (out / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(data: str, cache: str, index: str | None) -> dict[str, object]:
    """What a start costs, in this process."""
    from utils.commands.train_joint_gradnorm import build_job
    from utils.core.options import JointOptions
    from utils.training.run import start_run
    from utils.training.setup import Setup

    imports_s = time.process_time()
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as project:
        given = {"data": data, "project": project, "cache": cache, "workers": 0, "size": "n"}
        if index is not None:
            given["index"] = index
        with start_run(given, "joint", JointOptions) as run:
            setup = Setup(build_job(run))
            next(iter(setup.train_loader))
    return {
        "frames": len(setup.job.frames.train) + len(setup.job.frames.val),
        "index": index,
        "cache": cache,
        "imports_s": round(imports_s, 2),
        "start_s": round(time.process_time() - imports_s, 2),
        "wall_s": round(time.perf_counter() - began_s, 2),
        "largest_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    run_script(main)

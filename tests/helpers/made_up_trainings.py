"""Trainings of a comparison whose script is a few lines long."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from utils.comparison.arms import Arm
from utils.comparison.trainings import Training

PREAMBLE = """
import os, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[sys.argv.index("--project") + 1]) / sys.argv[sys.argv.index("--name") + 1]
folder.mkdir()

def wait_for_the_end():
    def stop(number, frame):
        (folder / "stopped").touch()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    (folder / "began").touch()
    time.sleep(60)
"""


def made_up_trainings(
    place: Path, lines: str, needs: Mapping[str, str | None], data: str = "data.yaml"
) -> list[Training]:
    """Trainings of arms, each by a script of these lines, in folders below `place`/runs.

    Args:
        needs: name of an arm -> the one it needs, or None.
    """
    script = place / "script.py"
    script.write_text(PREAMBLE + lines)
    (place / "runs").mkdir(exist_ok=True)
    trainings = []
    for name, needed in needs.items():
        arm = Arm(name, "", str(script), needs=needed)
        folder_of_needed = None
        if needed:
            folder_of_needed = place / "runs" / needed
        common = {"epochs": 1, "device": "cpu"}
        trainings.append(Training(arm, data, 0, common, place / "runs" / name, folder_of_needed))
    return trainings

"""Three tiny trainings whose losses are pinned: a change that is no change of computation keeps them.

The figures in tests/assets change only in a commit that says why. To write them anew, from the
checkout:

    PYTHONPATH=.:tests/helpers python tests/training/test_golden_losses.py
"""

import tempfile
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from small_runs import run, small_options, write_tiny_data

import train_joint_dual_backbone
import train_joint_gradnorm

ASSETS = Path(__file__).resolve().parents[1] / "assets"
RELATIVE = 1e-3
TRAININGS = {
    "joint": (train_joint_gradnorm, {}),
    "dual": (train_joint_dual_backbone, {}),
    "detection": (train_joint_gradnorm, {"tasks": ["detection"]}),
}


def losses_of(data: Path, folder: Path, script: ModuleType, changes: dict) -> pd.DataFrame:
    """The losses and weights of every epoch of a training of nine steps, in float32 and one
    thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options = small_options(data, folder, script, size={"width_multiple": 0.125})
        run(options, folder / "run", script, workers=0, **changes)
    finally:
        torch.set_num_threads(threads)
    table = pd.read_csv(folder / "run" / "results.csv")
    return table.filter(regex="^epoch$|_loss$|^weight/").dropna(axis="columns")


@pytest.mark.parametrize("name", TRAININGS)
def test_losses_are_the_pinned_ones(name: str, tiny_data: Path, tmp_path: Path):
    found = losses_of(tiny_data, tmp_path, *TRAININGS[name])
    pinned = pd.read_csv(ASSETS / f"golden_losses_{name}.csv")
    pd.testing.assert_frame_equal(found, pinned, rtol=RELATIVE, atol=0, check_dtype=False)


if __name__ == "__main__":
    for training, (training_script, options) in TRAININGS.items():
        with tempfile.TemporaryDirectory() as place:
            frames = write_tiny_data(Path(place))
            rows = losses_of(frames, Path(place), training_script, options)
        rows.to_csv(ASSETS / f"golden_losses_{training}.csv", index=False)

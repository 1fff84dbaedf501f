"""What is looked at before a training begins."""

import contextlib
import re
import signal
from pathlib import Path

import pytest

from utils.core.options import DualOptions, JointOptions
from utils.core.script import UserError
from utils.core.signals import Interrupted, unwound_by_signals
from utils.training.run import prepare_start, start_run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (JointOptions(cfg="gone.yaml"), "gone.yaml: no such file; expected a model YAML"),
        (JointOptions(cfg="."), ".: cannot be read: it is a folder; expected a model YAML"),
        (DualOptions(cfg="gone.yaml"), "gone.yaml: no such file; expected a model YAML"),
        (DualOptions(classifier_cfg="gone.yaml"), "gone.yaml: no such file"),
        (JointOptions(weights="gone.pt"), "gone.pt: no such checkpoint"),
        (JointOptions(weights="/dev/zero"), "/dev/zero: cannot be read: it is a device"),
        (JointOptions(weights="README.md"), "README.md: refused: it is a text file"),
        (JointOptions(weights="yolov5q.pt", download=True), "--download fetches only"),
    ],
)
def test_what_no_model_can_be_made_of_is_said_before_frames_are_read(
    options: JointOptions | DualOptions, message: str
):
    with pytest.raises(UserError, match=re.escape(message)):
        prepare_start(options)


def test_what_a_stop_signal_broke_is_a_stop(tmp_path: Path):
    """Such as a loader's process, whose end can be noticed before the signal itself."""
    options = {"project": str(tmp_path), "name": "run", "device": "cpu"}
    with (
        pytest.raises(Interrupted, match="before the first checkpoint; start the run anew"),
        unwound_by_signals(),
        start_run(options, "joint", JointOptions) as started,
    ):
        with contextlib.suppress(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a loader's process ended")
    assert not started.lock.release.alive

"""What is looked at before a training begins."""

import re

import pytest

from utils.core.options import DualOptions, JointOptions
from utils.core.script import UserError
from utils.training.run import prepare_start


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

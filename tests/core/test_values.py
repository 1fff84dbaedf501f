"""Settings become plain values and come back; only what is near is suggested."""

import pytest
import yaml

from utils.core.data_config import DATA_KEYS
from utils.core.hyperparameters import HyperParameters
from utils.core.options import DualOptions, JointOptions, TrainOptions
from utils.core.script import UserError
from utils.core.values import did_you_mean, from_mapping, to_mapping


@pytest.mark.parametrize(
    "config",
    [
        HyperParameters(),
        TrainOptions(epochs=3),
        DualOptions(freeze_task=["detection"]),
        JointOptions(size="n"),
    ],
)
def test_plain_values_and_back(config: object):
    assert from_mapping(type(config), yaml.safe_load(yaml.safe_dump(to_mapping(config)))) == config


@pytest.mark.parametrize(
    ("key", "nearest"), [("nmaes", "names"), ("groups_pattern", "group_pattern"), ("vall", "val")]
)
def test_a_near_key_is_suggested(key: str, nearest: str):
    assert did_you_mean(key, DATA_KEYS) == f"; did you mean '{nearest}'?"


@pytest.mark.parametrize("key", ["roboflow", "download", "licence", "", "kpt_shape", 3, None])
def test_a_far_key_is_not(key: object):
    assert did_you_mean(key, DATA_KEYS) == ""


def test_a_number_that_no_float_can_hold_is_refused():
    with pytest.raises(UserError, match=r"lr0 is 1.*, expected a number"):
        from_mapping(HyperParameters, {"lr0": 10**400})

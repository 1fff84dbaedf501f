"""Settings become plain values and come back; a file that is no mapping is named."""

from pathlib import Path

import pytest
import yaml

from utils.core.data_config import load_data_config
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.options import DualOptions, JointOptions, TrainOptions
from utils.core.script import UserError
from utils.core.values import from_mapping, to_mapping


@pytest.mark.parametrize(
    "config",
    [HyperParameters(), TrainOptions(epochs=3), DualOptions(freeze_task=["detection"]), JointOptions(size="n")],
)
def test_plain_values_and_back(config: object):
    assert from_mapping(type(config), yaml.safe_load(yaml.safe_dump(to_mapping(config)))) == config


@pytest.mark.parametrize("load", [load_data_config, load_hyperparameters])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"- a\n- b\n", id="a list"),
        pytest.param(b"just words", id="words"),
        pytest.param(b"a: [1\nb: 2", id="open bracket"),
        pytest.param(b"a: b: c", id="two colons"),
        pytest.param(b"\xff\xfea", id="not UTF-8"),
        pytest.param(b"lr0: !!python/object/apply:os.getcwd []", id="would execute"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, load, content: bytes | None):
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)

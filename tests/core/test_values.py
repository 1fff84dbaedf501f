"""Settings become plain values and come back; a file that is no mapping is named."""

from pathlib import Path

import pytest
import yaml

from models.graph import load_model_yaml
from utils.core.data_config import load_data_config
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.options import DualOptions, JointOptions, TrainOptions
from utils.core.script import UserError
from utils.core.values import from_mapping, read_yaml_mapping, to_mapping


def read_named(path: Path) -> dict:
    return read_yaml_mapping(path, "")


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


@pytest.mark.parametrize(
    "load", [load_data_config, load_hyperparameters, load_model_yaml, read_named]
)
@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("lr0: 1\nlr0: 2\n", "'lr0'", "1 and 2"),
        ("# one\nnc: 4\nval: a\n\nnc: 4\n", "'nc'", "2 and 5"),
        ("{nc: 4, nc: 5}", "'nc'", "1 and 1"),
        ("names: {0: AR, 0: MR}", "0", "1 and 1"),
        ("names:\n  0: AR\n  1: MR\n  0x1: PR\n", "1", "3 and 4"),
        ("x: [{a: 1, 'a': 2}]", "'a'", "1 and 1"),
        ("names: &n {0: AR}\nx: {<<: *n, 1: b, 1: c}", "1", "2 and 2"),
        ("~: 1\nnull: 2", "None", "1 and 2"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(
    tmp_path: Path, load, text: str, key: str, lines: str
):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(path)
    assert (
        str(error.value)
        == f"{path}: key {key} is there twice, in lines {lines}; leave one of them out"
    )


def test_keys_that_are_merged_may_be_overridden(tmp_path: Path):
    path = tmp_path / "file.yaml"
    path.write_text(
        "a: &a {x: 1, y: 1}\nb: &b {y: 2, <<: *a}\nc: {<<: *a, <<: *b, x: 3}\nd: {<<: [*b], y: 4}\n"
    )
    content = read_yaml_mapping(path, "")
    assert (content["b"], content["d"]) == ({"x": 1, "y": 2}, {"x": 1, "y": 4}) and content["c"][
        "x"
    ] == 3


@pytest.mark.parametrize(
    "text", ["1: a", "on: a", "2024-05-01: a", "~: a", "1.5: a", "? !!binary eA==\n: a", "'': a"]
)
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"key is .*, expected text"):
        read_yaml_mapping(path, "")


HUGE_NUMBERS = (
    str(2**63),
    f"-{2**64}",
    "1" + "0" * 400,
    "9" * 5000,
    "0x" + "f" * 5000,
    "0b" + "1" * 80,
)


@pytest.mark.parametrize(
    "load", [load_data_config, load_hyperparameters, load_model_yaml, read_named]
)
@pytest.mark.parametrize("place", ["lr0: {}", "nc: {}", "names: [{}]", "{}: a", "x: {{a: [{}]}}"])
def test_a_number_of_more_than_63_bits_is_refused_in_few_words(tmp_path: Path, load, place: str):
    path = tmp_path / "file.yaml"
    for number in HUGE_NUMBERS:
        path.write_text(place.format(number))
        with pytest.raises(UserError) as error:
            load(path)
        message = str(error.value)
        assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63) + 1])
def test_a_number_of_63_bits_is_read(tmp_path: Path, number: int):
    path = tmp_path / "file.yaml"
    path.write_text(f"x: {number}")
    assert read_named(path) == {"x": number}


def test_a_number_that_no_float_can_hold_is_refused():
    with pytest.raises(UserError, match=r"lr0 is 1.*, expected a number"):
        from_mapping(HyperParameters, {"lr0": 10**400})

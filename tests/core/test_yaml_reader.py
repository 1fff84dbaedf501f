"""YAML files are read within limits; what breaks them is one line that names file and place."""

from pathlib import Path

import pytest
from small_files import write_yaml

from models.graph import load_model_yaml
from utils.core.data_config import load_data_config
from utils.core.hyperparameters import load_hyperparameters
from utils.core.script import UserError
from utils.core.yaml_reader import DEEPEST, LONGEST_NUMBER, MOST_BYTES, read_yaml_mapping


def read_named(path: Path) -> dict:
    return read_yaml_mapping(path, "")


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


@pytest.mark.parametrize("text", ["1: a", "on: a", "2024-05-01: a", "~: a", "1.5: a", "'': a"])
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"key is .*, expected text"):
        read_yaml_mapping(path, "")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 30)}]}}\n"
    for before, name in zip("abcd", "bcde", strict=True)
)
TOWER = "a: &a [x]\n" + "".join(
    f"k{number}: &k{number} [*{before}]\n"
    for number, before in enumerate(["a", *(f"k{number}" for number in range(3000))])
)


@pytest.mark.parametrize(
    "load", [load_data_config, load_hyperparameters, load_model_yaml, read_named]
)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(BOMB, "where each alias counts", id="aliases of aliases"),
        pytest.param(MERGES, "where each alias counts", id="merges of merges"),
        pytest.param(TOWER, f"more than {DEEPEST} lists", id="a tower of aliases"),
        pytest.param("a: &a [*a]", "line 1: an alias of what it lies in", id="list in itself"),
        pytest.param("a: &a {b: *a}", "line 1: an alias of what it lies in", id="in its value"),
        pytest.param("a: &a {<<: *a}", "line 1: an alias of what it lies in", id="merged"),
        pytest.param(f"a: {nested(100)}", f"more than {DEEPEST} lists", id="lists in lists"),
        pytest.param(f"a: {'[' * 100_000}", f"more than {DEEPEST} lists", id="never closed"),
        pytest.param("a: " + "{a: " * 5000, f"more than {DEEPEST} lists", id="mappings"),
        pytest.param("- " * 5000, f"more than {DEEPEST} lists", id="dashes"),
        pytest.param("? " * 5000, f"more than {DEEPEST} lists", id="keys of keys"),
        pytest.param(f"a: {'9' * 5000}", "line 1: a number of 5000 characters", id="digits"),
        pytest.param(f"a: 0x{'f' * 5000}", "a number of 5002 characters", id="hexadecimal"),
        pytest.param(f"a: 1{':59' * 2000}", "a number of 6001 characters", id="sexagesimal"),
        pytest.param(f"a: -{'9' * 5000}.5", "a number of 5003 characters", id="with a point"),
        pytest.param(f"{'9' * 5000}: a", "a number of 5000 characters", id="as a key"),
        pytest.param("a: !!int '0x'", "line 1: '0x' is no int", id="no number"),
        pytest.param("\na: 2024-13-01", "line 2: '2024-13-01' is no timestamp", id="13th month"),
        pytest.param("a: 2023-02-29 01:02:03", "is no timestamp", id="29th of February"),
        pytest.param("a: 2024-01-01 25:00:00", "is no timestamp", id="25 o'clock"),
        pytest.param("2024-13-01: a", "is no timestamp", id="date as a key"),
        pytest.param("a: !!timestamp soon", "'soon' is no timestamp", id="no date"),
        pytest.param("a: !!bool maybe", "'maybe' is no bool", id="no truth value"),
        pytest.param("a: !!float x", "'x' is no float", id="no float"),
        pytest.param("a: 0x_", "is no int", id="underscore"),
        pytest.param("a: !!seq x", "not readable as YAML", id="text as a list"),
        pytest.param("a: !!str [x]", "not readable as YAML", id="a list as text"),
        pytest.param("a: !!binary eA==", "the tag !!binary, expected", id="bytes"),
        pytest.param("? !!binary eA==\n: a", "the tag !!binary", id="bytes as a key"),
        pytest.param("a: !!set {b, c}", "the tag !!set", id="set"),
        pytest.param("a: !!omap [b: 1]", "the tag !!omap", id="ordered mapping"),
        pytest.param("a: !!python/name:os.system", "the tag !!python/name", id="a function"),
        pytest.param("a: !mine 3", "the tag !mine", id="own tag"),
        pytest.param("a: ! 3\nb: [", "not readable", id="no tag"),
        pytest.param('a: "b\\0c"', "'b\\x00c' holds a NUL", id="NUL"),
        pytest.param('"b\\0c": a', "holds a NUL", id="NUL in a key"),
        pytest.param('a: "b\\ud800"', "holds half a character", id="half a character"),
        pytest.param('a: "\\ud83d\\ude00"', "holds half a character", id="two halves"),
        pytest.param("a: b\0c", "not readable as YAML", id="NUL byte"),
        pytest.param("a: x\n---\na: y", "not readable as YAML", id="two documents"),
        pytest.param("a: *b", "not readable as YAML", id="unknown alias"),
        pytest.param(f"a: {'x' * MOST_BYTES}", f"expected at most {MOST_BYTES}", id="large"),
    ],
)
def test_what_breaks_a_limit_is_one_short_line(tmp_path: Path, load, text: str, found: str):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and found in message
    assert "\n" not in message and message.isprintable() and len(message) < 500


def test_what_is_within_the_limits_is_read(tmp_path: Path):
    path = tmp_path / "file.yaml"
    many = ", ".join(["x"] * 40_000)
    number = "9" * LONGEST_NUMBER
    path.write_text(f"a: &a {nested(20)}\nb: *a\nc: *a\nd: [{many}]\ne: {number}\nf: 2024-02-29\n")
    content = read_yaml_mapping(path, "")
    assert content["b"] == content["a"] and len(content["d"]) == 40_000
    assert content["e"] == int(number)


@pytest.mark.parametrize("content", [b"a: \xe9", "a: x".encode("utf-16")])
def test_another_encoding_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"byte \d is not UTF-8; expected YAML, saved as UTF-8"):
        read_yaml_mapping(path, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected 'key: value' lines"),
        ("# only a comment\n", "is empty, expected 'key: value' lines"),
        ("- a", "found list, expected 'key: value' lines"),
        ("a: 1\n\tb: 2", "line 2: while scanning for the next token, found character '\\t'"),
        ("a: 1\nb: [1,", "line 2: while parsing a flow node, "),
        ("a: 1\nb: *c", "line 2: found undefined alias 'c'"),
        ("a: x\n---\na: y", "line 2: expected a single document in the stream, but found another"),
    ],
)
def test_where_a_file_is_no_yaml_is_said_in_words(tmp_path: Path, text: str, message: str):
    with pytest.raises(UserError) as error:
        read_yaml_mapping(write_yaml(tmp_path, text), "a hint")
    assert message in str(error.value)
    assert "<unicode string>" not in str(error.value)

"""What a checkpoint holds: every key that is read, and what is expected of its value.

A file from a stranger, or one that was changed by hand, is refused here by file and key, before
anything is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from utils.core.names import STRIDE, TASKS
from utils.core.patterns import check_pattern
from utils.core.script import UserError
from utils.core.title import read_title
from utils.core.values import is_number, is_whole

FIX = "the file is damaged or was changed; take another one, or train again"
LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class Field:
    """What is expected of a key's value.

    Attributes:
        expected: in words.
        holds: whether a value is right; it may be anything.
        required: whether the key must be there.
    """

    expected: str
    holds: Callable[[object], bool]
    required: bool = True


Table = Mapping[str, Field]


def _is_names(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        return False
    return len(set(value)) == len(value)


def _is_prior(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, Mapping) or value.keys() != {"majority", "by_class"}:
        return False
    by_class = value["by_class"]
    if not is_whole(value["majority"], 0) or not isinstance(by_class, Mapping):
        return False
    return all(is_whole(number, 0) for number in (*by_class, *by_class.values()))


def _is_tasks(value: object) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(task, str) for task in value):
        return False
    return len(set(value)) == len(value) and set(value) <= set(TASKS)


def is_mapping(value: object) -> bool:
    """Whether a value is a mapping whose keys are text."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_best(value: object) -> bool:
    if not is_mapping(value):
        return False
    return all(map(_is_figures, value.values()))


def _is_figures(value: object) -> bool:
    """The best epoch of a network; older trainings noted no parts of the fitness."""
    if not is_mapping(value) or not is_whole(value.get("epoch"), -1):
        return False
    return _is_fitness(value.get("fitness")) and _is_parts(value.get("parts", {}))


def _is_parts(value: object) -> bool:
    return is_mapping(value) and all(is_number(part, -1, 1) for part in value.values())


def _is_fitness(value: object) -> bool:
    return (
        is_number(value, -math.inf, math.inf) and value < math.inf
    )  # minus infinity: never validated


def _is_pattern(value: object, groups: int) -> bool:
    """Whether a value is None, or a regular expression with so many groups."""
    if value is None:
        return True
    if not isinstance(value, str):
        return False
    try:
        check_pattern(value, groups)
    except UserError:
        return False
    return True


def _is_title(value: object) -> bool:
    try:
        return value is not None and read_title(value) == value
    except UserError:
        return False


def _is_data(value: object) -> bool:
    """The settings of a data.yaml; older trainings noted fewer."""
    if not is_mapping(value):
        return False
    return all(field.holds(value[key]) for key, field in FILE_NAMES.items() if key in value)


def _is_thresholds(value: object) -> bool:
    """What a checkpoint keeps of `utils.evaluation.thresholds`; older ones have none."""
    if not is_mapping(value):
        return False
    return all(field.holds(value[key]) for key, field in THRESHOLDS.items() if key in value)


def _is_share(value: object) -> bool:
    return value is None or is_number(value, 0, 1)


_MAPPING = Field("a mapping", is_mapping)
_NUMBER = Field("a whole number of at least 0", lambda value: is_whole(value, 0))
_ARCHITECTURE = {"cfg": Field("a model YAML's content", is_mapping), "nc": _NUMBER}
_VIEWS = {
    "views": Field("a whole number of at least 0", lambda value: is_whole(value, 0), required=False)
}
_TASKS = {"tasks": Field(f"{' and/or '.join(TASKS)}", _is_tasks, required=False)}
# Kind of model -> what it is built with.
ARGUMENTS: Mapping[str, Table] = {
    "detection": _ARCHITECTURE,
    "joint": _ARCHITECTURE | _VIEWS | _TASKS,
    "dual": _ARCHITECTURE | _VIEWS | {"classifier_cfg": _MAPPING},
}

# What is read of the options, besides on resume.
OPTIONS: Table = {
    "imgsz": Field(
        f"a multiple of {STRIDE}, pixels",
        lambda value: is_whole(value, STRIDE, 2**16) and value % STRIDE == 0,
    ),
    "data": Field("text, the data.yaml", _is_text),
    "rect": Field("True or False", lambda value: isinstance(value, bool), required=False),
}

# What is read of the data.yaml's settings; older files have none of it.
FILE_NAMES: Table = {
    "group_pattern": Field(
        "None, or a regular expression with a group", lambda value: _is_pattern(value, 1), False
    ),
    "clip_pattern": Field(
        "None, or a regular expression with two groups", lambda value: _is_pattern(value, 2), False
    ),
    "needs_colour": Field("True or False", lambda value: isinstance(value, bool), False),
    "cls_title": Field("what one label of an image is called", _is_title, False),
}

_SHARE = "None, or a number from 0 to 1"
THRESHOLDS: Table = {
    "clip_evidence": Field(_SHARE, _is_share, False),
    "view_probability": Field(_SHARE, _is_share, False),
}

# The metadata in a model's file, exported ones too.
METADATA: Table = {
    "kind": Field(
        ", ".join(ARGUMENTS), lambda value: isinstance(value, str) and value in ARGUMENTS
    ),
    "names": Field("a list of different names", _is_names),
    "view_names": Field("a list of different names", _is_names),
    "confidence": Field(_SHARE, _is_share),
    "view_prior": Field("None, or numbers of views: majority, by_class", _is_prior),
    "fingerprint": Field("text", _is_text),
}

CHECKPOINT: Table = METADATA | {
    "arguments": _MAPPING,
    "options": _MAPPING,
    "model": Field("a mapping of names to tensors", is_mapping),
    "ema": Field("a mapping with the averaged weights", is_mapping, required=False),
    "epoch": Field(
        "a whole number of at least -1", lambda value: is_whole(value, -1), required=False
    ),
    "best": Field("epoch and fitness of every network", _is_best, required=False),
    "hyp": Field("a mapping", is_mapping, required=False),
    "data": Field(
        "group_pattern, clip_pattern, needs_colour and cls_title as in a data.yaml",
        _is_data,
        required=False,
    ),
    "thresholds": Field("numbers from 0 to 1, or None", _is_thresholds, required=False),
}

PRECISIONS = ("float32", "bfloat16", "float16")
RESUMED: Table = {
    **{key: Field(field.expected, field.holds) for key, field in CHECKPOINT.items()},
    "data": CHECKPOINT["data"],
    "thresholds": CHECKPOINT["thresholds"],
    "networks": Field("a mapping of networks to their states", is_mapping),
    "balancer": _MAPPING,
    "random": Field(
        "a list of random generators' states",
        lambda value: isinstance(value, list) and all(map(is_mapping, value)),
    ),
    "precision": Field(
        " or ".join(PRECISIONS), lambda value: isinstance(value, str) and value in PRECISIONS
    ),
}

NETWORK: Table = {
    "stepper": _MAPPING,
    "ema_updates": Field("a whole number of at least 0", lambda value: is_whole(value, 0)),
    "best_parts": Field("a mapping of tasks to numbers", _is_parts),
    "highest_detection": Field("a number from 0 to 1", lambda value: is_number(value, 0, 1)),
    "best_epoch": Field("a whole number of at least -1", lambda value: is_whole(value, -1)),
}
STEPPER: Table = {"optimizer": _MAPPING, "scaler": _MAPPING}


def check(
    content: Mapping[str, object], table: Table, source: str | Path, within: str = ""
) -> None:
    """Hold a mapping's values against a table; keys that are not in the table are passed by.

    Args:
        within: the path of `content` in the file, such as "options.".

    Raises:
        UserError: a key is missing, or its value is not what is expected.
    """
    for key, field in table.items():
        if key not in content:
            if field.required:
                raise UserError(
                    f"{source}: key '{within}{key}' is missing, expected {field.expected}; {FIX}"
                )
        elif not field.holds(content[key]):
            raise wrong(source, f"{within}{key}", content[key], field.expected)


def wrong(source: str | Path, key: str, value: object, expected: str) -> UserError:
    """The error of a value that is not what is expected."""
    return UserError(f"{source}: {key} is {_shown(value)}, expected {expected}; {FIX}")


def _shown(value: object) -> str:
    """A value on one short line."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    if len(text) > LONGEST:
        return f"{text[: LONGEST - 3]}..."
    return text


def check_checkpoint(content: Mapping[str, object], source: str | Path) -> None:
    """Hold a checkpoint against what is read of it to evaluate, detect, export and fine-tune.

    Raises:
        UserError: a key is missing or has a wrong value; or weights that are not finite.
    """
    check(content, CHECKPOINT, source)
    check(content["options"], OPTIONS, source, "options.")
    kind = content["kind"]
    arguments = content["arguments"]
    check(arguments, ARGUMENTS[kind], source, "arguments.")
    unknown = arguments.keys() - ARGUMENTS[kind].keys()
    if unknown:
        raise UserError(
            f"{source}: arguments {sorted(unknown)} are unknown to models of kind '{kind}'; {FIX}"
        )
    _check_counts(content, source)
    _check_weights(content["model"], source, "model")
    if "ema" in content:
        check(content["ema"], {"model": CHECKPOINT["model"]}, source, "ema.")
        _check_weights(content["ema"]["model"], source, "ema.model")


def _check_counts(content: Mapping[str, object], source: str | Path) -> None:
    """Names, views and the numbers of them that the model was built with agree."""
    arguments = content["arguments"]
    names = content["names"]
    view_names = content["view_names"]
    if arguments["nc"] != len(names):
        raise wrong(source, "arguments.nc", arguments["nc"], f"{len(names)}, as there are names")
    tasks = arguments.get("tasks", TASKS)
    if "detection" in tasks and not names:
        raise wrong(source, "names", names, "one name at least")
    names_views = content["kind"] != "detection" and "classification" in tasks
    views = arguments.get("views")
    if names_views and views != len(view_names):
        expected = f"{len(view_names)}, as there are view_names"
        raise wrong(source, "arguments.views", views, expected)
    check_prior(content, source)


def check_prior(content: Mapping[str, object], source: str | Path) -> None:
    """The views and classes of the view prior are among those that have a name.

    Raises:
        UserError: they are not.
    """
    prior = content["view_prior"]
    if prior is None:
        return
    last_view = max([prior["majority"], *prior["by_class"].values()])
    last_class = max(prior["by_class"], default=-1)
    if last_view >= len(content["view_names"]) or last_class >= len(content["names"]):
        raise wrong(source, "view_prior", prior, "numbers of view_names, by numbers of names")


def _check_weights(state: Mapping[str, object], source: str | Path, key: str) -> None:
    if not state:
        raise UserError(f"{source}: {key} is empty, expected names and tensors; {FIX}")
    for name, value in state.items():
        if not _is_plain_tensor(value):
            raise wrong(source, f"{key}.{name}", value, "a dense tensor of real numbers")
    check_finite(state, source, key)


def _is_plain_tensor(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.device.type == "cpu" and not value.is_complex() and not value.is_quantized


def check_finite(content: object, source: str | Path, key: str) -> None:
    """Refuse a tensor or a number, anywhere in `content`, that is infinite or not a number.

    Raises:
        UserError: there is one.
    """
    for path, value in _leaves(content, key):
        found = None
        if isinstance(value, Tensor) and not bool(value.to(torch.float32).isfinite().all()):
            found = "has values that are"
        elif isinstance(value, float) and not math.isfinite(value):
            found = f"is {value},"
        if found:
            raise UserError(
                f"{source}: {path} {found} not finite; "
                f"expected the weights of a sound training; {FIX}"
            )


def _leaves(content: object, key: str) -> Iterator[tuple[str, object]]:
    """Every value below mappings and lists, with its path; whole numbers as they are."""
    if isinstance(content, Mapping):
        children = content.items()
    elif isinstance(content, list | tuple):
        children = enumerate(content)
    else:
        yield key, content
        return
    for name, value in children:
        yield from _leaves(value, f"{key}.{name}")


def check_resumable(content: Mapping[str, object], source: str | Path) -> None:
    """Hold a checkpoint against what more is read of it to resume its training.

    `check_checkpoint` has let it pass.

    Raises:
        UserError: a key is missing or has a wrong value.
    """
    check(content, RESUMED, source)
    epochs = content["options"].get("epochs")
    if is_whole(epochs, 1) and content["epoch"] >= epochs:
        raise wrong(source, "epoch", content["epoch"], f"less than options.epochs, {epochs}")
    for name, state in content["networks"].items():
        within = f"networks.{name}."
        if not is_mapping(state):
            raise wrong(source, within[:-1], state, "a network's state")
        check(state, NETWORK, source, within)
        check(state["stepper"], STEPPER, source, f"{within}stepper.")
        check_finite(state["stepper"], source, f"{within}stepper")
    check_finite(content["balancer"], source, "balancer")

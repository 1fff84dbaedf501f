"""docs/reference/options.md: the options of all scripts, and the keys of a hyp file.

python -m docs.options_page    # writes the page anew; a test compares it with the code

A row is made of the option's help, whose end "(default: ...)" becomes a column of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from collections.abc import Iterable

from utils.core.files import ROOT, markdown_table
from utils.core.hyperparameters import HyperParameters
from utils.core.settings import default_of, setting_of

PAGE = ROOT / "docs" / "reference" / "options.md"
SCRIPTS = (
    "train_joint_gradnorm",
    "train_joint_dual_backbone",
    "val",
    "detect",
    "export",
    "check_dataset",
    "split_dataset",
    "extract_frames",
    "compare_solutions",
    "report",
    "monitor_training",
    "benchmark",
)
HEAD = """# Options

Generated from the code by `python -m docs.options_page`; do not edit. Every script prints its
options with `--help`. An option without a default is off, or not set, unless it is given. What
scripts end with and print: [exit codes](exit-codes.md).
"""
HYP_HEAD = """## Keys of a hyp file

A key that is left out takes the default, which is YOLOv5's (augmentation: off). The files in `hyp/`
set their own values, and the command line lies over them.
"""
DEFAULT = re.compile(r"(?P<meaning>.*) \(default: (?P<default>.*)\)")


def page() -> str:
    """The whole page."""
    sections = [HEAD]
    for script in SCRIPTS:
        sections.append(script_section(script))
    sections.append(f"{HYP_HEAD}\n{hyp_table()}\n")
    return "\n".join(sections)


def script_section(name: str) -> str:
    """A script's options, in the groups that its help has."""
    parser = importlib.import_module(name).build_parser()
    summary = parser.description.partition("\n")[0]
    parts = [f"## {name}.py", summary]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if not actions:
            continue
        if group.title not in ("options", "positional arguments"):
            parts.append(f"{group.title[0].upper()}{group.title[1:]}:")
        parts.append(option_table(actions))
    return "\n\n".join(parts) + "\n"


def option_table(actions: Iterable[argparse.Action]) -> str:
    rows = [option_row(action) for action in actions]
    return markdown_table(("option", "default", "meaning"), rows)


def option_row(action: argparse.Action) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in action.option_strings or [action.metavar])
    meaning, default = action.help, ""
    found = DEFAULT.fullmatch(action.help)
    if found:
        meaning, default = found["meaning"], found["default"]
    elif action.required:
        default = "required"
    if action.choices:
        meaning += f"; one of {', '.join(action.choices)}"
    return names, default, meaning


def hyp_table() -> str:
    rows = []
    for field in dataclasses.fields(HyperParameters):
        declared = setting_of(field)
        allowed = ", ".join(declared.choices) or declared.allowed
        rows.append((f"`{field.name}`", yaml_text(default_of(field)), allowed, declared.help))
    return markdown_table(("key", "default", "values", "meaning"), rows)


def yaml_text(value: object) -> str:
    """A default as it is written in a hyp file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

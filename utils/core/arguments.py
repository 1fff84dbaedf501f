"""The parser of every script, and arguments that several share, checked as they are read."""

from __future__ import annotations

import argparse
import re
import typing

from utils.core.names import STRIDE
from utils.core.script import UserError
from utils.core.settings import number, whole_number
from utils.core.values import did_you_mean

MOST_ASKED_WORKERS = 64  # loader processes; each is a Python with torch in it
MOST_SIDE = 16384  # pixels of an image's side; OpenCV warps none of 32768
WORKERS = f"0 to {MOST_ASKED_WORKERS}, or -1 for as many as there are cores, up to 8"


def filled(text: str) -> str:
    """An argument that must not be empty, as one from an unset variable of a shell is."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a value, or leave the option out")
    return text


class ScriptParser(argparse.ArgumentParser):
    """A parser whose errors are those of all the rest: one line, with the option's name first."""

    def error(self, message: str) -> typing.NoReturn:
        # What our own types say of a value is the end of a sentence about the option.
        sentence = re.sub(r"^argument (\S+): is ", r"\1 is ", message)
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown:
            sentence += did_you_mean(unknown[1], self._option_string_actions, "--")
        raise UserError(sentence.replace("\n", "\\n"))


def script_parser(description: str | None, **arguments: object) -> ScriptParser:
    """A parser whose help keeps the lines of `description`, a script's docstring."""
    return ScriptParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments
    )


def add_result_folder(parser: argparse.ArgumentParser, project: str) -> None:
    """The options for the place of the results."""
    parser.add_argument(
        "--project", default=project, help=f"folder of result folders (default: {project})"
    )
    parser.add_argument(
        "--name",
        default="exp",
        help="name of the result folder; a number is added if it exists (default: exp)",
    )
    parser.add_argument("--exist-ok", action="store_true", help="write into an existing folder")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, or a CUDA device's number (default: auto)"
    )


def add_image_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--imgsz",
        type=image_side,
        help=f"side of the square, pixels; a multiple of {STRIDE}, at most {MOST_SIDE} "
        "(default: as trained)",
    )


def image_side(text: str) -> int:
    """An image's side in pixels, as an argument."""
    side_px = whole_number(1, MOST_SIDE)(text)
    problem = problem_of_side(side_px)
    if problem:
        raise argparse.ArgumentTypeError(problem)
    return side_px


def problem_of_side(side_px: int) -> str:
    """Why the strides do not fit into this side, in words; empty if they do."""
    if side_px % STRIDE == 0:
        return ""
    nearest = max(1, round(side_px / STRIDE)) * STRIDE
    return f"is {side_px}, expected a multiple of {STRIDE} (the stride), e.g. {nearest}"


def add_workers(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--workers",
        type=workers,
        default=default,
        help=f"loader processes; {WORKERS} (default: {default})",
    )


def workers(text: str) -> int:
    """A number of loader processes, as an argument."""
    count = whole_number()(text)
    if not -1 <= count <= MOST_ASKED_WORKERS:
        raise argparse.ArgumentTypeError(f"is {count}, expected {WORKERS}")
    return count


def add_iou_threshold(parser: argparse.ArgumentParser, default: float) -> None:
    parser.add_argument(
        "--iou-thres",
        type=number(0, 1),
        default=default,
        help=f"IoU of non-maximum suppression; 0 to 1 (default: {default})",
    )


def add_skip_bad_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-bad-labels", action="store_true", help="leave out frames whose label file is wrong"
    )


def given_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> set[str]:
    """The names of the arguments that have another value than their default."""
    return {name for name, value in vars(args).items() if value != parser.get_default(name)}

"""What is printed cannot steer a terminal, and a stream that goes away takes nothing with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from utils.core.files import ROOT
from utils.core.terminal import plain

# Prints more than a pipe holds, then says on standard error that the work is done
TALKER = """
import sys, warnings
from tqdm import tqdm
from utils.core.script import LOGGER, run_script

def main():
    for number in tqdm(range(3000), disable=None):
        LOGGER.info("a line with a number %d " % number + 90 * "-")
        print("another", number)
    with open(sys.argv[1], "w") as done:
        done.write("done")

run_script(main)
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b2J", "\\x9b2J"),
        ("over\rwritten\x08\x7f\x00", "over\\rwritten\\x08\\x7f\\x00"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("turned \u202e round\u2066", "turned \\u202e round\\u2066"),
        ("line\u2028s", "line\\u2028s"),
        ("half \udc80", "half \\udc80"),
        ("\ufeffmark", "\\ufeffmark"),
        ("two\nlines\tof 心臓, Ärzte, a\u200db\u3000c \U0001f600", None),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str | None):
    assert plain(text) == (shown or text)


def test_every_byte_of_a_control_set_is_harmless():
    controls = [chr(number) for number in (*range(32), *range(127, 160))]
    shown = plain("".join(controls).replace("\n", "").replace("\t", ""))
    assert shown.isprintable() and shown.isascii()


def talk(tmp_path, ending: str, encoding: str = "utf-8") -> tuple[subprocess.CompletedProcess, str]:
    """What a shell makes of `TALKER` and an ending, such as `| head -1`; and its result file."""
    script, done = tmp_path / "talker.py", tmp_path / "done"
    script.write_text(TALKER)
    command = f"{sys.executable} {script} {done} {ending}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    return finished, done.read_text()


@pytest.mark.parametrize("ending", ["| head -1", "2>&1 | head -1", "| true", ">&-", ">&- 2>&- <&-"])
def test_the_work_goes_on_without_a_reader(tmp_path, ending: str):
    finished, result = talk(tmp_path, ending)
    assert (finished.returncode, finished.stderr, result) == (0, "", "done")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_said_once_at_the_end(tmp_path):
    finished, result = talk(tmp_path, "> /dev/full")
    assert finished.stderr == "error: standard output: No space left on device\n"
    assert (finished.returncode, result) == (2, "done")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_work_goes_on_where_nothing_at_all_can_be_said(tmp_path):
    finished, result = talk(tmp_path, "> /dev/full 2>&1")
    assert (finished.returncode, result) == (2, "done")

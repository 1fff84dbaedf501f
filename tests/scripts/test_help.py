"""Help and options are there at once: a script parses before it imports what takes seconds."""

import os
import subprocess
import sys

import pytest

from utils.core.files import ROOT

# Script -> arguments that it cannot do without
SCRIPTS = {
    "train_joint_gradnorm": [],
    "train_joint_dual_backbone": [],
    "val": ["--weights", "a.pt"],
    "detect": ["--weights", "a.pt", "--source", "a.png"],
    "export": ["--weights", "a.pt"],
    "check_dataset": ["--data", "a.yaml"],
    "split_dataset": ["--data", "a.yaml", "--out", "out", "--folds", "3"],
    "extract_frames": ["--source", "clinic", "--out", "out"],
    "compare_solutions": [],
    "monitor_training": ["runs/train/exp"],
    "benchmark": [],
}
SLOW_TO_IMPORT = ("torch", "torchvision", "sklearn", "pandas", "matplotlib", "cv2")
MOST_CPU_S = 1.0
PARSE = f"""
import importlib, sys, time
sys.argv = sys.argv[1:]
importlib.import_module(sys.argv[0]).parse_arguments()
print(*(name for name in {SLOW_TO_IMPORT} if name in sys.modules))
"""
HELP = """
import runpy, sys, time
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(time.process_time(), file=sys.stderr)
"""


def in_a_fresh_process(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_parsing_imports_nothing_slow(script: str):
    done = in_a_fresh_process(PARSE, script, *SCRIPTS[script])
    assert done.stdout.splitlines()[-1].split() == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_takes_less_than_a_second(script: str):
    done = in_a_fresh_process(HELP, f"{script}.py")
    assert "usage:" in done.stdout and "--help" in done.stdout
    assert float(done.stderr) < MOST_CPU_S


@pytest.mark.parametrize("ending", ["| true", ">&-", "> /dev/full"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_that_nobody_reads_is_no_error(script: str, ending: str):
    if "full" in ending and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    command = f"{sys.executable} {script}.py --help {ending}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    is_full = "full" in ending
    said = "error: standard output: No space left on device\n" * is_full
    assert (done.returncode, done.stderr) == (2 * is_full, said)

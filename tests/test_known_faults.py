"""Each of the forty faults of `known_faults.py`, put into a copy of the project, makes its test
file fail.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from known_faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# Whatever else git ignores, so that a copy takes no time.
NOT_COPIED = (
    ".git",
    ".venv",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "runs",
    "datasets",
    "*.egg-info",
    "*.pt",
)
TESTS_FAILED = 1  # pytest's exit code; that of a file which cannot even be imported is 2


def source_file(symbol: str) -> tuple[Path, list[str]]:
    """The file of the longest module that `symbol` begins with, and the names that are left."""
    names = symbol.split(".")
    for count in range(len(names) - 1, 0, -1):
        folder = ROOT.joinpath(*names[:count])
        for path in (folder.with_suffix(".py"), folder / "__init__.py"):
            if path.is_file():
                return path, names[count:]
    raise AssertionError(f"{symbol}: no such module")


def names_of(node: ast.stmt) -> set[str]:
    """What a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def parts_of(fault: Fault) -> tuple[Path, str, str, str]:
    """The fault's file, and its text before the symbol, of the symbol, and after it."""
    path, names = source_file(fault.symbol)
    text = path.read_text(encoding="utf-8")
    node = ast.parse(text)
    for name in names:
        found = [child for child in node.body if name in names_of(child)]
        assert len(found) == 1, (
            f"{fault.symbol}: {len(found)} definitions of {name} in {path.relative_to(ROOT)}"
        )
        node = found[0]
    lines = text.split("\n")
    places = (0, node.lineno - 1), (node.lineno - 1, node.end_lineno), (node.end_lineno, len(lines))
    before, symbol, after = ("\n".join(lines[start:end]) for start, end in places)
    return path, before, symbol, after


def faulty_text(fault: Fault) -> tuple[Path, str]:
    """The fault's file, and its text with the fault."""
    path, before, symbol, after = parts_of(fault)
    return path, "\n".join((before, symbol.replace(fault.old, fault.new), after))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_fits_the_code(fault: Fault):
    path, before, symbol, after = parts_of(fault)
    assert "\n".join((before, symbol, after)) == path.read_text(encoding="utf-8")
    assert symbol.count(fault.old) == 1 and "\n" not in fault.old + fault.new
    assert fault.old != fault.new
    ast.parse(faulty_text(fault)[1])
    assert (ROOT / fault.test).is_file()


def test_no_fault_is_there_twice_and_none_was_deleted():
    assert len(FAULTS) == len({(fault.symbol, fault.old) for fault in FAULTS}) >= 82


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_killed(fault: Fault, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    if SHARED.is_dir():
        (tmp_path / "shared").symlink_to(SHARED, target_is_directory=True)
    path, text = faulty_text(fault)
    (copy / path.relative_to(ROOT)).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", fault.test]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=copy, env=surroundings, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == TESTS_FAILED, (
        f"exit code {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
    )

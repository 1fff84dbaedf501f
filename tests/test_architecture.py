"""The house rules that can be read off the source.

Who imports whom, what is never called, scripts with commands.
"""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "utils")
LIBRARY = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TOP_LEVEL = sorted(ROOT.glob("*.py"))
EVERYTHING = LIBRARY + TOP_LEVEL + sorted((ROOT / "tests").rglob("*.py"))

# Room -> the rooms it may import. A module belongs to the longest name here that it begins with.
MAY_IMPORT = {
    "utils.core": set(),
    "utils.data.phantom": {"utils.core"},
    "utils.data": {"utils.core", "utils.data.phantom"},
    "models": {"utils.core"},
    "utils.losses": {"utils.core", "utils.data"},
    "utils.evaluation": {"utils.core", "utils.data", "utils.losses"},
    "utils.checkpoints": {"utils.core", "models"},
    "utils.plots": {"utils.core"},
    "utils.curation": {"utils.core", "utils.data", "utils.evaluation", "utils.plots"},
    "utils.loggers": {"utils.core", "utils.data", "utils.plots"},
    "utils.report": {
        *("utils.core", "utils.data", "utils.evaluation", "utils.plots", "utils.curation")
    },
    "utils.training": {
        *("utils.core", "utils.data", "models", "utils.losses", "utils.evaluation"),
        *("utils.checkpoints", "utils.plots", "utils.curation", "utils.loggers"),
    },
    "utils.inference": {
        "utils.core",
        "utils.data",
        "utils.evaluation",
        "utils.checkpoints",
        "utils.plots",
    },
    "utils.comparison": {
        "utils.core",
        "utils.data",
        "utils.evaluation",
        "utils.plots",
        "utils.training",
    },
    "utils.commands": {
        *("models", "utils.core", "utils.data", "utils.losses", "utils.evaluation"),
        *("utils.checkpoints", "utils.plots", "utils.curation", "utils.training"),
        *("utils.inference", "utils.comparison", "utils.report"),
    },
    "utils": set(),
}
# People copy these files into their own projects: each may import those before it.
COPIED = ("models.gradnorm", "models.gradnorm_balancer", "models.gradnorm_loss")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


SCRIPTS = [
    path
    for path in TOP_LEVEL
    if any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        for node in tree_of(path).body
    )
]


# ---- who imports whom ----------------------------------------------------------------------------


def imports(tree: ast.Module) -> set[str]:
    """Full names of the project's modules that a module imports, anywhere in it."""
    own = {module_name(path) for path in EVERYTHING}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it in full"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & own) or {node.module}
    return found & own


def room_of(module: str) -> str:
    """The room of MAY_IMPORT that a module is in, or "scripts"."""
    rooms = [room for room in MAY_IMPORT if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len, default="scripts")


def allowed(module: str, imported: str) -> bool:
    if module in COPIED:
        return imported in COPIED[: COPIED.index(module)]
    room, other = room_of(module), room_of(imported)
    return other == room or other in MAY_IMPORT[room]


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """What is on a circle of the arrows, or leads to one only.

    Empty if there is none (Kahn's algorithm).
    """
    left = {name: set(targets) for name, targets in arrows.items()}
    while ends := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in ends}
    return sorted(left)


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_a_module_imports_what_its_room_may(path: Path):
    wrong = {
        imported for imported in imports(tree_of(path)) if not allowed(module_name(path), imported)
    }
    assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


def test_no_room_and_no_module_is_on_a_circle():
    assert not circle(MAY_IMPORT)
    assert not circle(
        {module_name(path): imports(tree_of(path)) - {module_name(path)} for path in LIBRARY}
    )


def test_a_circle_would_be_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]


def test_inference_and_comparison_know_nothing_of_each_other():
    assert "utils.comparison" not in MAY_IMPORT["utils.inference"]
    assert "utils.inference" not in MAY_IMPORT["utils.comparison"]
    assert "utils.training" not in MAY_IMPORT["utils.inference"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("utils.data.labels", "from utils.training.run import start_run"),
        ("utils.core.options", "import utils.training.trainer as t"),
        ("utils.core.values", "from utils.data import labels"),
        ("utils.losses.joint", "from models.yolo import DetectionModel"),
        ("utils.losses.joint", "def f():\n    from models import yolo"),
        ("utils.evaluation.results", "from utils.checkpoints import model_file, checkpoint"),
        ("utils.training.trainer", "import val"),
        ("utils.inference.hub", "from utils.training.trainer import train"),
        ("utils.inference.hub", "from utils.comparison.arms import Arm"),
        ("utils.comparison.arms", "from utils.inference.predictor import Predictor"),
        ("utils.data.phantom.flow", "from utils.data.boxes import pairwise_iou"),
        ("models.yolo", "from utils.losses.joint import JointLoss"),
        ("models.gradnorm", "from utils.core.names import TASKS"),
        ("models.gradnorm", "from models import common"),
        ("models.gradnorm", "from models.gradnorm_balancer import GradNorm"),
        ("models.gradnorm_loss", "from models.gradients import task_gradients"),
    ],
)
def test_a_wrong_import_would_be_seen(module: str, source: str):
    assert any(not allowed(module, imported) for imported in imports(ast.parse(source)))


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_says_what_it_is_for_and_nothing_else(room: str):
    tree = tree_of(ROOT.joinpath(*room.split("."), "__init__.py"))
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_every_folder_of_tests_is_a_room():
    """tests/ mirrors the folders.

    tests/scripts is for whole commands, tests/assets for files, tests/gpu for what needs a GPU.
    """
    rooms = {room.rpartition(".")[2] for room in MAY_IMPORT} | {"scripts", "assets", "gpu"}
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")} - {"tests"}
    assert folders <= rooms


def outside_imports(tree: ast.Module) -> set[str]:
    """Top-level packages that a module imports."""
    names = {name.partition(".")[0] for name in full_names(tree).values()}
    return names - {"__future__"}


@pytest.mark.parametrize("module", COPIED)
def test_what_people_copy_needs_torch_and_the_standard_library_only(module: str):
    tree = tree_of(ROOT.joinpath(*module.split(".")).with_suffix(".py"))
    assert outside_imports(tree) - sys.stdlib_module_names <= {"torch", "models"}


@pytest.mark.parametrize(
    "name",
    ["names", "script", "values", "files", "data_config", "hyperparameters", "settings", "options"],
)
def test_settings_and_errors_need_no_torch(name: str):
    """Nor does anything they import, so that help and mistakes are there at once."""
    seen, waiting = set(), {f"utils.core.{name}"}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        tree = tree_of(ROOT.joinpath(*module.split(".")).with_suffix(".py"))
        assert "torch" not in outside_imports(tree), module
        waiting |= imports(tree) - seen


# ---- what is never called ------------------------------------------------------------------------

# Names, as written after the import's alias is resolved.
FORBIDDEN_CALLS = re.compile(
    r"""(builtins\.)?(eval|exec|compile|__import__)
    | os\.(system|popen|exec\w+|spawn\w+)
    | pickle\.(load|loads|Unpickler) | (marshal|shelve|dill|cloudpickle|joblib)\..* | pandas\.read_pickle
    | yaml\.(unsafe_load|unsafe_load_all|full_load|full_load_all)
    | torch\.hub\.load_.* | torch\.serialization\.add_safe_globals""",
    re.VERBOSE,
)


def full_names(tree: ast.Module) -> dict[str, str]:
    """Name in the module -> what it was imported as: np -> numpy, load -> torch.load."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.partition(".")[0]
                names |= {alias.asname: alias.name} if alias.asname else {package: package}
        elif isinstance(node, ast.ImportFrom):
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def dangers(tree: ast.Module) -> Iterator[str]:
    """Calls that run code from data, or a shell."""
    names = full_names(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        first, *rest = ast.unparse(call.func).split(".")
        function = ".".join([names.get(first, first), *rest])
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        safe_loader = "SafeLoader" in " ".join(
            [*map(ast.unparse, call.args[1:2]), keywords.get("Loader", "")]
        )
        if (
            FORBIDDEN_CALLS.fullmatch(function)
            or (function == "torch.hub.load" and keywords.get("source") != "'local'")
            or (function == "torch.load" and keywords.get("weights_only") != "True")
            or (function in ("yaml.load", "yaml.load_all") and not safe_loader)
            or (function == "numpy.load" and keywords.get("allow_pickle", "False") != "False")
            or keywords.get("shell", "False") != "False"
        ):
            yield f"line {call.lineno}: {ast.unparse(call)}"


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_nothing_runs_code_from_data_or_a_shell(path: Path):
    assert not list(dangers(tree_of(path)))


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "import os\nos.system('ls')",
        "from os import popen as run\nrun('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import pickle\npickle.load(stream)",
        "import pickle as p\np.loads(data)",
        "from pickle import Unpickler\nUnpickler(stream).load()",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "from torch import load\nload(path)",
        "import torch\ntorch.hub.load('owner/name', 'model')",
        "import torch\ntorch.hub.load('owner/name', 'model', source='github')",
        "import torch\ntorch.hub.load_state_dict_from_url(url)",
        "import yaml\nyaml.load(stream)",
        "import yaml\nyaml.load(stream, Loader=yaml.Loader)",
        "import yaml\nyaml.unsafe_load(stream)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "import joblib\njoblib.load(path)",
    ],
)
def test_a_danger_would_be_seen(source: str):
    assert list(dangers(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import re\nre.compile('a')",
        "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
        "import torch\ntorch.hub.load(folder, 'model', source='local')",
        "import yaml\nyaml.safe_load(text)\nyaml.load(text, Loader=yaml.CSafeLoader)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import pickle\npickle.dumps(1)",
    ],
)
def test_what_is_harmless_is_not_a_danger(source: str):
    assert not list(dangers(ast.parse(source)))


# ---- no side effects of an import ----------------------------------------------------------------

STATEMENTS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


@pytest.mark.parametrize("path", LIBRARY + TOP_LEVEL, ids=name_of)
def test_importing_a_module_only_defines_things(path: Path):
    body = tree_of(path).body
    docstring, *body = body if body else [None]
    assert docstring is None or isinstance(docstring, ast.Expr), f"{name_of(path)} has no docstring"
    main = "__name__ == '__main__'"
    odd = [
        node
        for node in body
        if not isinstance(node, STATEMENTS)
        and not (isinstance(node, ast.If) and ast.unparse(node.test) == main)
    ]
    assert not odd, f"line {odd[0].lineno}: {ast.unparse(odd[0])}"


@pytest.mark.parametrize("path", LIBRARY + TOP_LEVEL, ids=name_of)
def test_pyplot_with_its_global_state_is_not_used(path: Path):
    assert not [
        name for name in full_names(tree_of(path)).values() if name.startswith("matplotlib.pyplot")
    ]


# ---- scripts -------------------------------------------------------------------------------------


def options_of(script: str) -> set[str]:
    """The options that a script takes; the benchmark takes those of a joint training as well."""
    parsers = [importlib.import_module(script).build_parser()]
    if script == "benchmark":
        parsers.append(importlib.import_module("train_joint_gradnorm").build_parser())
    return {
        name for parser in parsers for action in parser._actions for name in action.option_strings
    }


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_scripts_docstring_has_commands_that_run(path: Path):
    docstring = ast.get_docstring(tree_of(path)) or ""
    commands = re.findall(rf"^ *python {re.escape(path.name)}\b.*", docstring, re.MULTILINE)
    assert commands, f"{path.name}: no line 'python {path.name} ...' in the docstring"
    known = options_of(path.stem)
    for command in commands:
        unknown = set(re.findall(r"--[a-z][\w-]*", command.partition("#")[0])) - known
        assert not unknown, f"{command}: no such option {sorted(unknown)}"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_ends_in_its_main(path: Path):
    tree = tree_of(path)
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    run_script(main)"
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def test_there_is_something_to_look_at():
    assert {"train_joint_gradnorm.py", "val.py"} <= {path.name for path in SCRIPTS}
    rooms = {room_of(module_name(path)) for path in LIBRARY}
    assert rooms == set(MAY_IMPORT)

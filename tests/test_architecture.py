"""The house rules that can be read off the source: who imports whom, what is never called, scripts with commands."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "utils")
LIBRARY = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TOP_LEVEL = sorted(ROOT.glob("*.py"))
EVERYTHING = LIBRARY + TOP_LEVEL + sorted((ROOT / "tests").rglob("*.py"))
FOUNDATION = {f"utils.{name}" for name in ("general", "config", "boxes", "labels")}


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
    if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree_of(path).body)
]


# ---- who imports whom --------------------------------------------------------------------------------------


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


def allowed(module: str, imported: str) -> bool:
    """The design: general, config, boxes, labels <- models, the other utils <- engine <- exam <- scripts."""
    if module in FOUNDATION:
        return imported in FOUNDATION
    if module.startswith("models"):
        return imported.startswith("models") or imported in FOUNDATION
    if module == "utils.exam":
        return imported.startswith("utils.")
    return imported.startswith("utils.") and imported not in ("utils.exam", "utils.engine")


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_imports_go_one_way(path: Path):
    wrong = {imported for imported in imports(tree_of(path)) if not allowed(module_name(path), imported)}
    assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("utils.labels", "from utils.torch_utils import select_device"),
        ("utils.config", "import utils.engine as e"),
        ("utils.loss", "from models.yolo import Detect"),
        ("utils.loss", "def f():\n    from models import yolo"),
        ("utils.metrics", "from utils import engine, general"),
        ("utils.engine", "import models"),
        ("utils.engine", "import val"),
        ("models.yolo", "from utils.loss import JointLoss"),
        ("models", "from utils.checkpoint import load_checkpoint"),
    ],
)
def test_a_wrong_import_would_be_seen(module: str, source: str):
    assert any(not allowed(module, imported) for imported in imports(ast.parse(source)))


# ---- what is never called ----------------------------------------------------------------------------------

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
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dangers(tree: ast.Module) -> Iterator[str]:
    """Calls that run code from data, or a shell."""
    names = full_names(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        first, *rest = ast.unparse(call.func).split(".")
        function = ".".join([names.get(first, first), *rest])
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        safe_loader = "SafeLoader" in " ".join([*map(ast.unparse, call.args[1:2]), keywords.get("Loader", "")])
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


# ---- no side effects of an import --------------------------------------------------------------------------

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
        if not isinstance(node, STATEMENTS) and not (isinstance(node, ast.If) and ast.unparse(node.test) == main)
    ]
    assert not odd, f"line {odd[0].lineno}: {ast.unparse(odd[0])}"


@pytest.mark.parametrize("path", LIBRARY + TOP_LEVEL, ids=name_of)
def test_pyplot_with_its_global_state_is_not_used(path: Path):
    assert not [name for name in full_names(tree_of(path)).values() if name.startswith("matplotlib.pyplot")]


# ---- scripts -----------------------------------------------------------------------------------------------


def options_of(*paths: Path) -> set[str]:
    """The options that occur as strings in the sources."""
    strings = (node.value for path in paths for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant))
    return {text for text in strings if isinstance(text, str) and re.fullmatch(r"--[a-z][a-z0-9-]*", text)}


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_scripts_docstring_has_commands_that_run(path: Path):
    docstring = ast.get_docstring(tree_of(path)) or ""
    commands = re.findall(rf"^ *python {re.escape(path.name)}\b.*", docstring, re.MULTILINE)
    assert commands, f"{path.name}: no line 'python {path.name} ...' in the docstring"
    known = options_of(path, *LIBRARY)
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
    assert {"models.yolo", "utils.engine", *FOUNDATION} <= {module_name(path) for path in LIBRARY}

"""README and docs: commands exist, links lead somewhere, figures name their commit, two languages
say one thing.
"""

import argparse
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FRONT_DOORS = (ROOT / "README.md", ROOT / "README.zh-TW.md")
TUTORIALS = (ROOT / "docs/tutorial.md", ROOT / "docs/tutorial.zh-TW.md")
# Reports that compare_solutions.py wrote are files of a study, no pages.
STUDIES = ROOT / "docs/results"
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if STUDIES not in page.parents]
PAGES = [*FRONT_DOORS, *WRITTEN]
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Numbers in tables that no training gave: simulated by the command on the page, and defaults.
NOT_MEASURED = (ROOT / "docs/explanation/statistics.md", ROOT / "docs/reference/options.md")
STAMP = re.compile(r"`([0-9a-f]{7})`")
FIGURE_CELL = re.compile(r"\W*[-+]?[\d,]*\d\.\d+\b.*")  # a cell that begins with a measured number


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


# ---- commands ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {shlex.join(self.words)}"


def commands_of(page: Path) -> list[Command]:
    """The commands of the page's bash blocks, in order; a backslash continues a line."""
    found = []
    for language, block in FENCE.findall(text_of(page)):
        if language != "bash":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append(Command(page, tuple(words)))
    return found


class Parsed(BaseException):
    """The command line was understood; raised in place of what the script would do."""


# These take no options: that they exist is all there is to check.
WITHOUT_OPTIONS = {"docs.toy_gradnorm", "docs.statistics_coverage", "docs/how-to/onnx_example.py"}


def understand(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the script that `words` name parse them, and stop it there.

    Raises:
        Parsed: The script exists and knows the options.
        SystemExit: It does not know them.
    """
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *args: object, **keywords: object) -> None:
        parse_args(parser, *args, **keywords)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    if words[0] == "-m":
        monkeypatch.setattr(sys, "argv", list(words[1:]))
        runpy.run_module(words[1], run_name="__main__", alter_sys=False)
    else:
        monkeypatch.setattr(sys, "argv", list(words))
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def check_python(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    target = words[1] if words[0] == "-m" else words[0]
    if target not in WITHOUT_OPTIONS:
        with pytest.raises(Parsed):
            understand(words, monkeypatch)
    elif words[0] == "-m":
        assert importlib.util.find_spec(target)
    else:
        assert (ROOT / target).is_file()


def check_make(targets: tuple[str, ...]) -> None:
    known = re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert set(targets) <= set(known)


def check_pip(words: tuple[str, ...]) -> None:
    assert words[0] == "install"
    extras = re.fullmatch(r"\.\[(\w+)\]", words[1])
    assert re.search(rf"^{extras.group(1)} = ", text_of(ROOT / "pyproject.toml"), re.MULTILINE)


def check_ray(words: tuple[str, ...]) -> None:
    scripts = pytest.importorskip("ray.scripts.scripts", reason="pip install '.[ray]'")
    subcommand, *options = words
    scripts.cli.commands[subcommand].make_context(subcommand, options)


def check_sbatch(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A script of SLURM's, which passes on what follows its name."""
    (script,) = [word for word in words if word.endswith(".sh")]
    assert (ROOT / script).is_file()
    check_python(("compare_solutions.py", *words[words.index(script) + 1 :]), monkeypatch)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
@pytest.mark.parametrize("command", [c for page in PAGES for c in commands_of(page)], ids=str)
def test_a_command_exists_and_its_options_are_known(
    command: Command, monkeypatch: pytest.MonkeyPatch
):
    program, *rest = command.words
    if program == "python":
        check_python(tuple(rest), monkeypatch)
    elif program == "torchrun":
        script = next(index for index, word in enumerate(rest) if word.endswith(".py"))
        check_python(tuple(rest[script:]), monkeypatch)
    elif program == "make":
        check_make(tuple(rest))
    elif program == "pip":
        check_pip(tuple(rest))
    elif program == "ray":
        check_ray(tuple(rest))
    elif program == "sbatch":
        check_sbatch(tuple(rest), monkeypatch)
    else:
        assert program in {"export", "source", "tensorboard"}, f"no check of {program}"


@pytest.mark.parametrize(
    "words",
    [
        ("val.py", "--weights", "last.pt", "--no-such-option"),
        ("val.py", "--weights", "last.pt", "--task", "training"),
        ("detect.py", "--weights", "last.pt"),
        ("-m", "utils.plots"),
    ],
    ids=str,
)
def test_a_wrong_command_would_be_seen(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit):
        understand(words, monkeypatch)


# ---- links ---------------------------------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub gives to the page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def local_links(page: Path) -> list[tuple[Path, str]]:
    """Files of the project that the page links to, each with the anchor, or ""."""
    found = []
    for link in LINK.findall(prose_of(page)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            found.append((target, anchor))
    return found


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_links_lead_somewhere(page: Path):
    for target, anchor in local_links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors_of(target), f"{name_of(target)} has no #{anchor}"


def test_every_page_is_reached_from_the_front_doors():
    reached, waiting = set(), list(FRONT_DOORS)
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for target, _ in local_links(page):
            if target.suffix == ".md" and target.is_file() and target not in reached:
                waiting.append(target)
    assert not [name_of(page) for page in PAGES if page not in reached]


# ---- figures -------------------------------------------------------------------------------------


def unstamped_tables(text: str) -> list[str]:
    """First rows of tables of figures for which neither their section nor the page's opening names
    a commit.
    """
    opening, *sections = re.split(r"^(?=##? )", text, flags=re.MULTILINE)
    opening += sections.pop(0) if sections and sections[0].startswith("# ") else ""
    found = []
    for section in [opening, *sections]:
        if STAMP.search(opening + section):
            continue
        for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
            cells = [cell.strip() for cell in table.replace("\n", "|").split("|")]
            if any(FIGURE_CELL.fullmatch(cell) for cell in cells):
                found.append(table.partition("\n")[0])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if page not in NOT_MEASURED], ids=name_of)
def test_tables_of_figures_name_the_commit_that_wrote_them_down(page: Path):
    assert not unstamped_tables(prose_of(page))


def test_a_table_without_a_commit_would_be_seen():
    table = "| arm | mAP50 |\n| --- | --- |\n| dual | **0.31** |\n"
    assert unstamped_tables(f"# Page\n\n## A\n\n{table}") == ["| arm | mAP50 |"]
    assert unstamped_tables(f"# Page\n\n## A\n\n{table}\n## B\n\n`7b89849`\n")
    assert not unstamped_tables(f"# Page\n\n`7b89849`\n\n## A\n\n{table}")
    assert not unstamped_tables(f"# Page\n\n## A\n\n`7b89849`\n\n{table}")


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def test_commits_that_stamps_name_exist():
    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("needs the project's history, which is absent here")
    stamps = {stamp for page in PAGES for stamp in STAMP.findall(prose_of(page))}
    assert not [stamp for stamp in stamps if git("cat-file", "-t", stamp) != "commit"]


# ---- two languages, and one place for a sentence -------------------------------------------------


def code_of(page: Path) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks, without comments, which are translated."""
    found = []
    for language, block in FENCE.findall(text_of(page)):
        lines = [re.sub(r" *#.*", "", line) for line in block.splitlines()]
        found.append((language, "\n".join(lines)))
    return found


def levels_of(page: Path) -> list[str]:
    return re.findall(r"^#+(?= )", prose_of(page), re.MULTILINE)


def numbers_of(page: Path) -> list[str]:
    """Decimal fractions and commits, in any order of sentences."""
    return sorted(re.findall(r"\d+\.\d+|`[0-9a-f]{7}`", prose_of(page)))


@pytest.mark.parametrize("pages", [FRONT_DOORS, TUTORIALS], ids=["README", "tutorial"])
def test_both_languages_have_the_same_headings_code_and_figures(pages: tuple[Path, Path]):
    english, chinese = pages
    assert levels_of(english) == levels_of(chinese)
    assert code_of(english) == code_of(chinese)
    assert numbers_of(english) == numbers_of(chinese)


@pytest.mark.parametrize("page", FRONT_DOORS, ids=name_of)
def test_a_front_door_is_short(page: Path):
    assert len(text_of(page).splitlines()) < 200


def sentences_of(page: Path) -> set[str]:
    """Sentences of 60 characters or more, tables apart."""
    lines = [line for line in prose_of(page).splitlines() if not line.startswith("|")]
    text = " ".join(" ".join(lines).split())
    return {sentence for sentence in re.split(r"(?<=[.:;]) ", text) if len(sentence) >= 60}


def test_no_sentence_stands_on_two_pages():
    first_place = {}
    twice = []
    for page in PAGES:
        for sentence in sentences_of(page):
            if sentence in first_place:
                twice.append(f"{name_of(first_place[sentence])}, {name_of(page)}: {sentence}")
            first_place[sentence] = page
    assert not twice


# ---- the tutorial --------------------------------------------------------------------------------


def masked(line: str) -> str:
    """The line with every number replaced, since other machines give other numbers."""
    return re.sub(r"[+-]?\d[\d.,:]*|(?<=\s)-(?=\s|$)", "#", " ".join(line.split()))


def expected_lines(page: Path) -> list[str]:
    """The lines of output that the page shows; `...` stands for lines it leaves out."""
    blocks = [block for language, block in FENCE.findall(text_of(page)) if language == "text"]
    lines = "".join(blocks).splitlines()
    return [line for line in lines if line.strip() not in {"", "..."}]


def missing_lines(page: Path, output: str) -> list[str]:
    """Lines of the page's blocks of output that `output` has not, whatever their numbers."""
    printed = {masked(line) for line in output.splitlines()}
    lines = [line for line in expected_lines(page) if "bf16" not in line]  # not of every CPU
    return [line for line in lines if masked(line) not in printed]


def test_a_line_that_is_not_printed_would_be_seen():
    output = "\n".join(expected_lines(TUTORIALS[0]))
    assert not missing_lines(TUTORIALS[0], output.replace("0.746", "0.75"))
    assert len(missing_lines(TUTORIALS[0], output.replace("always PLAX", "always"))) == 1


def output_of(commands: Iterable[Command], folder: Path) -> str:
    """What the python commands print, run in order in the folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    output = ""
    for command in commands:
        program, *words = command.words
        if program != "python":
            continue
        line = [sys.executable, str(ROOT / words[0]), *words[1:]]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        output += done.stdout + done.stderr
    return output


@pytest.mark.slow
def test_the_tutorials_commands_run_in_order_and_print_what_it_shows(tmp_path: Path):
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    output = output_of(commands_of(TUTORIALS[0]), tmp_path)
    assert not missing_lines(TUTORIALS[0], output.replace(f"{ROOT}/", ""))


@pytest.mark.slow
def test_the_commands_for_another_field_run_in_order(tmp_path: Path):
    output = output_of(commands_of(ROOT / "docs/how-to/other-field.md"), tmp_path)
    assert "floors" in output
    assert (tmp_path / "runs/shoes/compared/report.md").is_file()
    assert (tmp_path / "runs/shoes/joint/weights/last.onnx").is_file()


EVENING = "docs/evening-protocol.yaml"


def shorten_the_evening(folder: Path) -> None:
    """The protocol in the folder, and what it names: tiny frames, one epoch, two of the folds."""
    (folder / "docs/recipe").mkdir(parents=True)
    shutil.copy(ROOT / "docs/recipe/stop_gradient.yaml", folder / "docs/recipe")
    content = yaml.safe_load((ROOT / EVENING).read_text(encoding="utf-8"))
    content["options"] |= {"imgsz": 64, "epochs": 1}
    text = yaml.safe_dump(content | {"fold_numbers": [0, 1]}, sort_keys=False)
    (folder / EVENING).write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_three_arms_in_one_evening_are_compared_and_scored_again(tmp_path: Path):
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    shorten_the_evening(tmp_path)
    page = ROOT / "docs/how-to/compare.md"
    commands = [c for c in commands_of(page) if {EVENING, "runs/folds"} & {*c.words}]
    split, train, rescore = [c for c in commands if "--arms" not in c.words]
    output_of([split, train], tmp_path)
    report = tmp_path / "runs/compare/evening/report.md"
    text = report.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    pairs = ("`fixed` - `stop-gradient`", "`gradnorm` - `fixed`")
    for pair in pairs:
        assert any(row.startswith(f"| {pair} | mAP50 |") for row in rows), pair
    report.unlink()
    output_of([rescore], tmp_path)
    assert report.read_text(encoding="utf-8") == text

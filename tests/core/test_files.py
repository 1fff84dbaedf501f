"""Files are never half-written, logs mend themselves, run folders count up."""

import errno
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from utils.core.files import (
    DEVICES,
    LONGEST_NAME,
    CsvLog,
    file_names,
    naming,
    new_run_folder,
    write_atomically,
    write_bytes,
    write_json,
)
from utils.core.script import UserError

# ---- names of files ------------------------------------------------------------------------------

FAMILIES = [
    ["HER2+", "HER2-", "HER2", "HER2 ", "HER2.", " HER2", "HER2\n"],
    ["a/b", "a_b", "a\\b", "a:b", "a*b", "a?b", 'a"b', "a<b", "a>b", "a|b", "a\0b", "a\tb"],
    ["", " ", ".", "..", "...", "/", "_", "__"],
    ["CON", "con", "_CON", "CON.txt", "nul", "COM1", "COM\u00b9", "LPT9.x", "CON ", "aux"],
    ["MR", "mr", "Mr", "mR"],
    ["stra\u00dfe", "strasse", "STRASSE"],
    ["caf\u00e9", "cafe\u0301", "CAF\u00c9"],
    ["\u5fc3\u81df", "\u5fc3\u810f", "\u0441\u0435\u0440\u0434\u0446\u0435", "\u2460", "1"],
    ["x" * 300, "x" * 299 + "y", "x" * 256, "\u5fc3" * 100, "\u5fc3" * 99 + "\u81df"],
    [
        "../../etc/passwd",
        "/etc/passwd",
        "~",
        "C:\\x",
        "a/../b",
        "\u202etxt.exe",
        "\ud800",
        "\udcff",
    ],
]


@pytest.mark.parametrize("names", [*FAMILIES, [name for family in FAMILIES for name in family]])
def test_names_of_files_are_unlike_each_other_on_every_system(tmp_path: Path, names: list[str]):
    found = file_names(names)
    assert list(found) == names
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in found.values()}
    assert len(folded) == len(names)
    for name in found.values():
        assert len(name.encode()) <= LONGEST_NAME
        assert not set(name) & set('/\\:*?"<>|') and name.isprintable()
        assert name[0] not in ". " and name[-1] not in ". "
        assert name.partition(".")[0].upper() not in DEVICES
        (tmp_path / name).mkdir()
    assert len(list(tmp_path.iterdir())) == len(names)
    assert file_names(reversed(names)) == found


@pytest.mark.parametrize(
    "name",
    [
        "HER2+",
        "HER2-",
        "A4C",
        "two words",
        "v1.2",
        "\u5fc3\u81df",
        "na\u00efve",
        "x" * 200,
        "(1)",
        "#1",
        "CONE",
    ],
)
def test_a_name_that_can_be_a_files_stays(name: str):
    assert file_names([name, "other"])[name] == name


@pytest.mark.parametrize(
    ("name", "expected"), [("a/b", "a_b"), ("NUL.x", "_NUL.x"), ("x.", "x_"), ("../x", "___x")]
)
def test_another_stays_readable(name: str, expected: str):
    assert file_names([name]) == {name: expected}


def test_a_name_that_another_would_get_is_avoided():
    names = ["a/b", "a_b"]
    for _ in range(3):
        names = list(dict.fromkeys([*names, *file_names(names).values()]))
    assert len(set(file_names(names).values())) == len(names)


# ---- files that are written ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_a_writer_that_stops_half_way_leaves_nothing(tmp_path: Path, error: type[BaseException]):
    def write(temporary: Path) -> None:
        assert temporary.parent == tmp_path  # on the same file system, so that renaming is atomic
        temporary.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "a.txt", write)
    assert not list(tmp_path.iterdir())


def test_json_that_cannot_be_written_leaves_the_previous_file(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": 1\n}\n'


def row_in_a_log(path: Path) -> None:
    CsvLog(path, ("epoch",)).append({"epoch": 1})


def text_by_itself(path: Path) -> None:
    with naming(path), path.open("w") as stream:
        stream.write("text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "write", [row_in_a_log, text_by_itself, partial(write_bytes, content=b"content")]
)
def test_a_full_disk_names_the_file(tmp_path: Path, write: Callable[[Path], None]):
    path = tmp_path / "a.txt"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        write(path)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError):
        write_bytes(path, b"content")
    assert not list(tmp_path.iterdir())


def test_csv_log_mends_a_torn_row(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ("epoch", "value"))
    for epoch in range(3):
        log.append({"epoch": epoch, "value": epoch / 3})
    with log.path.open("a") as stream:
        stream.write("3,0.")
    log.keep_before(10)
    assert log.path.read_text() == "epoch,value\n0,0\n1,0.333333\n2,0.666667\n"
    log.keep_before(1)
    assert log.path.read_text() == "epoch,value\n0,0\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\n",
        b"a,b\n1,2\n",
        b"\n",
        b"epoch,loss,loss\n",
        b"epoch,loss\n" + b"9" * 5000 + b",1\n",
    ],
)
def test_a_csv_log_that_somebody_else_wrote_is_kept_and_named(tmp_path: Path, content: bytes):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"log\.csv: not what was written there"):
        CsvLog(path, ("epoch", "loss")).keep_before(3)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"epoch", b"epoch,loss\n\xff,1\n\xc2\xb2,1\n"])
def test_of_a_torn_csv_log_whole_rows_stay(tmp_path: Path, content: bytes):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    CsvLog(path, ("epoch", "loss")).keep_before(3)
    assert path.read_bytes() == b"epoch,loss\r\n"


def test_run_folders_count_up(tmp_path):
    for expected in ("exp", "exp2", "exp3"):
        folder = new_run_folder(tmp_path, "exp")
        assert folder.name == expected and folder.is_dir()
    assert new_run_folder(tmp_path, "exp", exist_ok=True).name == "exp"


def test_those_that_start_together_get_a_folder_each(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path / "runs", "exp"), range(40)))
    assert {folder.name for folder in folders} == {
        "exp",
        *(f"exp{number}" for number in range(2, 41)),
    }
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exp", ("exp", "exp2")),
        ("a/b", ("a/b", "a/b2")),
        ("a/", ("a", "a2")),
        ("./a", ("a", "a2")),
        ("a//b/.", ("a/b", "a/b2")),
        ("exp2", ("exp2", "exp22")),
        (" ", (" ", " 2")),
        ("a b=c +(1)", ("a b=c +(1)", "a b=c +(1)2")),
        ("...", ("...", "...2")),
        ("v1.5", ("v1.5", "v1.52")),
        ("~", ("~", "~2")),
        ("心脏", ("心脏", "心脏2")),
    ],
)
def test_a_name_given_twice_stays_inside_the_project(
    tmp_path: Path, name: str, expected: tuple[str, str]
):
    for each in expected:
        assert new_run_folder(tmp_path / "runs", name) == tmp_path / "runs" / each


@pytest.mark.parametrize("exist_ok", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "./",
        "..",
        "../exp",
        "a/..",
        "a/../b",
        "a/../../b",
        "/",
        "/tmp/exp",
        "//tmp",
        "./..",
    ],
)
def test_a_name_that_leads_out_of_the_project_is_refused(tmp_path: Path, name: str, exist_ok: bool):
    with pytest.raises(
        UserError, match=f"^--name is {name!r}, expected the name of a folder inside --project"
    ):
        new_run_folder(tmp_path / "runs", name, exist_ok)
    assert list(tmp_path.iterdir()) == []


def test_no_project_is_refused():
    with pytest.raises(UserError, match=r"^--project is empty"):
        new_run_folder("", "exp")


def test_a_file_of_the_folders_name(tmp_path: Path):
    (tmp_path / "exp").touch()
    (tmp_path / "exp2").symlink_to("nowhere")
    assert new_run_folder(tmp_path, "exp").name == "exp3"
    for name in ("exp", "exp2"):
        with pytest.raises(UserError, match="found a file, expected a folder"):
            new_run_folder(tmp_path, name, exist_ok=True)


@pytest.mark.parametrize("exist_ok", [False, True])
@pytest.mark.parametrize("name", ["exp", "x" * 300, "\ud800", "a\0b"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, name: str, exist_ok: bool):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"cannot be made: .*; choose another place"):
        new_run_folder(file, name, exist_ok)

"""Files are never half-written, logs mend themselves, run folders count up."""

from pathlib import Path

import pytest

from utils.core.files import CsvLog, new_run_folder, write_atomically, write_json


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


def test_run_folders_count_up(tmp_path):
    for expected in ("exp", "exp2", "exp3"):
        folder = new_run_folder(tmp_path, "exp")
        assert folder.name == expected
        folder.mkdir()
    assert new_run_folder(tmp_path, "exp", exist_ok=True).name == "exp"

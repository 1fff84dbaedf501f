"""Which run `--resume` goes on with, by whatever name, and what it says where it cannot."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import assert_same_run, break_run, new_job, run, small_options

from utils.checkpoints.checkpoint import load_checkpoint, read_checkpoint
from utils.core.lock import LOCK_NAME
from utils.core.script import UserError
from utils.core.signals import Interrupted
from utils.training.resume import checkpoint_of, newest_checkpoint, note_stop, run_folder_of
from utils.training.setup import Job
from utils.training.trainer import train


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg")) | {"epochs": 2}


@pytest.fixture(scope="module")
def whole(options: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -2)
        return run(options, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def once_broken(options: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended in its second epoch, its first one the best."""
    folder = tmp_path_factory.mktemp("runs") / "broken"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -2)
        break_run(options, folder, (1, 1))
    return folder


@pytest.fixture
def broken(once_broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -2)
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])
    return shutil.copytree(once_broken, tmp_path / "project/run")


# ---- the names of a run --------------------------------------------------------------------------


def by_its_folder(folder: Path) -> Path:
    return folder


def by_its_weights_folder(folder: Path) -> Path:
    return folder / "weights"


def by_its_checkpoint(folder: Path) -> Path:
    return folder / "weights/last.pt"


def by_a_link_to_the_checkpoint(folder: Path) -> Path:
    link = folder.parent / "newest.pt"
    link.symlink_to(folder / "weights/last.pt")
    return link


def by_a_link_to_the_folder(folder: Path) -> Path:
    link = folder.parent / "link"
    link.symlink_to(folder)
    return link


def with_weights_elsewhere(folder: Path) -> Path:
    """On a larger disk, with a link in their place."""
    elsewhere = folder.parents[1] / "large disk"
    (folder / "weights").rename(elsewhere)
    (folder / "weights").symlink_to(elsewhere)
    return folder / "weights/last.pt"


def with_weights_elsewhere_by_the_folder(folder: Path) -> Path:
    with_weights_elsewhere(folder)
    return folder


NAMED = [
    *(by_its_folder, by_its_weights_folder, by_its_checkpoint),
    *(by_a_link_to_the_checkpoint, by_a_link_to_the_folder),
    *(with_weights_elsewhere, with_weights_elsewhere_by_the_folder),
]


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named.__name__)
@pytest.mark.parametrize("is_relative", [False, True])
def test_a_run_is_resumed_by_any_of_its_names(
    broken: Path, whole: Path, monkeypatch, named: Callable, is_relative: bool
):
    path = named(broken)
    if is_relative:
        monkeypatch.chdir(broken.parent)
        path = path.relative_to(broken.parent)
    train(new_job({"resume": str(path)}))
    assert_same_run(broken, whole)
    assert json.loads((broken / "progress.json").read_text())["state"] == "finished"


def test_the_place_of_a_run_is_as_it_is_written(tmp_path: Path):
    assert run_folder_of(tmp_path / "exp/weights/last.pt") == tmp_path / "exp"
    for other in ("exp/weights/best.pt", "exp/last.pt", "last.pt"):
        assert run_folder_of(tmp_path / other) is None


# ---- nothing to go on from -----------------------------------------------------------------------


def begun(folder: Path) -> Path:
    (folder / "weights").mkdir(parents=True)
    (folder / "opt.yaml").write_text("epochs: 2")
    return folder


@pytest.mark.parametrize("named", ["", "weights", "weights/last.pt"])
@pytest.mark.parametrize("has_weights", [False, True])
def test_a_run_without_a_checkpoint_is_to_be_started_anew(
    tmp_path: Path, named: str, has_weights: bool
):
    folder = begun(tmp_path / "exp")
    if not has_weights:
        (folder / "weights").rmdir()
    with pytest.raises(UserError, match="ended before its first checkpoint; start it anew") as told:
        checkpoint_of(folder / named)
    assert str(folder) in str(told.value) and "--download" not in str(told.value)


def test_a_run_whose_last_checkpoint_is_gone_may_start_another(tmp_path: Path):
    folder = begun(tmp_path / "exp")
    (folder / "weights/best.pt").touch()
    with pytest.raises(UserError, match=r"gone, .*--weights .*best\.pt"):
        checkpoint_of(folder)


def test_weights_that_are_not_there_for_now_are_named(tmp_path: Path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/weights").symlink_to(tmp_path / "not mounted")
    with pytest.raises(UserError, match=r"exp/weights: a link to .*not mounted, which is not"):
        checkpoint_of(tmp_path / "exp")


def test_what_is_nothing_at_all_is_no_run(tmp_path: Path):
    (tmp_path / "runs/exp/weights").mkdir(parents=True)
    for name in ("missing.pt", "exp", "exp/weights/last.pt", "", "runs"):
        path = tmp_path / name
        with pytest.raises(UserError, match="no such checkpoint; expected the folder of a run"):
            checkpoint_of(path)


def test_a_run_killed_before_its_first_file_hardly_began(tmp_path: Path):
    (tmp_path / "exp").mkdir()
    with pytest.raises(UserError, match=r"exp: this run ended before its first checkpoint"):
        checkpoint_of(tmp_path / "exp")


def with_checkpoint(folder: Path) -> Path:
    begun(folder)
    (folder / "weights/last.pt").touch()
    return folder


def age(folder: Path, time_s: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time_s, time_s))


@pytest.mark.parametrize("leave", ["opt.yaml", "progress.json", LOCK_NAME])
def test_the_newest_run_is_not_passed_over_for_an_older_one(tmp_path: Path, leave: str):
    age(with_checkpoint(tmp_path / "exp"), 1_000_000_000)
    hardly_begun = tmp_path / "exp2"
    hardly_begun.mkdir()
    (hardly_begun / leave).write_text("{}")
    age(hardly_begun, 1_000_001_000)
    with pytest.raises(UserError, match=r"exp2: this run ended before its first checkpoint"):
        newest_checkpoint(tmp_path)
    age(tmp_path / "exp", 1_000_002_000)
    assert newest_checkpoint(tmp_path) == tmp_path / "exp/weights/last.pt"


def test_newest_checkpoint_is_the_one_written_last(tmp_path: Path):
    for time_s, name in enumerate(["exp2", "exp10", "exp"], start=1_000_000_000):
        path = tmp_path / name / "weights/last.pt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (time_s, time_s))
    assert newest_checkpoint(tmp_path) == tmp_path / "exp/weights/last.pt"


def test_no_run_to_resume_is_an_error(tmp_path: Path):
    for project in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=rf"--resume: .*{re.escape(str(project))}"):
            newest_checkpoint(project)


# ---- best.pt is gone -----------------------------------------------------------------------------


def test_a_good_last_checkpoint_is_enough(broken: Path, caplog: pytest.LogCaptureFixture):
    best = broken / "weights/best.pt"
    best.unlink()
    train(new_job({"resume": str(broken)}))
    assert f"{best} is gone; the average of epoch 1 takes its place" in caplog.text
    found = load_checkpoint(best)
    assert found["best"]["joint"]["epoch"] in (0, 1)
    summary = json.loads((broken / "summary.json").read_text())
    assert summary["best"] == found["best"]


def test_a_run_with_nothing_left_to_train_gets_its_best_checkpoint_back(
    whole: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "summary.json").unlink()
    (folder / "weights/best.pt").unlink()
    train(new_job({"resume": str(folder)}))
    best = load_checkpoint(folder / "weights/best.pt")
    averaged = load_checkpoint(folder / "weights/last.pt")["ema"]["model"]
    assert best["epoch"] == 1 and best["model"].keys() == averaged.keys()
    assert all(best["model"][name].equal(tensor) for name, tensor in averaged.items())


# ---- resume auto ---------------------------------------------------------------------------------


def auto(options: dict, folder: Path, **changes: object) -> None:
    train(auto_job(options, folder, **changes))


def auto_job(options: dict, folder: Path, **changes: object) -> Job:
    place = {"project": str(folder.parent), "name": folder.name, "resume": "auto"}
    return new_job(options | place | changes)


def test_auto_begins_a_run_and_goes_on_with_it(options: dict, broken: Path, whole: Path):
    auto(options, broken)
    assert_same_run(broken, whole)
    auto(options, broken.with_name("new"))
    assert_same_run(broken.with_name("new"), whole)
    assert sorted(path.name for path in broken.parent.iterdir()) == ["new", "run"]


def test_auto_reads_the_checkpoint_once(
    options: dict, broken: Path, monkeypatch: pytest.MonkeyPatch
):
    read = []

    def noted_read(path: Path) -> dict[str, object]:
        read.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr("utils.checkpoints.checkpoint.read_checkpoint", noted_read)
    with auto_job(options, broken).run:
        assert read == [broken / "weights/last.pt"]


def test_auto_begins_anew_where_there_is_no_checkpoint(
    options: dict, whole: Path, tmp_path: Path, broken: Path
):
    folder = begun(tmp_path / "early")
    (folder / "results.csv").write_text("epoch\n0\n")
    auto(options, folder)
    assert_same_run(folder, whole)


def test_auto_has_nothing_to_do_for_a_finished_run(options: dict, whole: Path, caplog):
    caplog.set_level("INFO")
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    with pytest.raises(SystemExit) as stop:
        auto(options, whole)
    assert stop.value.code == 0 and f"{whole}: this run is finished" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


@pytest.mark.parametrize(("name", "value"), [("epochs", 3), ("seed", 1), ("optimizer", "SGD")])
def test_auto_refuses_a_run_of_other_options(options: dict, broken: Path, name: str, value: object):
    with pytest.raises(UserError, match=f"was begun with --{name} .*, not {value}; .*--name"):
        auto(options, broken, **{name: value})
    assert not (broken / LOCK_NAME).exists()


def test_auto_may_change_where_it_computes(options: dict, broken: Path, whole: Path):
    auto(options, broken, workers=1, exist_ok=True)
    assert_same_run(broken, whole)


# ---- what a stopped run says ---------------------------------------------------------------------


def noted(folder: Path) -> tuple[str, dict]:
    stop = Interrupted("stopped by SIGTERM", 15)
    note_stop(folder, stop, epochs=7)
    return str(stop), json.loads((folder / "progress.json").read_text())


def test_a_stopped_run_says_how_to_go_on(broken: Path):
    message, progress = noted(broken)
    last = broken / "weights/last.pt"
    assert message == f"stopped by SIGTERM in epoch 2; resume with --resume {last}"
    assert (progress["state"], progress["epoch"], progress["pid"]) == ("stopped", 1, os.getpid())


def test_a_run_that_is_stopped_early_says_so(tmp_path: Path):
    message, progress = noted(tmp_path)
    assert "before the first checkpoint; start the run anew" in message
    assert (progress["state"], progress["epochs"]) == ("stopped", 7)


def test_a_run_that_is_stopped_after_its_end_is_finished(whole: Path):
    message, progress = noted(whole)
    assert "after the end of the run" in message and progress["state"] == "finished"


# ---- the folder of an old run --------------------------------------------------------------------


@pytest.mark.parametrize("removed", range(1, 5))
def test_a_new_run_killed_in_an_old_ones_folder_is_not_taken_for_it(
    options: dict, whole: Path, tmp_path: Path, monkeypatch, removed: int
):
    """Killed after it has removed so many of the old run's files."""
    folder = shutil.copytree(whole, tmp_path / "run")
    unlink, calls = Path.unlink, []

    def killed(path: Path, *arguments: object, **options: object) -> None:
        if path.parent in (folder, folder / "weights") and path.name[0] != ".":
            calls.append(path)
        if len(calls) > removed:
            raise ZeroDivisionError("killed")
        unlink(path, *arguments, **options)

    changes = {"exist_ok": True, "seed": 1}
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Path, "unlink", killed)
        run(options, folder, **changes)
    if removed == 1:  # the old one is whole but for its end
        train(new_job({"resume": str(folder)}))
        assert_same_run(folder, whole)
    else:
        with pytest.raises(UserError, match=r"cannot be resumed|ended before its first checkpoint"):
            new_job({"resume": str(folder)})


# ---- what killed processes left ------------------------------------------------------------------


def test_a_resumed_run_sweeps_what_was_killed_while_it_wrote(broken: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = [broken / f".results.csv.{ended.pid}-1.tmp"]
    left += [broken / "weights" / f".{name}.{ended.pid}-140.tmp" for name in ("last.pt", "best.pt")]
    others = [broken / "weights/.mine.tmp", broken / f".last.onnx.{os.getppid()}-1.tmp"]
    for path in (*left, *others):
        path.write_bytes(b"half")
    train(new_job({"resume": str(broken)}))
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)

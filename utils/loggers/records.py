"""A run's records: results.csv, gradnorm.csv, interference.csv, progress.json, TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from utils.core import distributed
from utils.core.files import CsvLog, ProgressFile, write_bytes
from utils.core.names import LOSSES, TASKS
from utils.core.values import to_mapping
from utils.loggers.tensorboard import Board

RESULTS_FILE = "results.csv"
GRADNORM_FILE = "gradnorm.csv"
INTERFERENCE_FILE = "interference.csv"
PROGRESS_FILE = "progress.json"
SETTINGS_FILE = "opt.yaml"  # the first file of a run
# What an earlier run may have left in the folder; a new one must not be taken for it. In this
# order: what is left of it at any moment is a finished run, one to be resumed, or none.
LEFT_BEHIND = (
    "summary.json",
    "weights/last.pt",
    RESULTS_FILE,
    GRADNORM_FILE,
    INTERFERENCE_FILE,
    "predictions*.npz",
    "metrics.json",
    "MODEL_CARD.md",
)

RESULT_COLUMNS = (
    "epoch",
    *(f"train/{name}_loss" for name in LOSSES),
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "metrics/mAP_0.3",
    "metrics/view_accuracy",
    "metrics/view_balanced_accuracy",
    "metrics/view_macro_f1",
    "metrics/fitness",
    "best",
    *(f"val/{name}_loss" for name in LOSSES),
    *(f"weight/{task}" for task in TASKS),
)
TIME_COLUMNS = ("time/epoch_s", "time/val_s")
GRADNORM_COLUMNS = (
    "step",
    "epoch",
    "batch",
    *(f"loss/{name}" for name in (*TASKS, "total")),
    *(f"weight/{task}" for task in TASKS),
    *(f"norm/{task}" for task in TASKS),
    *(f"target/{task}" for task in TASKS),
    *(f"rate/{task}" for task in TASKS),
    "cosine",
    "skipped_unlabelled",
    "skipped_nonfinite",
    "skipped_partial",
    "skipped_zero",
    "at_bound",
)
INTERFERENCE_COLUMNS = (
    "step",
    "epoch",
    "batch",
    "place",
    "cosine",
    "magnitude_similarity",
    *(f"norm/{task}" for task in TASKS),
)


def result_columns(parts: Sequence[str]) -> tuple[str, ...]:
    """The columns of results.csv; several parts, given by name, have a fitness and rates each."""
    columns = list(RESULT_COLUMNS)
    if len(parts) > 1:
        columns += [f"metrics/{part}_fitness" for part in parts]
    for part in parts:
        columns += rate_columns(part, parts)
    return (*columns, *TIME_COLUMNS)


def rate_columns(part: str, parts: Sequence[str]) -> list[str]:
    """Where the learning rates of a part's biases, weights and norms go.

    Those of the only part are YOLOv5's columns.
    """
    prefix = ""
    if len(parts) > 1:
        prefix = f"{part}_"
    return [f"x/{prefix}lr{group}" for group in range(3)]


def loss_cells(split: str, losses: Mapping[str, float]) -> dict[str, float]:
    """The columns of results.csv that mean losses on "train" or "val" fill."""
    return {f"{split}/{name}_loss": losses[name] for name in LOSSES if name in losses}


def metric_cells(metrics: Mapping[str, dict]) -> dict[str, float]:
    """The columns of results.csv that a `summarise` result fills."""
    cells = {"metrics/fitness": metrics["fitness"]}
    if "detection" in metrics:
        names = ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95", "mAP_0.3")
        cells |= {f"metrics/{name}": metrics["detection"][name] for name in names}
    if "views" in metrics:
        names = ("accuracy", "balanced_accuracy", "macro_f1")
        cells |= {f"metrics/view_{name}": metrics["views"].get(name) for name in names}
    return cells


class RunRecords:
    """Appends to a run's records while it trains.

    Only the first process writes; in the others nothing happens.

    Args:
        folder: of the run.
        parts: names of what has an optimiser each.
        epochs: that were asked for.
        tensorboard: whether every row also goes into TensorBoard's event files.
        confirm: called before anything is written; raises if the folder is not this run's own.

    Raises:
        UserError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        parts: Sequence[str],
        epochs: int,
        tensorboard: bool,
        confirm: Callable[[], None],
    ):
        self._folder = folder
        self._epochs = epochs
        self._confirm = confirm
        self._results = CsvLog(folder / RESULTS_FILE, result_columns(parts))
        self._gradnorm = CsvLog(folder / GRADNORM_FILE, GRADNORM_COLUMNS)
        self._interference = CsvLog(folder / INTERFERENCE_FILE, INTERFERENCE_COLUMNS)
        self._progress = ProgressFile(folder / PROGRESS_FILE)
        self._told_epoch: int | None = None
        self.board = Board(folder, tensorboard and distributed.is_main())

    def begin(self, batches: int, settings: Mapping[str, object]) -> None:
        """Start the records of a new run.

        Args:
            batches: an epoch.
            settings: name -> dataclass that goes to NAME.yaml.
        """
        if not distributed.is_main():
            return
        self.board.start(0, batches)
        for pattern in LEFT_BEHIND:
            for path in self._folder.glob(pattern):
                path.unlink()
        for name, content in settings.items():
            text = yaml.safe_dump(to_mapping(content), sort_keys=False)
            write_bytes(self._folder / f"{name}.yaml", text.encode())

    def cut_back(self, epoch: int, batches: int) -> None:
        """Resume at an epoch of so many batches: rows of it and of later ones no longer count."""
        if not distributed.is_main():
            return
        self.board.start(epoch, batches)
        for log in (self._results, self._gradnorm, self._interference):
            log.keep_before(epoch)

    def epoch(self, row: Mapping[str, object]) -> None:
        """Add a row to results.csv."""
        self._append(self._results, row)

    def update(self, row: Mapping[str, object]) -> None:
        """Add a row to gradnorm.csv."""
        self._append(self._gradnorm, row)

    def interference(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows to interference.csv."""
        for row in rows:
            self._append(self._interference, row)

    def _append(self, log: CsvLog, row: Mapping[str, object]) -> None:
        if distributed.is_main():
            self._confirm()
            log.append(row)
            self.board.row(row)

    def progress(self, state: str, epoch: int, **batch: int) -> None:
        """Say where the run is; within an epoch, the file is written every few seconds only."""
        if distributed.is_main():
            self._confirm()
            is_news = state != "training" or epoch != self._told_epoch
            self._told_epoch = epoch
            self._progress.update(is_news, epochs=self._epochs, state=state, epoch=epoch, **batch)

    def finish(self, epoch: int) -> None:
        """Add the run folder's pictures to TensorBoard's files, and close them."""
        self.board.finish(epoch)

"""A run's figures for TensorBoard: the rows of its CSV files as scalars, and its pictures.

What goes by epochs (results.csv) lies in the run folder itself, what goes by batches (gradnorm.csv,
interference.csv) in its folder `batches`: TensorBoard takes every folder for a run with one scale
of steps, and cuts it back by them when a training is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path

from utils.core.script import UserError
from utils.core.user_file import is_utf8
from utils.data.images import read_image

BATCHES = "batches"  # the folder of what goes by batches
WHERE = {"epoch", "step", "batch", "place"}  # columns that say where, not what


class Board:
    """Writes what it is given into event files; nothing at all unless `enabled`.

    Raises:
        UserError: it is enabled, and TensorBoard is not installed or cannot take the folder's name.
    """

    def __init__(self, folder: Path, enabled: bool):
        self._folder = folder
        self._writer_class = None
        if enabled and not is_utf8(folder):
            raise UserError(
                f"--tensorboard: {folder} is not UTF-8, which TensorBoard cannot take; "
                "choose another --project or --name"
            )
        if enabled:
            self._writer_class = _summary_writer()
        self._writers: dict[str, object] = {}  # "epoch" and "step" -> of the rows with that scale

    def start(self, first_epoch: int, batches: int) -> None:
        """Begin or resume at an epoch of so many batches; what there is of later ones goes."""
        if self._writer_class is None:
            return
        self._open("epoch", self._folder, first_epoch)
        self._open("step", self._folder / BATCHES, first_epoch * batches)

    def _open(self, scale: str, folder: Path, step: int) -> None:
        if not step:
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
        self._writers[scale] = self._writer_class(str(folder), purge_step=step or None)

    def row(self, row: Mapping[str, object]) -> None:
        """Add the numbers of a row of a CSV file under its columns' names.

        Those of a row with a place are named interference/PLACE/COLUMN.
        """
        scale = "epoch"
        if "step" in row:
            scale = "step"
        if scale not in self._writers:
            return
        prefix = ""
        if "place" in row:
            prefix = f"interference/{row['place']}/"
        for name, value in row.items():
            if name not in WHERE and isinstance(value, Real):
                self._writers[scale].add_scalar(f"{prefix}{name}", float(value), row[scale])
        if scale == "epoch":
            # A checkpoint follows, from which a run may be resumed: what is before it must be safe.
            for writer in self._writers.values():
                writer.flush()

    def finish(self, epoch: int) -> None:
        """Add the pictures in the run folder, and close the files."""
        if not self._writers:
            return
        for path in sorted(self._folder.glob("*.png")):
            self._writers["epoch"].add_image(path.stem, read_image(path), epoch, dataformats="HWC")
        for writer in self._writers.values():
            writer.close()


def _summary_writer() -> type:
    try:
        from torch.utils.tensorboard import SummaryWriter  # of an optional extra
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--tensorboard needs an extra package ({reason}); "
            "install it: pip install '.[tensorboard]'"
        ) from None
    return SummaryWriter

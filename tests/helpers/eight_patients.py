"""A data set of eight patients, whose images are empty files."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from utils.core.data_config import load_data_config
from utils.curation.balance import merge
from utils.data.splits import Split, label_path, load_splits

NAMES = ("AR", "MR")
VIEWS = ("A4C", "PSAX", "PLAX")
PATTERNS = {"group_pattern": r"^(P\d+)_", "clip_pattern": r"^(P\d+_.+)_F(\d+)"}
# Eight patients, a clip of three frames each; both classes and all views in half of them.
FRAMES = {
    f"P{patient:02}_V1_F{frame}.png": f"{(patient + frame) % 2} 0.5 0.5 0.25 0.5\n{one_hot}\n"
    for patient in range(8)
    for frame, one_hot in enumerate(("1 0 0", "0 1 0", "0 0 1"))
}


def make_set(folder: Path, frames: Mapping[str, str | None] = FRAMES, **changes: object) -> Path:
    """A data.yaml with `frames`, every other one in train and in val; the images are empty files.

    Args:
        frames: name -> text of the label file, or None for no such file.
        changes: of keys of data.yaml; None leaves a key out.
    """
    for number, (name, text) in enumerate(frames.items()):
        image = folder / ("train", "val")[number % 2] / "images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
        if text is not None:
            label_path(image).parent.mkdir(parents=True, exist_ok=True)
            label_path(image).write_text(text, encoding="utf-8")
    content = {
        "train": "train/images",
        "val": "val/images",
        "names": list(NAMES),
        "cls_names": list(VIEWS),
    }
    content |= PATTERNS | changes
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return folder / "data.yaml"


def load_all(path: Path) -> Split:
    data = load_data_config(path)
    return merge(load_splits(data, list(data.splits)))

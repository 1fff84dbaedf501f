"""Settings, images and data sets of a few small files, written for a test."""

from pathlib import Path

import cv2
import numpy as np
import yaml

from utils.core.data_config import DataConfig, load_data_config
from utils.data.splits import find_images


def write_yaml(folder: Path, content: object) -> Path:
    path = folder / "file.yaml"
    text = content
    if not isinstance(content, str):
        text = yaml.safe_dump(content, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


SOURCE = Path("data.yaml")
LABEL = "1 0.5 0.5 0.25 0.5\n0 1 0\n"


def write_image(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imencode(".png", pixels)[1].tofile(path)
    return path


def make_set(folder: Path, labels: dict[str, str | None]) -> DataConfig:
    """A data set with one split: image name -> text of its label file, None for no such file."""
    for number, (name, text) in enumerate(labels.items()):
        image = write_image(folder / "images/train" / name, 24 + number, 32, number)
        if text is not None:
            path = folder / "labels/train" / f"{image.stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return DataConfig(
        source=folder / "data.yaml",
        root=folder,
        splits={"train": (folder / "images/train",)},
        names=("AR", "MR", "PR", "TR"),
        view_names=("A4C", "PSAX", "PLAX"),
    )


NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
UNREADABLE = {
    "empty.png": b"",
    "half.png": cv2.imencode(".png", NOISE)[1].tobytes()[:2000],
    "torn.jpg": cv2.imencode(".jpg", NOISE)[1].tobytes()[:2000],
    "text.jpg": b"no image, only words",
    "header.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
}


def split_frame_by_frame(tiny_data: Path, folder: Path) -> DataConfig:
    """The tiny phantom split anew, with lists in `folder`, so that clips lie in both splits."""
    data = load_data_config(tiny_data)
    images = []
    for entries in data.splits.values():
        images += find_images(entries, "all", tiny_data)
    content = tiny_data.read_text().replace("path: frames", f"path: {data.root}")
    for name in ("train", "val"):
        content = content.replace(f"images/{name}", str(folder / f"{name}.txt"))
    (folder / "data.yaml").write_text(content)
    for number, name in enumerate(("train", "val")):
        (folder / f"{name}.txt").write_text("\n".join(map(str, images[number::2])))
    return load_data_config(folder / "data.yaml")

"""A made-up data set of another field: pairs of shoes on a bright or a dark floor.

python docs/how-to/made_up_set.py shoes
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

SIDE = 128  # pixels
BOXES = 20  # shoe boxes, each with a pair of shoes of its own
PICTURES = 6  # of each box
FLOORS = (200, 60)  # grey: bright, dark
DATA = """\
path: .
train: images/train
val: images/val
nc: 2
names: [left_shoe, right_shoe]
cls_names: [bright, dark]
cls_title: floor
flip_pairs: [[left_shoe, right_shoe]]
group_pattern: '^(B\\d+)_'
"""


def shoe(colour: tuple[int, ...], is_left: bool) -> np.ndarray:
    """(48, 32, 4) RGB and where the shoe is: a sole, and a toe that points to the inside."""
    mask = np.zeros((48, 32), np.uint8)
    cv2.ellipse(mask, (11, 28), (9, 18), 0, 0, 360, 255, cv2.FILLED)
    cv2.ellipse(mask, (19, 10), (12, 8), 30, 0, 360, 255, cv2.FILLED)
    if not is_left:
        mask = mask[:, ::-1]
    pixels = np.full((48, 32, 3), colour, np.uint8)
    return np.dstack((pixels, mask))


def picture(draw: np.random.Generator, colour: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """(128, 128, 3) of a pair of shoes, and the content of its label file."""
    floor = int(draw.integers(len(FLOORS)))
    image = draw.normal(FLOORS[floor], 12, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    rows = []
    for number, left_edge in enumerate((6, 66)):
        x = left_edge + int(draw.integers(24))
        y = int(draw.integers(8, 72))
        drawn = shoe(colour, is_left=number == 0)
        place = image[y : y + 48, x : x + 32]
        place[drawn[..., 3] > 0] = drawn[..., :3][drawn[..., 3] > 0]
        found_x, found_y, width, height = cv2.boundingRect(drawn[..., 3])
        centre = (x + found_x + width / 2, y + found_y + height / 2)
        numbers = np.array([*centre, width, height]) / SIDE
        rows.append(f"{number} " + " ".join(f"{value:.6f}" for value in numbers))
    one_hot = ["0", "0"]
    one_hot[floor] = "1"
    return image, "\n".join([*rows, " ".join(one_hot)]) + "\n"


def write_set(folder: Path, boxes: int = BOXES) -> Path:
    """The data.yaml of a new set in `folder`; a quarter of the shoe boxes is for validation."""
    for number in range(boxes):
        split = "val" if number % 4 == 3 else "train"
        draw = np.random.default_rng(number)
        colour = tuple(int(value) for value in draw.integers(90, 170, 3))
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for shot in range(PICTURES):
            image, label = picture(draw, colour)
            name = f"B{number:02}_{shot}"
            cv2.imwrite(str(folder / "images" / split / f"{name}.png"), image[..., ::-1])
            (folder / "labels" / split / f"{name}.txt").write_text(label)
    (folder / "data.yaml").write_text(DATA)
    return folder / "data.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="that is made, with a data.yaml in it")
    print(f"written: {write_set(parser.parse_args().folder)}")


if __name__ == "__main__":
    main()

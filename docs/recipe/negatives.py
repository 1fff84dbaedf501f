"""False boxes on frames where there is nothing to find, with and without the look for flow colour.

python -m docs.recipe.negatives runs/recipe/final/*-yolov5n-* --chest-xray ../shared/chest-xray \
    --out docs/results/negatives.csv

Each fold's network looks at its own validation frames as they are, at the same frames with their
flow turned grey, at chest X-rays, and at phantom frames without a jet, most of which have the flow
of open valves; with one, for comparison. Boxes are counted from the mean of the confidences that the
other folds' networks keep, so no threshold was chosen on these patients. A row a fold and kind of
frame: boxes a frame, the share of frames with one, and the same if frames without flow colour are
not scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import yaml
from tqdm import tqdm

from docs.recipe.tables import write_csv
from utils.checkpoints.model_file import model_from_checkpoint, open_model
from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import select_compute, select_device
from utils.core.script import run_script
from utils.data.flow_colour import has_flow_colour
from utils.data.images import IMAGE_SUFFIXES, read_image
from utils.data.phantom.anatomy import VIEWS
from utils.data.phantom.frames import FrameSpec, draw
from utils.data.phantom.patients import new_patient
from utils.data.splits import load_split
from utils.inference.predictor import Predictor

PHANTOMS = 240


def turned_grey(image_rgb: np.ndarray) -> np.ndarray:
    """The luminance in all three channels, (height, width, 3) uint8."""
    return cv2.cvtColor(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def phantoms(with_jets: bool, count: int = PHANTOMS) -> Iterator[np.ndarray]:
    """A patient each, the views in turn; (height, width, 3) uint8 RGB."""
    random = np.random.default_rng(0)
    views = list(VIEWS)
    for number in range(count):
        view = views[number % len(views)]
        jets = ()
        if with_jets:
            findings = VIEWS[view].findings
            jets = tuple(findings[number // len(views) % len(findings)].split("+"))
        spec = FrameSpec("", view, jets, number)
        frame, _ = draw(spec, new_patient(number, random), random)
        yield frame


def data_of(folder: Path) -> DataConfig:
    """The data set of a training."""
    options = yaml.safe_load((folder / "opt.yaml").read_text(encoding="utf-8"))
    return load_data_config(options["data"])


def predictor_of(folder: Path) -> Predictor:
    compute = select_compute("off", select_device("cpu"))
    model, metadata = open_model(folder / "weights/best.pt", model_from_checkpoint, compute)
    return Predictor.of(model, metadata, compute)


def row_of(predictor: Predictor, kind: str, images: Iterable[np.ndarray]) -> dict[str, object]:
    """What a network finds in frames of one kind."""
    boxes = []
    is_coloured = []
    for image in tqdm(images, kind, leave=False):
        boxes.append(len(predictor(image).scores))
        is_coloured.append(has_flow_colour(image))
    boxes = np.array(boxes)
    is_coloured = np.array(is_coloured)
    return {
        "frames": kind,
        "count": len(boxes),
        "boxes_a_frame": boxes.mean(),
        "share_with_box": (boxes > 0).mean(),
        "share_with_colour": is_coloured.mean(),
        "boxes_a_frame_if_coloured": (boxes * is_coloured).mean(),
        "share_with_box_if_coloured": ((boxes > 0) & is_coloured).mean(),
    }


def rows_of(folders: Sequence[Path], chest_xray: Path) -> Iterable[dict[str, object]]:
    files = sorted(chest_xray.rglob("*"))
    xrays = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    predictors = {folder: predictor_of(folder) for folder in folders}
    for folder, predictor in predictors.items():
        others = [predictors[other].confidence for other in folders if other != folder]
        own = load_split(data_of(folder), "val").images
        at = replace(predictor, confidence=float(np.mean(others)))
        kinds = {
            "as they are": map(read_image, own),
            "flow turned grey": map(turned_grey, map(read_image, own)),
            "chest X-rays": map(read_image, xrays),
            "phantoms without a jet": phantoms(with_jets=False),
            "phantoms with a jet": phantoms(with_jets=True),
        }
        for kind, images in kinds.items():
            fold = folder.name.partition("-")[0]
            yield {"fold": fold, "confidence": at.confidence, **row_of(at, kind, images)}


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("trainings", type=Path, nargs="+", help="folders of trainings, one a fold")
    parser.add_argument("--chest-xray", type=Path, required=True, help="folder of X-rays")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    args = parser.parse_args()
    write_csv(args.out, list(rows_of(args.trainings, args.chest_xray)))


if __name__ == "__main__":
    run_script(main)

"""How well doubts find labels that contradict each other: views of a clip, boxes on one picture.

python -m docs.recipe.labels runs/recipe/folds recipe=runs/recipe/final/fold*-yolov5n-seed0 \
    baseline=runs/recipe/study/fold*-baseline-seed0

ranks the clips of the real frames by their most doubtful frame, prints how far those whose frames
are labelled with several views come first, and writes docs/results/labels.csv. Neither ranking
looks at whether a clip's labels agree. Beside them is the ranking by length: longer clips have more
frames to be doubted, and more to differ.

Then it ranks frames by their most doubtful box, prints how far those come first whose picture is
there a second time with boxes that agree to less than `AGREED`, and writes
docs/results/labels_boxes.csv. The ranking knows nothing of the other picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from docs.recipe.tables import write_csv
from utils.comparison.protocol_file import find_folds
from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig
from utils.core.files import ROOT
from utils.core.script import run_script
from utils.curation.doubts import rank_boxes, rank_views
from utils.curation.findings import identical, lowest_agreement
from utils.curation.frames import Frame, read_frames
from utils.curation.held_out import DataSets, HeldOut, find_predictions, refuse_seen
from utils.data.labels import UNKNOWN_VIEW
from utils.evaluation.clips import clips_of
from utils.evaluation.results import ImageResult

TABLES = ROOT / "docs" / "results"
AGREED = 0.8  # IoU; the median over the real frames' identical pictures, docs/data-audit.md


def clip_figures(results: Sequence[ImageResult], data: DataConfig) -> dict[str, dict[str, object]]:
    """Ranking -> `clips`, `contradictory`, the area and the precision at that number."""
    doubt_of = {doubt.frame: doubt.doubt for doubt in rank_views(results)}
    is_mixed = []
    doubts = []
    lengths = []
    for numbers in clips_of(results, data).values():
        shown = {results[number].true_view for number in numbers} - {UNKNOWN_VIEW}
        is_mixed.append(len(shown) > 1)
        doubts.append(max(doubt_of.get(number, 0) for number in numbers))
        lengths.append(len(numbers))
    truth = np.array(is_mixed)
    rows = {}
    for ranking, scores in (("doubt", doubts), ("length", lengths)):
        rows[ranking] = {
            "clips": len(truth),
            "contradictory": int(truth.sum()),
            "area": average_precision_score(truth, scores),
            "precision": precision_at_count(truth, scores),
        }
    return rows


def precision_at_count(truth: np.ndarray, scores: Sequence[float]) -> float:
    """The share of true ones among as many first ones as are true; `truth` (n,) bool."""
    first = np.argsort(-np.array(scores), kind="stable")[: truth.sum()]
    return float(truth[first].mean())


def agreements(frames: Sequence[Frame]) -> dict[Path, float]:
    """Frames whose picture is there again -> how well the boxes on these pictures agree, IoU."""
    found = {}
    for group in identical(frames):
        iou = lowest_agreement(group)  # None of one frame
        if iou is not None:
            found.update({frame.path: iou for frame in group})
    return found


def box_figures(held_out: Sequence[HeldOut], agreed: Mapping[Path, float]) -> dict[str, object]:
    """How far frames with contradictory boxes come first, and the areas under the ROC curve.

    Args:
        agreed: see `agreements`.
    """
    images = [image for own in held_out for image in own.split.images]
    doubts = np.zeros(len(images))
    for own in rank_boxes([part.results for part in held_out], len(held_out[0].data.names)):
        doubts[own.frame] = max(doubts[own.frame], own.doubt)
    iou = np.array([agreed.get(image, np.inf) for image in images])
    is_again, differs = iou < np.inf, iou < AGREED
    return {
        "frames": len(images),
        "identical": int(is_again.sum()),
        "contradictory": int(differs.sum()),
        "lowest_iou": iou.min(),
        "area": roc_auc_score(differs, doubts),
        "area_among_identical": roc_auc_score(differs[is_again], doubts[is_again]),
        "precision": precision_at_count(differs, doubts),
    }


def held_out_of(data_sets: DataSets, pattern: str) -> list[HeldOut]:
    """What the networks in these folders say of frames that they never saw."""
    folders = sorted(Path().glob(pattern))
    held_out = [data_sets.held_out(own) for own in find_predictions(folders)]
    refuse_seen(held_out)
    return held_out


def main() -> None:
    parser = script_parser(__doc__, prog="python -m docs.recipe.labels")
    parser.add_argument("folds", help="folder of fold*/data.yaml")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="run folders by name")
    args = parser.parse_args()
    data_sets = DataSets(find_folds(args.folds).values())
    agreed = agreements(read_frames(data_sets.configs[0]))
    clips = []
    boxes = []
    for given in args.runs:
        name, _, pattern = given.partition("=")
        held_out = held_out_of(data_sets, pattern)
        results = [result for own in held_out for result in own.results]
        for ranking, row in clip_figures(results, held_out[0].data).items():
            clips.append({"predictions": name, "ranked_by": ranking} | row)
        boxes.append({"predictions": name} | box_figures(held_out, agreed))
    for file, rows in (("labels.csv", clips), ("labels_boxes.csv", boxes)):
        write_csv(TABLES / file, rows)
        print((TABLES / file).read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_script(main)

"""How well doubts on views find the clips whose labels contradict each other.

python -m docs.recipe.labels runs/recipe/folds baseline=runs/recipe/study/fold*-baseline-seed0 \
    "40 epochs"=runs/recipe/gpu/fold*-longer-seed0

ranks the clips of the real frames by their most doubtful frame, prints how far those whose frames
are labelled with several views come first, and writes docs/results/labels.csv. Neither ranking
looks at whether a clip's labels agree. Beside them is the ranking by length: longer clips have more
frames to be doubted, and more to differ.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from utils.comparison.protocol_file import find_folds
from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig
from utils.core.files import ROOT
from utils.core.script import run_script
from utils.curation.doubts import rank_views
from utils.curation.held_out import DataSets, find_predictions, refuse_seen
from utils.data.labels import UNKNOWN_VIEW
from utils.evaluation.clips import clips_of
from utils.evaluation.results import ImageResult

TABLE = ROOT / "docs" / "results" / "labels.csv"


def clip_figures(results: Sequence[ImageResult], data: DataConfig) -> dict[str, dict[str, float]]:
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
    return {"doubt": figures(truth, doubts), "length": figures(truth, lengths)}


def figures(truth: np.ndarray, scores: Sequence[float]) -> dict[str, float]:
    """Of one ranking; `truth` (n,) bool."""
    count = int(truth.sum())
    first = np.argsort(-np.array(scores), kind="stable")[:count]
    return {
        "clips": len(truth),
        "contradictory": count,
        "area": float(average_precision_score(truth, scores)),
        "precision": float(truth[first].mean()),
    }


def write_table(path: Path, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """A row a ranking."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["predictions", "ranked_by", "clips", "contradictory", "area", "precision"])
        for name, rankings in found.items():
            for ranking, own in rankings.items():
                cells = [own["clips"], own["contradictory"]]
                cells += [f"{own[key]:.3f}" for key in ("area", "precision")]
                writer.writerow([name, ranking, *cells])


def main() -> None:
    parser = script_parser(__doc__, prog="python -m docs.recipe.labels")
    parser.add_argument("folds", help="folder of fold*/data.yaml")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="run folders by name")
    args = parser.parse_args()
    data_sets = DataSets(find_folds(args.folds).values())
    places: dict[str, list[str]] = {}
    for given in args.runs:
        name, _, pattern = given.partition("=")
        places.setdefault(name, []).extend(map(str, sorted(Path().glob(pattern))))
    found = {}
    for name, folders in places.items():
        held_out = [data_sets.held_out(own) for own in find_predictions(folders)]
        refuse_seen(held_out)
        results = [result for own in held_out for result in own.results]
        found[name] = clip_figures(results, held_out[0].data)
    write_table(TABLE, found)
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_script(main)

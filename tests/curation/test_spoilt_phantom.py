"""On a phantom with 8 % of its labels spoilt on purpose, the spoilt ones come first.

`tests/helpers/spoilt_phantom.py` says how its networks were trained; their predictions are kept.
"""

from pathlib import Path

import pytest
from spoilt_phantom import Spoilt, make, precision, read_asset

from utils.curation.doubts import rank_boxes, rank_views
from utils.data.phantom.anatomy import KINDS
from utils.evaluation.results import ImageResult

pytest.importorskip("cleanlab", reason="pip install '.[labels]'")
# Their networks, which train in minutes, find half of the boxes; one frame in eleven is spoilt
LEAST_OF_BOXES = 0.4
Kept = tuple[list[list[ImageResult]], Spoilt]


def precisions(kept: Kept) -> dict[str, float]:
    """The share of spoilt frames among as many first ones as were spoilt."""
    folds, spoilt = kept
    results = [result for part in folds for result in part]
    names = [Path(result.image).name for result in results]
    ranked = {"views": rank_views(results), "boxes": rank_boxes(folds, len(KINDS))}
    spoilt_names = {"views": set(spoilt.views), "boxes": set(spoilt.boxes)}
    found = {}
    for subject, doubts in ranked.items():
        doubted = [names[doubt.frame] for doubt in doubts]
        found[subject] = precision(doubted, spoilt_names[subject] & set(names))
    return found


@pytest.fixture(scope="module")
def kept() -> Kept:
    return read_asset()


def test_spoilt_labels_come_first(kept: Kept):
    found = precisions(kept)
    assert found["views"] >= 0.8 and found["boxes"] >= LEAST_OF_BOXES, found


def test_every_kind_of_spoilt_box_is_recognised(kept: Kept):
    """The doubt on a spoilt box says what was done to it, in most cases."""
    folds, spoilt = kept
    results = [result for part in folds for result in part]
    kinds = {"class": {"class"}, "moved": {"moved", "not labelled"}, "removed": {"not labelled"}}
    first: dict[str, str] = {}
    for doubt in rank_boxes(folds, len(KINDS)):
        first.setdefault(Path(results[doubt.frame].image).name, doubt.kind)
    hits = []
    for name, mistake in spoilt.boxes.items():
        hits.append(first.get(name) in kinds[mistake])
    assert sum(hits) >= 0.7 * len(hits)


@pytest.mark.slow
def test_spoilt_labels_come_first_with_networks_that_are_trained_now(tmp_path: Path):
    found = precisions(make(tmp_path))
    assert found["views"] >= 0.8 and found["boxes"] >= LEAST_OF_BOXES, found

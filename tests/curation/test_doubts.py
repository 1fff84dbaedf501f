"""Which labels are doubted, why, and what is likely in their place."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_results import image_result

from utils.core.data_config import DataConfig
from utils.core.script import UserError
from utils.curation.doubts import rank_boxes, rank_clips, rank_views, share_of_mistakes
from utils.evaluation.error_kinds import NO_BOX

needs_cleanlab = pytest.mark.skipif(
    importlib.util.find_spec("cleanlab") is None, reason="pip install '.[labels]'"
)
BOX = (20, 20, 60, 60)
ELSEWHERE = (120, 50, 160, 90)


def right_frames(scores=(0.5, 0.6, 0.7, 0.8, 0.9), classes=(0, 1)):
    """Frames in which every label is found: they say how sure the network is when it is right."""
    frames = []
    for box_class in classes:
        for score in scores:
            frames.append(image_result([(box_class, *BOX)], [(score, box_class, *BOX)]))
    return frames


def doubts_of(frame, classes: int = 2):
    """Those of one frame, numbered 0, among frames without doubts."""
    found = rank_boxes([[frame, *right_frames()]], classes)
    assert {doubt.frame for doubt in found} <= {0}
    return found


def test_labels_that_are_found_are_not_doubted():
    assert rank_boxes([right_frames()], 2) == []


def test_another_class_at_the_same_place_doubts_the_class():
    (doubt,) = doubts_of(image_result([(0, *BOX)], [(0.95, 1, *BOX)]))
    assert (doubt.kind, doubt.label, doubt.found) == ("class", 0, 0)
    # The ten right labels, with another class's name, against the one that was seen
    assert doubt.doubt == pytest.approx(10 / 11) and doubt.is_issue


def test_the_surer_the_network_the_larger_the_doubt():
    values = []
    for score in (0.55, 0.75, 0.95):
        (doubt,) = doubts_of(image_result([], [(score, 1, *BOX)]))
        assert doubt.kind == "not labelled" and doubt.label == NO_BOX
        values.append(doubt.doubt)
    assert values == pytest.approx([2 / 3, 6 / 7, 10 / 11])
    # No right detection is so unsure
    assert doubts_of(image_result([], [(0.45, 1, *BOX)])) == []


def test_where_nothing_is_labelled_detections_are_weighed_by_themselves():
    """A network that says as much beside labels: a frame without any is rare, or it is not."""
    beside = image_result([(0, *BOX)], [(0.6, 0, *BOX), (0.6, 1, *ELSEWHERE)])
    empty = image_result([], [(0.6, 1, *ELSEWHERE)])
    rare = rank_boxes([[beside] * 10 + [empty]], 2)
    assert {own.kind for own in rare} == {"not labelled"} and rare[0].frame == 10
    assert [own.doubt for own in rare] == pytest.approx([10 / 11] + [1 / 2] * 10)
    often = rank_boxes([[beside] * 10 + [empty] * 10], 2)
    assert [own.doubt for own in often] == pytest.approx([1 / 2] * 20)


def test_sureness_is_each_networks_own():
    shy = right_frames(scores=(0.1, 0.2, 0.3))
    frame = image_result([], [(0.35, 1, *BOX)])
    (doubt,) = rank_boxes([[frame, *right_frames()], [frame, *shy]], 2)
    assert doubt.frame == 11 and doubt.doubt == pytest.approx(6 / 7)


def test_a_small_overlap_is_a_loose_label():
    label = (20, 20, 60, 40)
    (doubt,) = doubts_of(image_result([(0, *label)], [(0.95, 0, 20, 20, 60, 100)]))
    assert (doubt.kind, doubt.label, doubt.found) == ("loose", 0, 0)


def test_silence_doubts_a_label_unless_the_network_is_often_silent():
    silent = image_result([(0, *BOX)])
    (doubt,) = doubts_of(silent)
    assert (doubt.kind, doubt.found) == ("no support", NO_BOX)
    assert doubt.doubt == pytest.approx(11 / 12) and not doubt.is_issue
    often = rank_boxes([[silent] * 10 + right_frames()], 2)
    assert [own.doubt for own in often] == pytest.approx([20 / 30] * 10)


def test_a_label_that_was_moved_away_is_one_doubt():
    (doubt,) = doubts_of(image_result([(0, *BOX)], [(0.95, 0, *ELSEWHERE)]))
    assert (doubt.kind, doubt.label, doubt.found) == ("moved", 0, 0) and doubt.is_issue


def test_a_label_that_is_found_is_not_doubted_for_a_weaker_detection():
    assert doubts_of(image_result([(0, *BOX)], [(0.95, 0, *BOX), (0.9, 1, *BOX)])) == []


def test_what_a_network_often_says_counts_less_than_what_it_rarely_says():
    """A class that is taken for the other in many frames, and a label that is missed in one."""
    confused = image_result([(0, *BOX)], [(0.95, 1, *BOX)])
    missed = image_result([(0, *BOX)], [(0.6, 0, *ELSEWHERE)])
    found = rank_boxes([[confused] * 8 + [missed, *right_frames()]], 2)
    assert [own.kind for own in found] == ["moved"] + ["class"] * 8
    assert found[0].doubt > 0.6 > found[1].doubt


def test_labels_and_detections_are_doubted_once():
    """The detection elsewhere explains one of the two labels; the other has nothing."""
    frame = image_result([(0, *BOX), (0, 70, 20, 110, 60)], [(0.95, 0, *ELSEWHERE)])
    found = doubts_of(frame)
    labels = [own.label for own in found if own.label != NO_BOX]
    assert len(set(labels)) == len(labels) and sum(own.found == 0 for own in found) == 1


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_the_best_fit_that_never_falls(seed: int):
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(seed)
    seen, made = rng.normal(0, 1, 40).round(1), rng.normal(1, 1, 30).round(1)
    found = share_of_mistakes(seen, made)
    both = np.concatenate((seen, made))
    of_made = np.repeat([0, 1], [len(seen), len(made)])
    expected = isotonic.IsotonicRegression().fit(both, of_made).predict(seen)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.diff(found[np.argsort(seen)]) >= 0).all()


def test_without_evidence_there_is_no_share():
    assert share_of_mistakes([], [1.0]).tolist() == []
    assert share_of_mistakes([2.0, 1.0], []).tolist() == [0, 0]


def view_frames(rng: np.random.Generator, count: int = 60):
    """Frames of three views that the network knows well."""
    frames = []
    for index in range(count):
        said = np.full(3, 0.05)
        said[index % 3] = 0.9 + rng.uniform(-0.05, 0.05)
        name = f"P1_{index // 6}_F{index % 6}.jpg"
        frames.append(image_result(view=index % 3, probabilities=said / said.sum(), name=name))
    return frames


@needs_cleanlab
def test_wrong_views_come_first_with_the_likely_one():
    frames = view_frames(np.random.default_rng(0))
    wrong = {4: 2, 9: 1, 20: 0}
    for number, view in wrong.items():
        own = frames[number]
        frames[number] = image_result(
            view=view, probabilities=own.view_probabilities, name=own.image
        )
    frames.append(image_result(view=-1, probabilities=(0.9, 0.05, 0.05)))
    found = rank_views(frames)
    assert {doubt.frame: doubt.view for doubt in found} == {4: 1, 9: 0, 20: 2}
    assert all(doubt.is_issue and doubt.doubt > 0.9 for doubt in found)
    assert rank_views([image_result()]) == []


@needs_cleanlab
def test_clips_with_several_views_get_the_likely_one():
    data = DataConfig(
        source=Path("data.yaml"),
        root=Path(),
        splits={},
        names=(),
        view_names=("a", "b", "c"),
        clip_pattern=r"^(P\d+_\d+)_F(\d+)",
    )
    frames = []
    for clip, labels in enumerate(((0, 0, 1), (1, 1, 1), (-1, 2, 2), (2, 2, 2))):
        for number, view in enumerate(labels):
            said = np.full(3, 0.1)
            said[max(clip - 1, 0)] = 0.8
            name = f"P1_{clip}_F{number}.jpg"
            frames.append(image_result(view=view, probabilities=said, name=name))
    (doubt,) = rank_clips(frames, data, rank_views(frames))
    assert (doubt.frame, doubt.view) == (2, 0)


def test_without_cleanlab_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match=r"pip install '\.\[labels\]'"):
        rank_views(view_frames(np.random.default_rng(0), 6))

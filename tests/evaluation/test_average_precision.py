"""Average precision against the public YOLOv5's figures, its definition and hand-made cases."""

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results

from utils.evaluation.average_precision import (
    YoloAP,
    coco_evaluation,
    coco_precision,
    match_predictions,
    resampled_ap,
    yolo_ap,
)
from utils.evaluation.matching import COCO_IOU_THRESHOLDS, IOU_THRESHOLDS
from utils.evaluation.metrics import summarise
from utils.evaluation.results import ImageResult


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return overlap / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap)


def direct_coco_ap(results: list[ImageResult], box_class: int, threshold: float) -> float:
    """COCO's AP by its definition, one box after the other."""
    rows, true_count = [], 0
    for result in results:
        free = [
            b
            for b, c in zip(result.true_boxes_xyxy, result.true_classes, strict=True)
            if c == box_class
        ]
        true_count += len(free)
        for box, score, found_class in zip(
            result.boxes_xyxy, result.scores, result.classes, strict=True
        ):
            if found_class != box_class:
                continue
            overlaps = [iou(box, true) for true in free]
            hit = bool(overlaps) and max(overlaps) >= threshold
            if hit:
                free.pop(int(np.argmax(overlaps)))
            rows.append((score, hit))
    rows.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in rows])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / true_count
    return np.mean([precision[recall >= level].max(initial=0) for level in np.linspace(0, 1, 101)])


# ---- YOLOv5's figures ----------------------------------------------------------------------------


def test_yolo_ap_equals_the_public_yolov5(golden):
    curves = yolo_ap(
        golden["ap_tp"], golden["ap_conf"], golden["ap_pred_cls"], golden["ap_target_cls"]
    )
    precision, recall, f1 = curves.at(curves.best_confidence)
    np.testing.assert_allclose(precision, golden["ap_precision"], atol=1e-6)
    np.testing.assert_allclose(recall, golden["ap_recall"], atol=1e-6)
    np.testing.assert_allclose(f1, golden["ap_f1"], atol=1e-6)
    np.testing.assert_allclose(curves.ap, golden["ap_ap"], atol=1e-6)


def test_yolo_ap_by_hand():
    # Class 2: right at 0.9, wrong at 0.6, right at 0.5, of 4 true boxes. Class 5: never predicted.
    # Class 7: predicted, but no true box, so it is no row.
    tp = np.array([[1, 1], [0, 0], [0, 0], [1, 0]], bool)
    curves = yolo_ap(
        tp, np.array([0.9, 0.6, 0.7, 0.5]), np.array([2, 2, 7, 2]), np.array([2, 2, 2, 2, 5])
    )
    assert curves.classes.tolist() == [2, 5]
    grid = curves.confidence
    for index in (0, 500, 600, 650, 899, 950):
        # YOLOv5 interpolates precision over confidence; left of the first prediction's confidence
        # it is 1
        expected_precision = np.interp(grid[index], [0.5, 0.6, 0.9], [2 / 3, 1 / 2, 1])
        expected_recall = (
            np.interp(grid[index], [0.5, 0.6], [0.5, 0.25]) if grid[index] <= 0.9 else 0
        )
        precision, recall, f1 = curves.at(grid[index])
        assert precision.tolist() == pytest.approx([expected_precision, 0])
        assert recall.tolist() == pytest.approx([expected_recall, 0])
        both = 2 * expected_precision * expected_recall / (expected_precision + expected_recall)
        assert f1.tolist() == pytest.approx([both, 0])
    # Envelope: 1 up to recall 1/4, 2/3 up to 1/2, then the straight line to (1, 0); sampled at 101
    # points.
    assert curves.ap[0, 0] == pytest.approx(0.25 + 0.25 * 2 / 3 + 0.5 * (2 / 3) / 2, abs=2e-3)
    # Only the first is right: 1 up to recall 1/4, then the line from (1/4, 1/3) to (1, 0).
    assert curves.ap[0, 1] == pytest.approx(0.25 + 0.75 * (1 / 3) / 2, abs=4e-3)
    assert curves.ap[1].tolist() == [0, 0]


def test_best_confidence_separates_right_from_wrong():
    confidence = np.r_[np.linspace(0.6, 0.95, 50), np.linspace(0.01, 0.4, 50)]
    tp = np.repeat([[True], [False]], 50, axis=0)
    curves = yolo_ap(tp, confidence, np.zeros(100), np.zeros(50))
    assert 0.4 < curves.best_confidence < 0.65


def test_best_confidence_prefers_a_broad_hill_to_a_spike():
    grid = np.linspace(0, 1, 1000)
    curve = np.where((grid > 0.2) & (grid < 0.4), 0.8, 0.1)
    curve[700:705] = 1
    curves = YoloAP(np.array([0]), grid, curve[None], curve[None], np.zeros((1, 10)))
    assert 0.25 <= curves.best_confidence <= 0.35


# ---- matching ------------------------------------------------------------------------------------


def test_a_true_box_takes_its_most_confident_claimant():
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    found = np.array([[0, 0, 10, 8], [0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 10]], float)
    tp, claimed = match_predictions(
        found, np.array([0, 0, 1, 0]), truth, np.array([0, 0]), np.array([0.5, 0.9])
    )
    # the second has the higher IoU but only gets its box where the first, at IoU 0.8, does not
    # qualify
    assert tp.tolist() == [[True, False], [False, True], [False, False], [True, True]]
    assert claimed[[0, 1, 3]].tolist() == [0, 0, 1]


def test_matching_is_one_to_one_within_a_class_and_above_the_threshold():
    for result in random_results():
        args = result.boxes_xyxy, result.classes, result.true_boxes_xyxy, result.true_classes
        tp, claimed = match_predictions(*args)
        assert tp.shape == (len(result.scores), len(IOU_THRESHOLDS))
        for column, threshold in enumerate(IOU_THRESHOLDS):
            hits = np.flatnonzero(tp[:, column])
            assert len(set(claimed[hits])) == len(hits)
            for hit in hits:
                assert result.classes[hit] == result.true_classes[claimed[hit]]
                assert (
                    iou(result.boxes_xyxy[hit], result.true_boxes_xyxy[claimed[hit]])
                    >= threshold - 1e-12
                )
        half = len(result.scores) // 2
        few, _ = match_predictions(result.boxes_xyxy[:half], result.classes[:half], *args[2:])
        np.testing.assert_array_equal(few, tp[:half])


def test_matching_without_boxes():
    none, one = np.zeros((0, 4)), np.array([[0, 0, 9, 9.0]])
    for found, truth in ((none, none), (none, one), (one, none)):
        tp, claimed = match_predictions(
            found, np.zeros(len(found), int), truth, np.zeros(len(truth), int)
        )
        assert tp.shape == (len(found), 10) and not tp.any() and claimed.shape == (len(found),)


# ---- COCO ----------------------------------------------------------------------------------------


def test_coco_ap_equals_a_direct_computation():
    results = random_results()
    detection = summarise(results, NAMES, VIEWS, intervals=False)["detection"]
    ap = np.array(
        [[direct_coco_ap(results, c, t) for t in COCO_IOU_THRESHOLDS] for c in range(len(NAMES))]
    )
    assert 0.2 < ap.mean() < 0.9
    assert detection["mAP_0.3"] == pytest.approx(ap[:, 0].mean())
    assert detection["mAP_0.5"] == pytest.approx(ap[:, 1].mean())
    assert detection["mAP_0.5:0.95"] == pytest.approx(ap[:, 1:].mean())
    for row, own in zip(detection["per_class"], ap, strict=True):
        assert row["AP_0.3"] == pytest.approx(own[0])
        assert row["AP_0.5"] == pytest.approx(own[1])
        assert row["AP_0.5:0.95"] == pytest.approx(own[1:].mean())
    curve = np.array(detection["pr_curve"]["precision"])
    np.testing.assert_allclose(curve.mean(1), ap[:, 1])


def test_coco_counts_the_300th_detection():
    misses = [(0.9 - 0.001 * i, 0, 100, 0, 110, 10) for i in range(299)]
    found = [*misses, (0.1, 0, 0, 0, 10, 10)]
    detection = summarise([image_result([(0, 0, 0, 10, 10)], found)], NAMES, VIEWS)["detection"]
    assert detection["mAP_0.5"] == pytest.approx(1 / 300)


def test_coco_is_silent_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summarise(random_results(5), NAMES, VIEWS)
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_resampling_equals_evaluating_the_resampled_images():
    results = random_results(8)
    resample_counts = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=6)
    resample_counts[0] = 1
    resampled = resampled_ap(coco_evaluation(results, len(NAMES)), resample_counts)
    for row, counts in zip(resampled, resample_counts, strict=True):
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        precision = coco_precision(coco_evaluation(copies, len(NAMES)))
        precision = precision[~np.isnan(precision).any((1, 2))]
        np.testing.assert_allclose(row, precision.mean((0, 1)), atol=1e-12)


def test_an_iou_of_exactly_the_threshold_is_a_match():
    """As in the public YOLOv5: two boxes of 10 x 10 and 10 x 5 on it have an IoU of a half."""
    found, truth = np.array([[0.0, 0, 10, 5]]), np.array([[0.0, 0, 10, 10]])
    tp, _ = match_predictions(found, np.zeros(1), truth, np.zeros(1), np.array([0.5, 0.51]))
    assert tp.tolist() == [[True, False]]

"""The metrics against the public YOLOv5's figures, direct computations, scikit-learn and hand-made cases."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results, without_predictions
from sklearn import metrics as sk

from utils.metrics import (
    COCO_IOU_THRESHOLDS,
    IOU_THRESHOLDS,
    ImageResult,
    ViewPrior,
    YoloAP,
    calibration_error,
    coco_evaluation,
    detection_confusion,
    fitness,
    group_draws,
    match_predictions,
    resampled_ap,
    resampled_view_rates,
    summarise,
    view_metrics,
    yolo_ap,
)
from utils.tables import format_table


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return overlap / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap)


def direct_coco_ap(results: list[ImageResult], box_class: int, threshold: float) -> float:
    """COCO's AP by its definition, one box after the other."""
    rows, true_count = [], 0
    for result in results:
        free = [b for b, c in zip(result.true_boxes_xyxy, result.true_classes, strict=True) if c == box_class]
        true_count += len(free)
        for box, score, found_class in zip(result.boxes_xyxy, result.scores, result.classes, strict=True):
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


# YOLOv5-style figures


def test_yolo_ap_equals_the_public_yolov5(golden):
    curves = yolo_ap(golden["ap_tp"], golden["ap_conf"], golden["ap_pred_cls"], golden["ap_target_cls"])
    precision, recall, f1 = curves.at(curves.best_confidence)
    np.testing.assert_allclose(precision, golden["ap_precision"], atol=1e-6)
    np.testing.assert_allclose(recall, golden["ap_recall"], atol=1e-6)
    np.testing.assert_allclose(f1, golden["ap_f1"], atol=1e-6)
    np.testing.assert_allclose(curves.ap, golden["ap_ap"], atol=1e-6)


def test_yolo_ap_by_hand():
    # Class 2: right at 0.9, wrong at 0.6, right at 0.5, of 4 true boxes. Class 5: never predicted.
    # Class 7: predicted, but no true box, so it is no row.
    tp = np.array([[1, 1], [0, 0], [0, 0], [1, 0]], bool)
    curves = yolo_ap(tp, np.array([0.9, 0.6, 0.7, 0.5]), np.array([2, 2, 7, 2]), np.array([2, 2, 2, 2, 5]))
    assert curves.classes.tolist() == [2, 5]
    grid = curves.confidence
    for index in (0, 500, 600, 650, 899, 950):
        # YOLOv5 interpolates precision over confidence; left of the first prediction's confidence it is 1
        expected_precision = np.interp(grid[index], [0.5, 0.6, 0.9], [2 / 3, 1 / 2, 1])
        expected_recall = np.interp(grid[index], [0.5, 0.6], [0.5, 0.25]) if grid[index] <= 0.9 else 0
        precision, recall, f1 = curves.at(grid[index])
        assert precision.tolist() == pytest.approx([expected_precision, 0])
        assert recall.tolist() == pytest.approx([expected_recall, 0])
        both = 2 * expected_precision * expected_recall / (expected_precision + expected_recall)
        assert f1.tolist() == pytest.approx([both, 0])
    # Envelope: 1 up to recall 1/4, 2/3 up to 1/2, then the straight line to (1, 0); sampled at 101 points.
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


# Matching


def test_a_true_box_takes_its_most_confident_claimant():
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    found = np.array([[0, 0, 10, 8], [0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 10]], float)
    tp, claimed = match_predictions(found, np.array([0, 0, 1, 0]), truth, np.array([0, 0]), np.array([0.5, 0.9]))
    # the second has the higher IoU but only gets its box where the first, at IoU 0.8, does not qualify
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
                assert iou(result.boxes_xyxy[hit], result.true_boxes_xyxy[claimed[hit]]) >= threshold - 1e-12
        half = len(result.scores) // 2
        few, _ = match_predictions(result.boxes_xyxy[:half], result.classes[:half], *args[2:])
        np.testing.assert_array_equal(few, tp[:half])


def test_matching_without_boxes():
    none, one = np.zeros((0, 4)), np.array([[0, 0, 9, 9.0]])
    for found, truth in ((none, none), (none, one), (one, none)):
        tp, claimed = match_predictions(found, np.zeros(len(found), int), truth, np.zeros(len(truth), int))
        assert tp.shape == (len(found), 10) and not tp.any() and claimed.shape == (len(found),)


def test_confusion_by_hand():
    truth = [(0, 0, 0, 10, 10), (1, 20, 0, 30, 10), (2, 40, 0, 50, 10)]
    found = [
        (0.9, 0, 0, 0, 10, 10),  # right
        (0.8, 2, 20, 0, 30, 10),  # a 1 taken for a 2
        (0.7, 1, 20, 0, 30, 10),  # right, but that box is taken
        (0.2, 2, 40, 0, 50, 10),  # below the threshold
    ]
    confusion = detection_confusion([image_result(truth, found)], 3, 0.5)
    assert confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]


# COCO


def test_coco_ap_equals_a_direct_computation():
    results = random_results()
    detection = summarise(results, NAMES, VIEWS, intervals=False)["detection"]
    ap = np.array([[direct_coco_ap(results, c, t) for t in COCO_IOU_THRESHOLDS] for c in range(len(NAMES))])
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
    draws = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=6)
    draws[0] = 1
    resampled = resampled_ap(coco_evaluation(results, len(NAMES)), draws)
    for row, counts in zip(resampled, draws, strict=True):
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        precision = coco_evaluation(copies, len(NAMES)).eval["precision"][..., 0, 0]
        precision = precision[..., (precision >= 0).all((0, 1))]
        np.testing.assert_allclose(row, precision.mean((1, 2)), atol=1e-12)


def test_resampled_views_equal_evaluating_the_resampled_images():
    results = random_results(12)
    draws = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12), size=6)
    found = resampled_view_rates(results, len(VIEWS), draws)
    for number, counts in enumerate(draws):
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        expected = view_metrics(copies, NAMES, VIEWS)
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            np.testing.assert_allclose(found[name][number], expected[name], atol=1e-12)


def test_draws_are_of_groups_and_the_same_whatever_is_drawn_for():
    groups = ["b", "a", "a", "c", "b", "a"]
    draws = group_draws(groups, 500, seed=7)
    assert draws.shape == (500, 6) and (draws[:, [1, 0, 1]] == draws[:, [2, 4, 5]]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()  # as many groups as there are
    assert draws[:, 0].mean() == pytest.approx(1, abs=0.15) and len(np.unique(draws[:, [0, 1, 3]], axis=0)) == 10
    assert (group_draws(sorted(groups), 500, seed=7)[:, [3, 0, 1, 5, 4, 2]] == draws).all()
    assert (group_draws(groups, 500, seed=8) != draws).any()


# The whole


def test_perfect_predictions_score_one():
    truth = [[(0, 10, 10, 50, 60)], [(1, 0, 0, 30, 30), (0, 50, 50, 99, 99)], [(2, 5, 7, 77, 88)]]
    results = [
        image_result(boxes, [(0.9, *box) for box in boxes], view, np.eye(3)[view], f"{view}.jpg")
        for view, boxes in enumerate(truth)
    ]
    metrics = summarise(results, NAMES, VIEWS)
    detection, views = metrics["detection"], metrics["views"]
    ones = ["mAP_0.5", "mAP_0.5:0.95", "mAP_0.3", "precision", "recall", "f1", "matched_share"]
    assert [detection[key] for key in ones] == pytest.approx([1] * len(ones))
    assert detection["yolov5_mAP_0.5:0.95"] == pytest.approx(0.995)  # its 101 points end at (1, 0)
    assert detection["mse_xywhn"] == 0
    assert detection["confusion"] == np.diag([2, 1, 1, 0]).tolist()
    assert [views[key] for key in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")] == [1, 1, 1, 1]
    assert views["ece"] == 0
    assert views["confusion"] == np.eye(3).tolist()
    assert metrics["fitness"] == pytest.approx(1)
    assert detection["intervals"]["mAP_0.5"] == pytest.approx([1, 1])


def test_no_predictions_score_zero():
    results = [without_predictions(result) for result in random_results(6)]
    detection = summarise(results, NAMES, VIEWS)["detection"]
    zeros = ["mAP_0.5", "mAP_0.5:0.95", "mAP_0.3", "precision", "recall", "f1", "matched_share"]
    assert [detection[key] for key in zeros] == [0] * len(zeros)
    assert detection["mse_xywhn"] is None
    assert sum(detection["confusion"][-1]) == sum(len(result.true_classes) for result in results)


def test_a_model_without_a_detector_on_frames_without_boxes_or_views():
    results = [replace(without_predictions(image_result(view=1)), image=f"{i}") for i in range(3)]
    metrics = summarise(results, NAMES, VIEWS)
    json.dumps(metrics, allow_nan=False)
    assert format_table(metrics).splitlines()[1].split() == ["all", "3", "0", *"------"]


@pytest.mark.parametrize("found", [(), [(0.9, 0, 0, 0, 10, 10)]])
def test_nothing_to_measure_is_none_and_not_zero(found):
    metrics = summarise([image_result(found=found)], NAMES, VIEWS)
    detection, views = metrics["detection"], metrics["views"]
    assert metrics["boxes"] == 0 and views["images"] == 0 and metrics["fitness"] == 0
    undefined = ("mAP_0.5", "mAP_0.5:0.95", "precision", "recall", "f1", "matched_share", "mse_xywhn")
    assert [detection[key] for key in undefined] == [None] * len(undefined)
    undefined = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    assert [views[key] for key in undefined] == [None] * len(undefined)
    assert detection["intervals"] == views["intervals"] == {}
    assert detection["confusion"][0][-1] == len(found)
    json.dumps(metrics, allow_nan=False)
    assert "no image with a known" in format_table(metrics)


def test_a_model_without_a_view_head_and_data_without_views():
    results = [replace(result, view_probabilities=np.zeros(0)) for result in random_results(5)]
    for view_names in (VIEWS, ()):
        metrics = summarise(results, NAMES, view_names)
        assert metrics["views"]["images"] == 0
        assert np.shape(metrics["views"]["confusion"]) in ((3, 3), (0,))
        detection = metrics["detection"]
        expected = 0.1 * detection["mAP_0.5"] + 0.9 * detection["mAP_0.5:0.95"]
        assert metrics["fitness"] == pytest.approx(expected)


def test_an_absent_class_is_none_and_outside_the_means():
    truth, found = [(0, 0, 0, 10, 10)], [(0.9, 0, 0, 0, 10, 10), (0.8, 1, 0, 0, 10, 10)]
    detection = summarise([image_result(truth, found)], NAMES, VIEWS)["detection"]
    assert detection["mAP_0.5"] == pytest.approx(1) and detection["precision"] == pytest.approx(1)
    absent = detection["per_class"][1]
    assert (absent["name"], absent["images"], absent["boxes"]) == ("MR", 0, 0)
    assert absent["AP_0.5"] is absent["AP_0.3"] is absent["precision"] is absent["f1"] is None
    assert detection["pr_curve"]["precision"][1] == [None] * 101


def test_localisation_error_by_hand():
    # 200 x 100 pixels: 4 px to the right and 2 px down, 10 px wider; and one that does not match
    truth = [(0, 20, 20, 80, 60), (0, 100, 0, 150, 50)]
    found = [(0.9, 0, 19, 22, 89, 62), (0.8, 0, 150, 60, 190, 90), (0.1, 0, 100, 0, 150, 50)]
    detection = summarise([image_result(truth, found)], NAMES, VIEWS, confidence=0.5)["detection"]
    assert detection["matched_share"] == 0.5
    assert detection["mse_xywhn"] == pytest.approx((0.02**2 + 0.02**2 + 0.05**2) / 4)
    assert detection["confidence"] == 0.5 and detection["confidence_source"] == "given"


def test_the_chosen_confidence_given_back_gives_the_same_figures():
    results = random_results()
    chosen = summarise(results, NAMES, VIEWS, intervals=False)["detection"]
    given = summarise(results, NAMES, VIEWS, confidence=chosen["confidence"], intervals=False)["detection"]
    assert chosen.pop("confidence_source") == "maximises F1 here" and given.pop("confidence_source") == "given"
    assert chosen == given
    for other in (0.1, 0.9):
        detection = summarise(results, NAMES, VIEWS, confidence=other, intervals=False)["detection"]
        assert detection["f1"] < chosen["f1"]


def test_counts_per_class():
    truth = [(0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (1, 40, 0, 50, 10)]
    rows = summarise([image_result(truth), image_result(truth[:1], name="b")], NAMES, VIEWS)["detection"]["per_class"]
    assert [(row["images"], row["boxes"]) for row in rows] == [(2, 3), (1, 1), (0, 0)]


# Views


def view_results(truth, probabilities) -> list[ImageResult]:
    pairs = enumerate(zip(truth, probabilities, strict=True))
    return [image_result(view=view, probabilities=p, name=f"{i}.jpg") for i, (view, p) in pairs]


def test_views_by_hand():
    probabilities = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]
    views = summarise(view_results([0, 0, 1, 1, -1], probabilities), NAMES, VIEWS)["views"]
    assert views["images"] == 4
    assert views["accuracy"] == views["balanced_accuracy"] == 0.75
    assert views["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [row["images"] for row in views["per_view"]] == [2, 2, 0]
    assert [row["recall"] for row in views["per_view"]] == [0.5, 1, None]
    assert [row["precision"] for row in views["per_view"]] == [1, pytest.approx(2 / 3), None]
    assert views["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    # view 0: (0.8, 0.2) against (0.3, 0.1); view 1: (0.6, 0.8) against (0.1, 0.7): 3 of 4 pairs each
    assert views["auroc"] == pytest.approx(0.75)


def test_views_equal_scikit_learn():
    results = [result for result in random_results(60) if result.true_view >= 0]
    views = summarise(results, NAMES, VIEWS)["views"]
    truth = np.array([result.true_view for result in results])
    probabilities = np.array([result.view_probabilities for result in results])
    predicted = probabilities.argmax(1)
    assert views["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert views["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert views["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert views["auroc"] == pytest.approx(sk.roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert views["confusion"] == sk.confusion_matrix(truth, predicted).tolist()
    precision, recall, f1, count = sk.precision_recall_fscore_support(truth, predicted)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1), ("images", count)):
        assert [row[name] for row in views["per_view"]] == pytest.approx(expected.tolist())


def test_auroc_is_none_with_one_view_and_a_never_predicted_view_has_f1_zero():
    views = summarise(view_results([1, 1], [[0.2, 0.7, 0.1], [0.7, 0.2, 0.1]]), NAMES, VIEWS)["views"]
    assert views["auroc"] is None and views["balanced_accuracy"] == 0.5
    views = summarise(view_results([0, 1], [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]]), NAMES, VIEWS)["views"]
    assert [row["f1"] for row in views["per_view"]] == [pytest.approx(2 / 3), 0, None]


def test_calibration_error_where_it_is_known():
    sure, unsure = [0.8, 0.2], [0.6, 0.4]
    assert calibration_error(np.array([sure] * 5), np.array([0, 0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(np.array([sure] * 4), np.array([0, 0, 1, 1])) == pytest.approx(0.3)
    # two bins, gaps of opposite sign do not cancel: (2 |0.5 - 0.8| + 2 |1 - 0.6|) / 4
    mixed = np.array([sure, sure, unsure, unsure])
    assert calibration_error(mixed, np.array([0, 1, 0, 0])) == pytest.approx(0.35)
    # in one bin they do
    assert calibration_error(mixed, np.array([0, 1, 0, 0]), bins=1) == pytest.approx(0.05)
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0


def test_baselines_come_from_training_labels():
    frames = [([0, 0, 0, 1], 1), ([0], 2), ([0], 2), ([1], 1), ([], 1), ([2], -1)]
    prior = ViewPrior.fit([(np.array(classes, int), view) for classes, view in frames])
    assert prior == ViewPrior(majority=1, by_class={0: 2, 1: 1})
    assert prior.lookup(np.array([0])) == 2
    assert prior.lookup(np.array([1, 0, 0])) == 2  # its most frequent class
    assert prior.lookup(np.array([2])) == prior.lookup(np.array([], int)) == 1  # unseen, none: the majority
    boxes = [[(0, 0, 0, 9, 9)], [(0, 0, 0, 9, 9)], [(2, 0, 0, 9, 9)], []]
    results = [
        image_result(truth, view=view, probabilities=[1, 0, 0], name=f"{i}.jpg")
        for i, (truth, view) in enumerate(zip(boxes, [2, 1, 1, 0], strict=True))
    ]
    views = summarise(results, NAMES, VIEWS, view_prior=prior)["views"]
    assert views["majority_baseline"] == {"view": "PSAX", "accuracy": 0.5}
    assert views["class_lookup_baseline"] == {"accuracy": 0.5, "table": {"AR": "PLAX", "MR": "PSAX"}}
    assert ViewPrior.fit([(np.array([0]), -1)]) is None
    assert summarise(results, NAMES, VIEWS)["views"]["majority_baseline"] is None


# Intervals and what is printed


def test_intervals_hold_the_figure_and_repeat():
    metrics = summarise(random_results(60), NAMES, VIEWS)
    assert metrics["interval_unit"] == "patients (group_pattern), 10 groups"
    assert metrics["resamples"] == 1000
    for part, keys in (
        ("detection", ("mAP_0.5", "mAP_0.5:0.95")),
        ("views", ("accuracy", "balanced_accuracy")),
    ):
        assert set(metrics[part]["intervals"]) == set(keys)
        for key in keys:
            low, high = metrics[part]["intervals"][key]
            assert low < metrics[part][key] < high
    assert summarise(random_results(60), NAMES, VIEWS) == metrics


def test_intervals_resample_groups_and_not_images():
    results = random_results(24)
    one_group = summarise([replace(result, group="p") for result in results], NAMES, VIEWS)
    for part in ("detection", "views"):
        for key, interval in one_group[part]["intervals"].items():
            assert interval == pytest.approx([one_group[part][key]] * 2)
    by_image = summarise([replace(result, group=result.image) for result in results], NAMES, VIEWS)
    assert by_image["interval_unit"] == "images"
    # every image four times, kept together in groups: no more certain than the images once
    copies = [replace(r, image=f"{n}{r.image}", group=r.image) for r in results for n in range(4)]
    copied = summarise(copies, NAMES, VIEWS)
    assert copied["views"]["intervals"]["accuracy"] == pytest.approx(by_image["views"]["intervals"]["accuracy"])


def test_images_without_a_view_do_not_move_the_intervals_of_the_views():
    results = [result for result in random_results(40) if result.true_view >= 0]
    unlabelled = [replace(result, true_view=-1) for result in results[::2]]
    expected = summarise(results, NAMES, VIEWS)["views"]
    assert summarise([*unlabelled, *results], NAMES, VIEWS)["views"] == expected


def test_no_intervals_when_not_asked_for():
    metrics = summarise(random_results(5), NAMES, VIEWS, intervals=False)
    assert metrics["detection"]["intervals"] == metrics["views"]["intervals"] == {}
    assert metrics["resamples"] == 0


def test_fitness_is_half_detection_and_half_views():
    def of(detection: float | None, view: float | None, *tasks: tuple[str, ...]) -> float:
        boxes = {"mAP_0.5": detection and 3 * detection, "mAP_0.5:0.95": detection}
        return fitness({"detection": boxes, "views": {"balanced_accuracy": view}}, *tasks)

    assert of(0.2, 0.7) == pytest.approx(0.5 * 0.24 + 0.5 * 0.7)
    assert of(0.2, None) == of(0.2, 0.7, ("detection",)) == pytest.approx(0.24)
    assert of(None, 0.7) == of(0.2, 0.7, ("classification",)) == pytest.approx(0.7)
    assert of(None, None) == of(0.2, None, ("classification",)) == 0


def test_the_result_is_json_and_its_table_is_narrow():
    results = random_results(20)
    prior = ViewPrior.fit([(result.true_classes, result.true_view) for result in results])
    metrics = summarise(results, (*NAMES, "a class with a very long name and no box"), VIEWS, view_prior=prior)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    lines = format_table(metrics).splitlines()
    assert max(map(len, lines)) <= 110
    table = {line[:24].strip(): line[24:].split() for line in reversed(lines)}  # of equal names the first
    row = metrics["detection"]["per_class"][0]
    figures = [row[key] for key in ("precision", "recall", "f1", "AP_0.5", "AP_0.5:0.95", "AP_0.3")]
    assert table["AR"] == [str(row["images"]), str(row["boxes"]), *(f"{figure:.3f}" for figure in figures)]
    assert table["all"][5] == f"{metrics['detection']['mAP_0.5']:.3f}"
    assert table["a class with a very long"] == ["0", "0", *"------"]
    assert table["model"][1] == f"{metrics['views']['accuracy']:.3f}"
    assert table[f"always {VIEWS[prior.majority]}"][1] == f"{metrics['views']['majority_baseline']['accuracy']:.3f}"
    assert sum("patients (group_pattern), 10 groups" in line for line in lines) == 3

"""Predictions as a COCO data set, read by pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_results import NAMES, random_results
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.coco import CocoFrame, coco_document
from utils.evaluation.results import ImageResult


def of_truth(result: ImageResult) -> CocoFrame:
    boxes = (result.true_boxes_xyxy, np.ones(len(result.true_classes)), result.true_classes)
    return CocoFrame(result.image, None, result.height, result.width, *boxes, "A4C")


def of_predictions(result: ImageResult) -> CocoFrame:
    boxes = (result.boxes_xyxy, result.scores, result.classes)
    return CocoFrame(result.image, 7, result.height, result.width, *boxes, None)


def read(path: Path, frames: list[CocoFrame]) -> COCO:
    path.write_text(json.dumps(coco_document(frames, NAMES)))
    return COCO(str(path))


def test_pycocotools_reads_boxes_and_classes(tmp_path: Path):
    results = random_results(12)
    data = read(tmp_path / "a.json", [of_predictions(result) for result in results])
    assert [data.cats[number]["name"] for number in sorted(data.cats)] == list(NAMES)
    for image_id, result in enumerate(results, start=1):
        assert data.imgs[image_id]["file_name"] == result.image
        assert data.imgs[image_id]["frame"] == 7
        own = data.imgToAnns[image_id]
        left_top = [annotation["bbox"][:2] for annotation in own]
        sides = [annotation["bbox"][2:] for annotation in own]
        np.testing.assert_allclose(left_top, result.boxes_xyxy[:, :2], atol=1e-3)
        expected = result.boxes_xyxy[:, 2:] - result.boxes_xyxy[:, :2]
        np.testing.assert_allclose(sides, expected, atol=2e-3)
        assert [annotation["category_id"] for annotation in own] == result.classes.tolist()


def test_pycocotools_comes_to_the_same_average_precision(tmp_path: Path):
    results = random_results(30)
    truth = read(tmp_path / "truth.json", [of_truth(result) for result in results])
    document = coco_document([of_predictions(result) for result in results], NAMES)
    evaluation = COCOeval(truth, truth.loadRes(document["annotations"]), "bbox")
    evaluation.params.maxDets = [1, 10, 300]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # at IoU 0.5
    expected = resampled_ap(coco_evaluation(results, len(NAMES)), np.ones((1, 30), int))[0, 1]
    assert precision.mean() == pytest.approx(expected, abs=1e-3)

"""The figures without a patient are those of the other patients' frames alone."""

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, random_results

from utils.comparison.per_patient import without_each_patient
from utils.core.names import TASKS
from utils.evaluation.metrics import summarise


def test_a_row_is_what_the_other_patients_come_to():
    results = random_results(40, 8)
    rows = without_each_patient(results, len(NAMES), len(VIEWS), TASKS)
    assert [row["patient"] for row in rows] == [f"p{number}" for number in range(8)]
    for row in rows:
        others = [result for result in results if result.group != row["patient"]]
        metrics = summarise(others, NAMES, VIEWS, intervals=False)
        expected = {
            "mAP50": metrics["detection"]["mAP_0.5"],
            "mAP50-95": metrics["detection"]["mAP_0.5:0.95"],
            "view_accuracy": metrics["views"]["accuracy"],
            "view_balanced_accuracy": metrics["views"]["balanced_accuracy"],
        }
        assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-9)
        assert row["frames"] == len(results) - len(others) == 5


def test_one_task_has_its_metrics_only():
    (row,) = without_each_patient(random_results(6, 1), len(NAMES), len(VIEWS), ["classification"])
    assert row.keys() == {"patient", "frames", "view_accuracy", "view_balanced_accuracy"}
    assert np.isnan(row["view_accuracy"])  # without the only patient nothing is left

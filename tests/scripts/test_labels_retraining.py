"""docs/labels: folds within folds, and what a retraining with corrected labels changed."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from eight_patients import FRAMES, make_set
from scipy.stats import ttest_rel

import split_dataset
from docs.labels import nested_folds
from docs.labels.retraining import TABLE, arms_table, differences_table
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.data.splits import load_split


def images_of(fold: Path, split: str) -> set[Path]:
    return set(load_split(load_data_config(fold / "data.yaml"), split).images)


def test_the_parts_of_a_fold_are_its_training_frames_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = make_set(tmp_path / "set", FRAMES)
    folds, nested = tmp_path / "folds", tmp_path / "nested"
    given = ["", "--data", str(path), "--folds", "2", "--out", str(folds)]
    monkeypatch.setattr(sys, "argv", given)
    split_dataset.main()
    monkeypatch.setattr(sys, "argv", ["", str(folds), str(nested), "--parts", "2"])
    nested_folds.main()
    for number in (0, 1):
        outer = images_of(folds / f"fold{number}", "train")
        parts = [nested / f"fold{2 * number + part}" for part in (0, 1)]
        one, other = (images_of(part, "val") for part in parts)
        assert one and other and one | other == outer and not one & other
        assert images_of(parts[0], "train") == other
        assert not {image.name[:3] for image in one} & {image.name[:3] for image in other}


def test_differences_are_those_of_a_paired_t_test():
    values = {"as labelled": [0.4, 0.3, 0.5], "decided": [0.45, 0.33, 0.52]}
    rows = []
    for arm, of_arm in values.items():
        for fold, value in enumerate(of_arm):
            rows.append({"fold": fold, "arm": arm, "mAP50": value, "view_balanced_accuracy": value})
    expected = ttest_rel(values["decided"], values["as labelled"])
    low, high = expected.confidence_interval()
    p_value = 2 * expected.pvalue  # Holm, of two
    line = f"| mAP50 | +0.033 | {low:+.3f} to {high:+.3f} | {p_value:.2f} |"
    assert line in differences_table(pd.DataFrame(rows))


def test_the_page_has_the_tables_of_the_kept_figures():
    page = (ROOT / "docs" / "labels-protocol.md").read_text(encoding="utf-8")
    table = pd.read_csv(TABLE)
    assert f"{arms_table(table)}\n\n{differences_table(table)}\n" in page

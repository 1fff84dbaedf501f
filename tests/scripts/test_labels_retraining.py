"""docs/labels: folds within folds, and what a retraining with corrected labels changed."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from eight_patients import FRAMES, make_set
from scipy.stats import ttest_rel

import split_dataset
from docs.labels import nested_folds, retraining
from docs.labels.retraining import TABLE, arms_table, differences_table, refuse_other_folds
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.core.script import UserError
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "1"], "--parts is 1, expected at least 2"),
        (["--seed", "-1"], "--seed is -1, expected at least 0"),
        ([], "full: not an empty folder"),
    ],
)
def test_nested_folds_refuse_what_makes_none_and_overwrite_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "full" / "fold9").mkdir(parents=True)
    given = ["", str(tmp_path), str(tmp_path / "full"), *arguments]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(UserError, match=message):
        nested_folds.main()


@pytest.mark.parametrize("given", ["no-folder-after-this", "named=", "named=here"])
def test_an_arm_without_a_training_is_named(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", given, given, "--folds", str(tmp_path)])
    with pytest.raises(UserError, match=r"no finished training of a fold.* NAME=FOLDER"):
        retraining.main()


@pytest.mark.parametrize(
    "folds",
    [
        {"a": ["fold0", "fold1", "fold2"], "b": ["fold0", "fold1", "fold3"]},
        {"a": ["fold0", "fold1"], "b": ["fold0", "fold1"]},
        {"a": ["fold0", "fold0", "fold1"], "b": ["fold0", "fold0", "fold1"]},
        {"a": ["fold0", "fold1", "fold2"] * 2},
    ],
)
def test_arms_of_other_folds_are_not_compared(folds: dict[str, list[str]]):
    rows = []
    for arm, own in folds.items():
        rows += [{"arm": arm, "fold": fold} for fold in own]
    with pytest.raises(UserError, match=r"found the folds a: fold0.* the same 3 folds or more"):
        refuse_other_folds(rows)


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

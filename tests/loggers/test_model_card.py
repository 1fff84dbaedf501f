"""The model card says what the data and the run's files say."""

import json
import re
from dataclasses import replace

import pytest
from small_runs import run, small_options

from utils.core.data_config import load_data_config
from utils.core.options import JointOptions
from utils.data.splits import load_splits
from utils.loggers.model_card import model_card


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_data):
    folder = tmp_path_factory.mktemp("card")
    return run(small_options(tiny_data, folder) | {"epochs": 1, "freeze": 2}, folder / "run")


def rows_of(card: str) -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in card.splitlines()
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


def test_a_run_writes_its_card(finished, tiny_data):
    card = (finished / "MODEL_CARD.md").read_text(encoding="utf-8")
    metrics, summary = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("metrics", "summary")
    )
    data = load_data_config(tiny_data)
    rows = rows_of(card)
    for split in load_splits(data, ("train", "val")):
        counts = dict(zip(rows["split"], map(int, rows[split.name]), strict=True))
        assert counts["frames"] == len(split.images)
        for number, name in enumerate(data.names):
            assert counts[name] == sum(
                (labels.boxes[:, 0] == number).sum() for labels in split.labels
            )
        for number, name in enumerate(data.view_names):
            assert counts[name] == sum(labels.view == number for labels in split.labels)
        without = [labels for labels in split.labels if len(labels.boxes) == 0]
        assert counts["without box"] == len(without) != len(split.images) / 2
    assert summary["fingerprint"] in card and "freeze 2" in card
    assert float(rows["boxes: mAP50"][0]) == pytest.approx(
        metrics["detection"]["mAP_0.5"], abs=5e-4
    )
    assert float(rows["view: accuracy"][0]) == pytest.approx(metrics["views"]["accuracy"], abs=5e-4)
    assert f"missed {metrics['detection']['errors']['counts']['missed']}; see `errors.png`" in card
    assert "no medical device" in card
    behind = [*metrics["detection"]["per_class"], *metrics["views"]["per_view"]]
    assert all(f"{row['name']} {row['groups']}" in card for row in behind)
    assert "another training would differ is not in them" in card


def test_patients_in_both_splits_are_said(finished, tiny_data):
    data = load_data_config(tiny_data)
    (train,) = load_splits(data, ("train",))
    summary, metrics = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("summary", "metrics")
    )
    leaking = model_card(summary, metrics, JointOptions(), data, train, train)
    assert "groups (patients) are in both splits" in leaking or "unknown" in leaking
    assert "may be of patients that it has seen" in leaking


@pytest.mark.parametrize(("source", "is_said"), [("maximises F1 here", True), ("given", False)])
def test_a_threshold_that_was_chosen_on_the_split_itself_is_said(
    finished, tiny_data, source: str, is_said: bool
):
    data = load_data_config(tiny_data)
    summary, metrics = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("summary", "metrics")
    )
    metrics["detection"]["confidence_source"] = source
    card = model_card(summary, metrics, JointOptions(), data, *load_splits(data, ("train", "val")))
    assert ("on this very split: they flatter" in card) == is_said


@pytest.mark.parametrize("pattern", [r"^(P0[0-2])?", r"^(X)", r"^()"])
def test_names_without_a_patient_are_said(finished, tiny_data, pattern: str):
    data = replace(load_data_config(tiny_data), group_pattern=pattern)
    splits = load_splits(data, ("train", "val"))
    summary, metrics = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("summary", "metrics")
    )
    card = model_card(summary, metrics, JointOptions(), data, *splits)
    assert re.search(
        r"finds no group in \d+ file names, so whether a patient is in both is unknown", card
    )
    assert "may be of patients that it has seen" in card

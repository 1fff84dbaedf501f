"""The tables that a terminal shows of an evaluation."""

import json
from dataclasses import replace

from made_up_results import NAMES, VIEWS, image_result, random_results, without_predictions

from utils.core.title import titled
from utils.evaluation.metrics import summarise
from utils.evaluation.results import ViewPrior
from utils.evaluation.screening import NO_NEGATIVES
from utils.evaluation.tables import format_table


def test_a_model_without_a_detector_on_frames_without_boxes_or_views():
    results = [replace(without_predictions(image_result(view=1)), image=f"{i}") for i in range(3)]
    metrics = summarise(results, NAMES, VIEWS)
    json.dumps(metrics, allow_nan=False)
    assert format_table(metrics).splitlines()[1].split() == ["all", "3", "1", "0", *"------"]


def test_the_result_is_json_and_its_table_is_narrow():
    results = random_results(20)
    prior = ViewPrior(majority=1, by_class={0: 2, 1: 1})
    metrics = summarise(
        results, (*NAMES, "a class with a very long name and no box"), VIEWS, view_prior=prior
    )
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    lines = format_table(metrics).splitlines()
    assert max(map(len, lines)) <= 110
    table = {
        line[:24].strip(): line[24:].split() for line in reversed(lines)
    }  # of equal names the first
    row = metrics["detection"]["per_class"][0]
    figures = [row[key] for key in ("precision", "recall", "f1", "AP_0.5", "AP_0.5:0.95", "AP_0.3")]
    counts = [str(row[key]) for key in ("images", "groups", "boxes")]
    assert table["AR"] == [*counts, *(f"{figure:.3f}" for figure in figures)]
    assert table["all"][1] == "10" and table["all"][6] == f"{metrics['detection']['mAP_0.5']:.3f}"
    assert table["a class with a very long"] == ["0", "0", "0", *"------"]
    assert table["model"][1] == f"{metrics['views']['accuracy']:.3f}"
    assert (
        table[f"always {VIEWS[prior.majority]}"][1]
        == f"{metrics['views']['majority_baseline']['accuracy']:.3f}"
    )
    assert sum("patients (group_pattern), 10 groups" in line for line in lines) == 3


def test_tables_are_in_the_words_of_their_data():
    results = random_results(20)
    prior = ViewPrior(majority=1, by_class={0: 2, 1: 1})
    texts = {}
    for title in ("view", "projection"):
        metrics = summarise(results, NAMES, VIEWS, view_prior=prior, cls_title=title)
        texts[title] = " ".join(format_table(metrics).split())
    assert "projections images accuracy" in texts["projection"]
    assert titled(texts["view"], "projection") == texts["projection"]


def test_the_tables_show_both():
    metrics = summarise(random_results(40), (*NAMES, "no box of this"), VIEWS, confidence=0.5)
    lines = format_table(metrics).splitlines()
    froc_at = next(i for i, line in enumerate(lines) if line.startswith("false boxes a frame"))
    assert lines[froc_at].split()[-8:] == ["1/8", "1/4", "1/2", "1", "2", "4", "8", "mean"]
    expected = [*metrics["detection"]["froc"]["sensitivity"], metrics["detection"]["froc"]["mean"]]
    assert lines[froc_at + 1].split()[-8:] == [f"{figure:.3f}" for figure in expected]
    assert lines[froc_at + 5].split()[-8:] == list("--------")
    frames_at = next(i for i, line in enumerate(lines) if line.startswith("whole frames"))
    row = metrics["detection"]["image_level"]["per_class"][0]
    low, high = row["sensitivity_interval"]
    shown = [
        "AR",
        str(row["positives"]),
        str(row["positive_groups"]),
        f"{row['sensitivity']:.3f}",
        f"[{low:.3f},",
        f"{high:.3f}]",
    ]
    assert lines[frames_at + 2].split()[:6] == shown
    assert lines[frames_at + 5].split()[4:] == ["0", "0", "-", "40", "1.000"]
    assert not any(NO_NEGATIVES in line for line in lines)
    assert max(map(len, lines)) <= 110


def test_errors_stand_above_what_fixing_them_gains():
    metrics = summarise(random_results(40), NAMES, VIEWS, confidence=0.5)
    errors, lines = metrics["detection"]["errors"], format_table(metrics).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("boxes by kind"))
    header, total, first = (line[24:] for line in lines[at : at + 3])
    assert [header[i : i + 12].strip() for i in range(0, len(header), 12)] == list(errors["counts"])
    assert total.split() == [str(count) for count in errors["counts"].values()]
    assert first.split() == [str(errors["per_class"][0][kind]) for kind in errors["counts"]]
    gains, legend = lines[at + 2 + len(NAMES) :][:2]
    assert gains[24:].split() == [f"{gain:+.3f}" for gain in errors["delta_mAP_0.5"].values()]
    assert "from confidence 0.500 on" in legend
    undefined = format_table(summarise([image_result()], NAMES, VIEWS))
    assert f"AP50 gained if fixed{'-':>28}{'-':>12}" in undefined

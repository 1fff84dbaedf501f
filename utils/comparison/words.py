"""The words of a comparison: better, worse, equivalent within a margin, or not shown.

Beside the last stands what would have been seen. A word stands only for the contrasts that were
fixed before training (`Protocol.counted`), and carries the correction for their number (Holm 1979):
of differences among themselves, and of equivalences among themselves. A contrast that was promised
and not trained counts in that number. All else is exploratory: an interval, and no word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.comparison.protocol import Contrast, Protocol
from utils.comparison.statistics import FOLDS, ONE_TRAINING, SEEDS, TOO_FEW, Found
from utils.core.files import markdown_table
from utils.core.title import DEFAULT_TITLE, titled
from utils.evaluation.intervals import holm

SIGNIFICANCE = 0.05
TESTED = (FOLDS, SEEDS)
EXPLORATORY, NOT_SHOWN, OF_THIS_TRAINING = "exploratory", "not shown", "of this training"

METRIC_NAMES = {
    "mAP50": "mAP50",
    "mAP50-95": "mAP50-95",
    "view_accuracy": "view accuracy",
    "view_balanced_accuracy": "balanced view accuracy",
}
INTERVALS = {  # what a difference rests on -> how its interval is made
    FOLDS: (
        "95 % intervals: t over the folds' differences, each fold the mean of its trainings. "
        "Patients and trainings differ from fold to fold, so both are in them. As folds share "
        "training frames, the wider interval of Nadeau and Bengio (2003) stands beside *better* "
        "and *worse*."
    ),
    SEEDS: (
        "95 % intervals: the variance over {resampled} ({resamples} bootstrap resamples, the same "
        "for all trainings) plus that between trainings, which is pooled over the arms; t with "
        "Satterthwaite's degrees of freedom. They are for this training set: by how much another "
        "would differ is not in them."
    ),
    ONE_TRAINING: (
        "95 % intervals: t x bootstrap standard error over {resampled} ({resamples} resamples, the "
        "same for both arms), of this one training: by how much another would differ is not in "
        "them, so there is no word."
    ),
    TOO_FEW: (
        "There are too few trainings for an interval: the values of all of them stand beside "
        "their mean."
    ),
}
TESTS = (
    "In words: *better* or *worse* where the difference is significant (two-sided), *equivalent* "
    "where two one-sided t tests show it to be within the margin, both at 5 % after Holm's "
    "correction for the number of comparisons that were fixed before training; else *not shown*, "
    "either way, with the difference that would have been seen with 80 % power, were it the only "
    "one."
)
EXPLORED = (
    "Comparisons that were not fixed before training are exploratory and not corrected for their "
    "number: of twenty such intervals without a true difference one is expected to miss zero."
)


@dataclass(frozen=True)
class Statement:
    """What a contrast came to.

    Attributes:
        trainings: the difference of every unit.
        basis: what the interval rests on, or why there is none; see
            `utils.comparison.statistics.Found`.
        low, high: of the 95 % interval; None without one.
        cautious: the interval with Nadeau and Bengio's standard error; of folds.
        is_counted: fixed before training.
        p_value, p_equivalence: corrected for the number of those; None where there is no test.
        margin: within which arms count as equivalent; None where none was set.
        detectable: the difference that would have been seen with 80 % power, were it the only one.
    """

    arm: str
    reference: str
    metric: str
    value: float
    trainings: tuple[float, ...]
    basis: str
    low: float | None
    high: float | None
    cautious: tuple[float, float] | None
    is_counted: bool
    p_value: float | None
    p_equivalence: float | None
    margin: float | None
    detectable: float | None
    word: str


def said(results: Mapping, text: str) -> str:
    """Our words, with what the comparison's data sets call a view; see `titled`."""
    return titled(text, results.get("protocol", {}).get("cls_title", DEFAULT_TITLE))


def state(found: Mapping[Contrast, Found], protocol: Protocol) -> list[Statement]:
    """A statement for every contrast: those that count, in the protocol's order, then others."""
    margins = protocol.margins
    counted = [contrast for contrast in protocol.counted if contrast in found]
    p_values = {}
    p_equivalences = {}
    for contrast in counted:
        own = found[contrast]
        if own.basis not in TESTED:
            continue
        p_values[contrast] = own.estimate.p_value()
        if contrast.metric in margins:
            margin = margins[contrast.metric]
            p_equivalences[contrast] = own.estimate.p_equivalence(margin)
    bounded = [contrast for contrast in protocol.counted if contrast.metric in margins]
    differences = _corrected(p_values, len(protocol.counted))
    equivalences = _corrected(p_equivalences, len(bounded))
    statements = []
    for contrast in dict.fromkeys([*counted, *found]):
        p_value = differences.get(contrast)
        p_equivalence = equivalences.get(contrast)
        own = found[contrast]
        statements.append(_statement(contrast, own, protocol, p_value, p_equivalence))
    return statements


def _corrected(p_values: Mapping[Contrast, float], count: int) -> dict[Contrast, float]:
    """Holm's, of a family of `count` tests; those that were not made have the p value 1."""
    missing = [1.0] * (count - len(p_values))
    return dict(zip(p_values, holm([*p_values.values(), *missing]).tolist(), strict=False))


def _statement(
    contrast: Contrast,
    found: Found,
    protocol: Protocol,
    p_value: float | None,
    p_equivalence: float | None,
) -> Statement:
    low, high = None, None
    if found.estimate:
        low, high = found.estimate.interval()
    cautious = None
    if found.cautious:
        cautious = found.cautious.interval()
    detectable = None
    if p_value is not None:
        detectable = found.estimate.detectable()
    is_counted = contrast in protocol.counted
    margin = None
    if is_counted:
        margin = protocol.margins.get(contrast.metric)
    return Statement(
        arm=contrast.arm,
        reference=contrast.reference,
        metric=contrast.metric,
        value=found.value,
        trainings=found.trainings,
        basis=found.basis,
        low=low,
        high=high,
        cautious=cautious,
        is_counted=is_counted,
        p_value=p_value,
        p_equivalence=p_equivalence,
        margin=margin,
        detectable=detectable,
        word=_word(found, is_counted, p_value, p_equivalence, margin),
    )


def _word(
    found: Found,
    is_counted: bool,
    p_value: float | None,
    p_equivalence: float | None,
    margin: float | None,
) -> str:
    if found.basis == ONE_TRAINING:
        return OF_THIS_TRAINING
    if found.basis not in TESTED:
        return found.basis
    if not is_counted:
        return EXPLORATORY
    is_different = p_value < SIGNIFICANCE
    is_equivalent = p_equivalence is not None and p_equivalence < SIGNIFICANCE
    direction = "worse"
    if found.value > 0:
        direction = "better"
    if is_different and is_equivalent:
        return f"{direction}, but by less than {margin:g}"
    if is_different:
        return direction
    if is_equivalent:
        return f"equivalent within {margin:g}"
    return NOT_SHOWN


def difference_section(results: Mapping) -> str:
    """Of the report: a row for every statement, and how to read it."""
    differences = results["differences"]
    protocol = results["protocol"]
    if not differences:
        return ""
    header = ["pair", "metric", "difference [95 % interval]", "p (Holm)", "equivalent", "in words"]
    table = markdown_table(header, [_difference_row(results, own) for own in differences])
    bases = dict.fromkeys(own["basis"] for own in differences)
    notes = [INTERVALS[basis].format(**protocol) for basis in bases if basis in INTERVALS]
    if any(own["p_value"] is not None for own in differences):
        notes.append(TESTS)
    if any(own["word"] == EXPLORATORY for own in differences):
        notes.append(EXPLORED)
    return "\n\n".join(["## Differences", table, *notes])


def _difference_row(results: Mapping, own: Mapping) -> list[str]:
    if own["low"] is None:
        values = ", ".join(f"{value:+.3f}" for value in own["trainings"])
        span = f"({values})"
    else:
        span = _span(own["low"], own["high"])
    return [
        f"`{own['arm']}` - `{own['reference']}`",
        said(results, METRIC_NAMES.get(own["metric"], own["metric"])),
        f"{own['value']:+.3f} {span}",
        _p_cell(own["p_value"]),
        _equivalence_cell(own),
        _in_words(own),
    ]


def _equivalence_cell(own: Mapping) -> str:
    if own["p_equivalence"] is None:
        return "-"
    answer = "no"
    if own["p_equivalence"] < SIGNIFICANCE:
        answer = "yes"
    return f"within {own['margin']:g}: {answer}"


def _p_cell(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    if p_value < 0.001:
        return "< 0.001"
    return f"{p_value:.3f}"


def _in_words(own: Mapping) -> str:
    if own["word"] == NOT_SHOWN:
        return f"{NOT_SHOWN}; {own['detectable']:.3f} would have been seen"
    if own["word"].startswith(("better", "worse")) and own["cautious"]:
        return f"{own['word']} (Nadeau-Bengio {_span(*own['cautious'])})"
    return own["word"]


def _span(low: float, high: float) -> str:
    return f"[{low:+.3f}, {high:+.3f}]"


def relative_span(gain: Mapping) -> str:
    """The interval of a gain and, where it is of one training only, that; or why there is none."""
    if gain["low"] is None:
        return gain["basis"]
    span = f"[{gain['low']:+.1%}, {gain['high']:+.1%}]"
    if gain["basis"] == ONE_TRAINING:
        return f"{span} ({OF_THIS_TRAINING})"
    return span

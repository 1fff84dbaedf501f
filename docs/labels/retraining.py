"""What corrected labels change: differences over folds, and errors of the view where labels contradict.

python -m docs.labels.retraining as-labelled=runs/labels/as-labelled decided=runs/labels/decided \
    --folds runs/recipe/folds

scores both on the labels as they are, writes docs/results/labels-retraining.csv and prints its
tables. An arm is the runs of a folder, fold*-*. Differences are the second arm's less the first's,
fold by fold, with a 95 % t interval; p values are Holm's for their number.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from docs.recipe.tables import Training, training_row, write_csv
from utils.core.arguments import script_parser
from utils.core.files import ROOT, markdown_table
from utils.core.script import UserError, run_script
from utils.data.labels import UNKNOWN_VIEW
from utils.evaluation.clips import clips_of
from utils.evaluation.intervals import LEAST_UNITS, holm, over_units

TABLE = ROOT / "docs" / "results" / "labels-retraining.csv"
COUNTED = ("mAP50", "view_balanced_accuracy")
SHOWN = ("mAP50", "mAP50-95", "AP30", "view_accuracy", "view_balanced_accuracy")


def view_errors(training: Training) -> dict[str, int]:
    """Frames with a wrong view, and those of them in clips that are labelled with several views."""
    results = training.results()
    wrong = set()
    for number, result in enumerate(results):
        if result.true_view not in (UNKNOWN_VIEW, result.view_probabilities.argmax()):
            wrong.add(number)
    contradictory = set()
    for numbers in clips_of(results, training.data).values():
        if len({results[number].true_view for number in numbers} - {UNKNOWN_VIEW}) > 1:
            contradictory.update(numbers)
    return {"view_errors": len(wrong), "in_contradictory_clips": len(wrong & contradictory)}


def rows_of(arm: str, study: Path, folds: Path) -> list[dict[str, object]]:
    """A row a fold."""
    found = sorted(path.parent for path in study.glob("fold*-*-seed*/predictions.npz"))
    if not found:
        raise UserError(
            f"{study}: no finished training of a fold, such as fold0-decided-seed0; "
            "expected NAME=FOLDER with the folder of a comparison"
        )
    rows = []
    for training in (Training.of(folder, folds) for folder in found):
        figures = training_row(training)
        own = {"fold": figures["fold"], "arm": arm}
        own |= {name: figures[name] for name in SHOWN}
        rows.append(own | view_errors(training))
    return rows


def refuse_other_folds(rows: list[dict[str, object]]) -> None:
    """Raise a `UserError` unless there are two arms, each with one training of each fold."""
    folds: dict[object, list[object]] = {}
    for row in rows:
        folds.setdefault(row["arm"], []).append(row["fold"])
    first, *others = folds.values()
    if len(set(first)) < len(first) or len(first) < LEAST_UNITS or others != [first]:
        found = "; ".join(f"{arm}: {', '.join(map(str, own))}" for arm, own in folds.items())
        raise UserError(
            f"found the folds {found}; expected two arms of different names, "
            f"each with one training of the same {LEAST_UNITS} folds or more, for an interval"
        )


def arms_table(table: pd.DataFrame) -> str:
    """Mean and standard deviation over folds, and the errors of the view."""
    rows = []
    for arm, own in table.groupby("arm", sort=False):
        cells = [f"{own[name].mean():.3f} ± {own[name].std():.3f}" for name in SHOWN]
        errors = int(own["view_errors"].sum())
        share = own["in_contradictory_clips"].sum() / errors
        rows.append([arm, *cells, f"{errors}, {share:.0%}"])
    return markdown_table(["labels", *SHOWN, "view errors, in contradictory clips"], rows)


def differences_table(table: pd.DataFrame) -> str:
    """The second arm less the first."""
    first, second = table["arm"].unique()
    estimates = {}
    for name in COUNTED:
        by_arm = table.pivot(index="fold", columns="arm", values=name)
        estimates[name] = over_units(by_arm[second] - by_arm[first])
    p_values = holm([estimate.p_value() for estimate in estimates.values()])
    rows = []
    for (name, estimate), p_value in zip(estimates.items(), p_values, strict=True):
        low, high = estimate.interval()
        rows.append(
            [name, f"{estimate.value:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{p_value:.2f}"]
        )
    return markdown_table([f"{second} - {first}", "difference", "95 % over folds", "p"], rows)


def main() -> None:
    parser = script_parser(__doc__, prog="python -m docs.labels.retraining")
    parser.add_argument("arms", nargs=2, metavar="NAME=FOLDER", help="comparisons of one arm each")
    parser.add_argument("--folds", type=Path, required=True, help="folder of fold*/data.yaml")
    args = parser.parse_args()
    rows = []
    for given in args.arms:
        arm, _, folder = given.partition("=")
        rows += rows_of(arm, Path(folder), args.folds)
    refuse_other_folds(rows)
    write_csv(TABLE, rows)
    table = pd.read_csv(TABLE)
    print(arms_table(table), differences_table(table), sep="\n\n")


if __name__ == "__main__":
    run_script(main)

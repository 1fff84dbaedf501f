"""A protocol: which options are for which arm, what counts without a file, and what the report
says of it.
"""

import pytest

from utils.comparison.arms import DUAL, Arm, expand, find_arm
from utils.comparison.protocol import (
    COMMON,
    MARGINS,
    METRICS,
    PRIMARY,
    Contrast,
    Protocol,
    built_in_contrasts,
    protocol_section,
)
from utils.comparison.statistics import COMPARED
from utils.core.script import UserError


def test_a_contrast_names_two_arms_and_a_metric():
    contrast = Contrast("gradnorm", "fixed", "mAP50")
    assert Protocol((contrast,), {"mAP50": 0.08}).counted[0].reference == "fixed"
    assert str(contrast) == "gradnorm - fixed in mAP50"


def test_every_metric_has_what_comparing_it_takes():
    assert METRICS == COMPARED and all(PRIMARY[task] in METRICS[task] for task in METRICS)
    assert set(MARGINS) == set(PRIMARY.values())


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (
            ["fixed", "gradnorm"],
            ["gradnorm - fixed in mAP50", "gradnorm - fixed in view_balanced_accuracy"],
        ),
        (["gradnorm", "detection-only"], ["gradnorm - detection-only in mAP50"]),
        (
            ["gradnorm", "classification-only"],
            ["gradnorm - classification-only in view_balanced_accuracy"],
        ),
        (["fixed", "dual", "detection-only"], []),
    ],
)
def test_without_a_file_gradnorm_is_compared_with_fixed_weights_and_with_one_task(
    arms: list, expected: list
):
    assert [str(contrast) for contrast in built_in_contrasts(expand(arms))] == expected


def test_an_arm_is_given_the_options_that_its_script_has():
    protocol = Protocol(
        (), {}, options=COMMON | {"classifier_cfg": "models/view_classifier.yaml", "lr0": 0.002}
    )
    given = {
        name: protocol.common_options(find_arm(name))
        for name in ("fixed", "dual", "detection-only")
    }
    assert {name for name in given if "classifier_cfg" in given[name]} == {"dual"}
    assert {name for name in given if "diagnose_interval" in given[name]} == {"fixed"}
    assert all(
        options["lr0"] == 0.002 and options["epochs"] == COMMON["epochs"]
        for options in given.values()
    )


def test_the_settings_of_an_arm_lie_over_the_common_ones():
    protocol = Protocol((), {}, options=COMMON | {"epochs": 7, "mosaic": 0.5})
    options, hyp = protocol.settings(
        Arm("own", "", options={"epochs": 9, "gradnorm_min_share": 0.001})
    )
    assert (options.epochs, hyp.mosaic, hyp.gradnorm_min_share) == (9, 0.5, 0.001)
    with pytest.raises(UserError, match="epochs is 'nine', expected int"):
        protocol.settings(Arm("own", "", DUAL, {"epochs": "nine"}))


def summary(**changes: object) -> dict:
    found = {
        "counted": ["`gradnorm` - `fixed` in mAP50"],
        "margins": {"mAP50": 0.08},
        "text": None,
        "departures": [],
    }
    return {"fixed_before": found | changes}


def test_the_section_without_a_file_says_so():
    text = protocol_section(summary())
    assert "no protocol file: these are the built-in contrasts" in text
    assert "`gradnorm` - `fixed` in mAP50" in text and "mAP50 0.08" in text
    assert protocol_section({}) == ""


def test_the_section_quotes_the_file_and_lists_where_it_was_left():
    noted = {
        "text": "seeds: [0]  # one\n",
        "source": "p.yaml",
        "time": "2026-01-05",
        "begun": "before any training",
    }
    kept = protocol_section(summary(**noted))
    assert "```yaml\nseeds: [0]  # one\n```" in kept and "It was not left" in kept
    assert "`p.yaml`, as it was at 2026-01-05, before any training" in kept
    left = protocol_section(summary(**noted, departures=["`seeds`: [0] -> [1]"]))
    assert "- `seeds`: [0] -> [1]" in left and "It was not left" not in left

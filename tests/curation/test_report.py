"""The audit's report, where there is little to report."""

import json
from pathlib import Path

from small_audits import VAL, found_in, images_of, look

from utils.curation.audit import to_mapping
from utils.curation.report import markdown, verdict, write_report
from utils.data.splits import label_path


def test_the_report_holds_without_views_patterns_or_boxes(frames: Path, tmp_path: Path):
    for image in (*images_of(frames), *images_of(frames, VAL)):
        label_path(image).write_text("")
    result = look(frames, view_names=(), group_pattern=None, clip_pattern=None)
    assert found_in(result) == {"nothing_to_learn": [set()], "no_example": [set()]}
    assert (result.groups, result.clips, result.neighbour) == (None, None, {})
    json.dumps(to_mapping(result), allow_nan=False)
    assert "verdict: 1 error, 0 leaks" in verdict(
        result
    ) and "Verdict: 1 error, 0 leaks" in markdown(result)
    write_report(result, tmp_path)

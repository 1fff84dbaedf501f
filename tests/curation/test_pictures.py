"""The audit's pictures know the kinds of findings."""

from utils.curation.kinds import KINDS
from utils.curation.pictures import SHEET_KINDS


def test_the_contact_sheet_knows_the_kinds():
    assert set(SHEET_KINDS) < set(KINDS)

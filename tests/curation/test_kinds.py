"""The kinds of findings: what the command's help and the audit share."""

from utils.curation.kinds import KINDS, LEVELS


def test_every_kind_has_a_level_and_every_level_a_kind():
    assert {level for level, _ in KINDS.values()} == set(LEVELS)


def test_no_two_kinds_read_alike():
    meanings = [meaning for _, meaning in KINDS.values()]
    assert len(set(meanings)) == len(meanings)

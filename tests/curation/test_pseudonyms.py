"""Pseudonyms: stable with a key, random without, and made of nothing that leads back."""

import stat
from pathlib import Path

import pytest

from utils.core.script import UserError
from utils.curation.pseudonyms import (
    KEY_COLUMNS,
    ClipName,
    Identity,
    KeyRow,
    give_names,
    read_key,
    write_key,
)

DOE = [Identity("doe", f"uid{number}", f"/doe/{number}") for number in range(3)]
ROE = [Identity("roe", "uid7", "/roe/7")]


def rows(identities: list[Identity], names: list[ClipName]) -> list[KeyRow]:
    return [KeyRow(name, own) for name, own in zip(names, identities, strict=True)]


def test_a_name_holds_patient_clip_and_frame():
    assert ClipName(1, 2).frame(17) == "P0001_C002_F0017"
    assert str(ClipName(12345, 1000)) == "P12345_C1000"


def test_counted_numbers_begin_at_1_and_clips_count_within_their_patient():
    names = give_names(DOE + ROE, [], counts_on=True)
    assert {name.patient for name in names} == {1, 2}
    assert [name.clip for name in names] == [1, 2, 3, 1]
    assert len({name.patient for name in names[:3]}) == 1


def test_a_key_goes_on_counting_and_keeps_every_name():
    first = give_names(DOE[:2], [], counts_on=True)
    again = give_names(ROE + DOE, rows(DOE[:2], first), counts_on=True)
    assert again[1:3] == first
    assert again[0] == ClipName(2, 1) and again[3] == ClipName(1, 3)


def test_a_clip_that_moved_keeps_its_name():
    first = give_names(DOE, [], counts_on=True)
    moved = [Identity(own.patient, own.clip, "/elsewhere") for own in DOE]
    assert give_names(moved, rows(DOE, first), counts_on=True) == first


def test_without_a_key_numbers_are_drawn_at_random():
    drawn = {give_names(ROE, [], counts_on=False)[0].patient for _ in range(20)}
    assert len(drawn) > 10


def test_random_numbers_differ_from_patient_to_patient():
    many = [Identity(f"patient {number}", f"uid{number}", "") for number in range(2000)]
    names = give_names(many, [], counts_on=False)
    assert len({name.patient for name in names}) == len(many)


def test_numbers_do_not_follow_the_order_of_ids():
    many = [Identity(f"{number:03d}", f"uid{number}", "") for number in range(100)]
    numbers = [name.patient for name in give_names(many, [], counts_on=True)]
    assert sorted(numbers) == list(range(1, 101)) and numbers != sorted(numbers)


ODD = Identity('Dö"e,\nJane', "1.2.3", "/data/\udce9 \u2028 x")


def test_a_key_is_read_as_it_was_written(tmp_path: Path):
    written = rows([*DOE, ODD], [ClipName(n, 1) for n in (1, 2, 3, 12345)])
    write_key(tmp_path / "key.csv", written)
    assert read_key(tmp_path / "key.csv") == written


def test_only_its_owner_may_read_a_key(tmp_path: Path):
    write_key(tmp_path / "key.csv", [])
    write_key(tmp_path / "key.csv", rows(ROE, [ClipName(1, 1)]))
    assert stat.S_IMODE((tmp_path / "key.csv").stat().st_mode) == 0o600


def test_a_key_that_is_not_there_yet_has_no_rows(tmp_path: Path):
    assert read_key(tmp_path / "key.csv") == []


HEADER = ",".join(KEY_COLUMNS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line"),
        ("image,frame\n", "first line"),
        (f"{HEADER}\nP0001,a,b,c\n", "row 2"),
        (f"{HEADER}\nP0001_C001,a,b\n", "row 2"),
        (f"{HEADER}\n\n", "row 2"),
        (f"{HEADER}\n{'a' * 200_000}", "no table"),
    ],
)
def test_what_is_no_key_is_refused_and_its_content_is_not_repeated(
    text: str, said: str, tmp_path: Path
):
    (tmp_path / "key.csv").write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        read_key(tmp_path / "key.csv")
    assert "image" not in str(refused.value)

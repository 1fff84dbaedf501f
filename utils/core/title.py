"""What a data set calls the label of a whole image: `cls_title` in its data.yaml.

Our own words say "view". What a user reads of a data set goes through `titled`, so that this is the
only place that knows another word.
"""

from __future__ import annotations

import re
from re import Match

from utils.core.script import UserError
from utils.core.values import not_text

DEFAULT_TITLE = "view"
LONGEST_TITLE = 30
# Columns of the tables that the title becomes a column of
RESERVED = ("image", "frame", "clip", "patient", "class", "confidence", "frames", "groups")
# Not as a part of options, keys and file names
_WORD = re.compile(r"(?<![\w/.-])(?P<first>[Vv])iew(?P<many>s?)(?![\w-]|[/.]\w)")
_HISSING = re.compile(r"(s|x|z|ch|sh)$")
_CONSONANT_Y = re.compile(r"(?<=[b-df-hj-np-tv-z])y$")
_LATIN = re.compile(r"[A-Za-z]$")


def read_title(value: object) -> str:
    """The title in a data.yaml, or the default where there is none.

    Raises:
        UserError: no short text of letters, digits, spaces and hyphens.
    """
    if value is None:
        return DEFAULT_TITLE
    problem = not_text(value)
    if problem:
        raise UserError(f"cls_title {problem}")
    if value.lower() in RESERVED:
        raise UserError(
            f"cls_title is {value!r}, which means something else in tables; choose another"
        )
    is_plain = all(letter.isalnum() or letter in " -" for letter in value)
    if not is_plain or len(value) > LONGEST_TITLE or value != value.strip():
        raise UserError(
            f"cls_title is {value!r}, expected what one label of an image is called, as floor: "
            f"letters, digits, spaces and hyphens, at most {LONGEST_TITLE}"
        )
    return value


def plural(title: str) -> str:
    """Several of them, by the rules of English spelling; a title in another script stays."""
    if not _LATIN.search(title):
        return title
    if _HISSING.search(title):
        return f"{title}es"
    if _CONSONANT_Y.search(title):
        return f"{title[:-1]}ies"
    return f"{title}s"


def titled(text: str, title: str) -> str:
    """Our words, with the title in place of "view", and its plural in place of "views".

    Args:
        text: without names of a user's, which must not change.
    """
    if title == DEFAULT_TITLE:
        return text

    def said(found: Match) -> str:
        word = title
        if found["many"]:
            word = plural(title)
        if found["first"] == "V":
            word = word[0].upper() + word[1:]
        return word

    return _WORD.sub(said, text)

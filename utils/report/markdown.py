"""The Markdown of our own model cards and reports as plain blocks, which a template sets as HTML.

What they do not write (nested lists, pictures, raw HTML) is no part of it and stays text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INLINE = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\*(?P<em>[^*\s][^*]*)\*")
RULE = re.compile(r"\|[\s|:-]+\|")


@dataclass(frozen=True)
class Piece:
    """A run of text; `tag` is code, strong or em, or empty."""

    tag: str
    text: str


@dataclass(frozen=True)
class Block:
    """A heading, paragraph, list, table or fenced code.

    Attributes:
        kind: "heading", "text", "list", "table" or "code".
        level: of a heading, from 1.
        rows: of a table its rows, the head first, each a list of cells; of all else one row an
            item, of one cell. A cell is its `Piece`s.
    """

    kind: str
    rows: list[list[list[Piece]]]
    level: int = 0


def blocks_of(text: str) -> list[Block]:
    """The blocks of a Markdown text, in order."""
    found = []
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        if number % 2:  # between two fences
            found.append(Block("code", [[[Piece("", part.strip("\n"))]]]))
            continue
        for paragraph in re.split(r"\n\s*\n", part):
            if paragraph.strip():
                found += _blocks_of_paragraph(paragraph.strip().splitlines())
    return found


def _blocks_of_paragraph(lines: list[str]) -> list[Block]:
    heading = re.fullmatch(r"(#+) (.*)", lines[0])
    if heading:
        own = Block("heading", [[pieces_of(heading[2])]], len(heading[1]))
        if len(lines) == 1:
            return [own]
        return [own, *_blocks_of_paragraph(lines[1:])]
    if len(lines) > 1 and RULE.fullmatch(lines[1].strip()):
        rows = [lines[0], *lines[2:]]
        return [Block("table", [_cells_of(row) for row in rows])]
    if all(line.startswith("- ") for line in lines):
        return [Block("list", [[pieces_of(line[2:])] for line in lines])]
    return [Block("text", [[pieces_of(" ".join(lines))]])]


def _cells_of(line: str) -> list[list[Piece]]:
    return [pieces_of(cell.strip()) for cell in line.strip().strip("|").split("|")]


def pieces_of(text: str) -> list[Piece]:
    """A line's runs of plain, code, bold and slanted text; of a link only its text."""
    text = re.sub(r"\[([^\]]*)\]\([^)\s]*\)", r"\1", text)
    pieces = []
    end = 0
    for match in INLINE.finditer(text):
        if match.start() > end:
            pieces.append(Piece("", text[end : match.start()]))
        pieces.append(Piece(match.lastgroup or "", match[match.lastgroup or 0]))
        end = match.end()
    if end < len(text):
        pieces.append(Piece("", text[end:]))
    return pieces

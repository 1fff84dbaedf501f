"""The Markdown of our cards and reports as blocks."""

from utils.report.markdown import Piece, blocks_of, pieces_of


def text_of(block) -> list[list[str]]:
    return [["".join(piece.text for piece in cell) for cell in row] for row in block.rows]


def test_a_card_falls_into_its_blocks():
    text = "# A\n\n- one\n- two\n\ntwo\nlines\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\n```yaml\n# x\n\n- y\n```\n"
    heading, points, paragraph, table, code = blocks_of(text)
    assert (heading.kind, heading.level, text_of(heading)) == ("heading", 1, [["A"]])
    assert (points.kind, text_of(points)) == ("list", [["one"], ["two"]])
    assert (paragraph.kind, text_of(paragraph)) == ("text", [["two lines"]])
    assert (table.kind, text_of(table)) == ("table", [["a", "b"], ["1", "2"]])
    assert (code.kind, text_of(code)) == ("code", [["# x\n\n- y"]])


def test_inline_marks_become_pieces_and_links_their_text():
    assert pieces_of("a `b` **c** *d* [e](f.md)") == [
        Piece("", "a "),
        Piece("code", "b"),
        Piece("", " "),
        Piece("strong", "c"),
        Piece("", " "),
        Piece("em", "d"),
        Piece("", " e"),
    ]


def test_nothing_is_lost_of_what_is_no_markdown():
    assert pieces_of("2 * 3 = 6, <b>") == [Piece("", "2 * 3 = 6, <b>")]
    assert blocks_of("") == []

"""One HTML file out of a template, words in two languages, scripts, styles and data.

Nothing in the page can call the network, and no name of a file or class can become markup: the
templates escape, the scripts set text only, and a content security policy allows the page's own
scripts by their hashes and pictures from files, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from utils.core.files import write_text
from utils.core.terminal import one_line

ROOM = Path(__file__).parent
LANGUAGES = ("en", "zh-Hant")


def write_page(
    path: Path,
    template: str,
    scripts: Sequence[str],
    data: Mapping[str, object],
    **content: object,
) -> None:
    """Write a page.

    Args:
        path: the HTML file.
        template: its name in templates/.
        scripts: names in assets/, in the order in which they run.
        data: what the scripts read.
        content: what the template reads.
    """
    write_text(path, rendered(template, scripts, data, **content))


def rendered(
    template: str, scripts: Sequence[str], data: Mapping[str, object], **content: object
) -> str:
    """The page's text; see `write_page`."""
    code = [asset(name) for name in scripts]
    styles = [asset("uPlot.min.css"), asset("page.css")]
    environment = Environment(
        loader=FileSystemLoader(ROOM / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["name"] = one_line
    environment.globals["word"] = word
    return environment.get_template(template).render(
        policy=_policy(code, styles),
        scripts=[Markup(text) for text in code],  # our own files
        styles=[Markup(text) for text in styles],
        words=words(),
        data=data,
        **content,
    )


def asset(name: str) -> str:
    """The text of one of our files, as it stands between two tags."""
    text = (ROOM / "assets" / name).read_text(encoding="utf-8")
    assert "</s" not in text.lower(), f"{name} would end its own tag"
    return text


def words() -> dict[str, list[str]]:
    """Key -> what the page says, in each of `LANGUAGES`."""
    return json.loads((ROOM / "words.json").read_text(encoding="utf-8"))


def word(key: str) -> Markup:
    """A word in the first language, in an element that the page can set in another one."""
    return Markup('<span data-word="{}">{}</span>').format(key, escape(words()[key][0]))


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """The content security policy: these scripts and styles, and pictures from files."""
    parts = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": " ".join(map(_hash, styles)),
        "img-src": "'self' data: file:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

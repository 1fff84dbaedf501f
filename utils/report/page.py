"""One HTML file out of a template, words in two languages, scripts, styles and data.

Nothing in the page can call the network, and no name of a file or class can become markup: the
templates escape, the scripts set text only, and a content security policy allows the page's own
scripts by their hashes and pictures from files, and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from utils.core.files import write_text
from utils.core.terminal import one_line
from utils.core.title import DEFAULT_TITLE, titled

ROOM = Path(__file__).parent
LANGUAGES = ("en", "zh-Hant")
CHINESE_VIEW = "切面"


def write_page(
    path: Path,
    template: str,
    scripts: Sequence[str],
    data: Mapping[str, object],
    cls_title: str = DEFAULT_TITLE,
    **content: object,
) -> None:
    """Write a page.

    Args:
        path: the HTML file.
        template: its name in templates/.
        scripts: names in assets/, in the order in which they run.
        data: what the scripts read.
        cls_title: what the data set calls a view, in every language.
        content: what the template reads.
    """
    write_text(path, rendered(template, scripts, data, cls_title, **content))


def rendered(
    template: str,
    scripts: Sequence[str],
    data: Mapping[str, object],
    cls_title: str = DEFAULT_TITLE,
    **content: object,
) -> str:
    """The page's text; see `write_page`."""
    said = words(cls_title)
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
    environment.globals["word"] = partial(word, said)
    return environment.get_template(template).render(
        policy=_policy(code, styles),
        scripts=[Markup(text) for text in code],  # our own files
        styles=[Markup(text) for text in styles],
        words=said,
        data=data,
        **content,
    )


def packed(content: object) -> str:
    """What a page's `unpacked` reads: JSON, compressed, in letters."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    compressed = gzip.compress(text.encode("ascii"), mtime=0)
    return base64.b64encode(compressed).decode("ascii")


def asset(name: str) -> str:
    """The text of one of our files, as it stands between two tags."""
    text = (ROOM / "assets" / name).read_text(encoding="utf-8")
    assert "</s" not in text.lower(), f"{name} would end its own tag"
    return text


def words(cls_title: str = DEFAULT_TITLE) -> dict[str, list[str]]:
    """Key -> what the page says, in each of `LANGUAGES`.

    Args:
        cls_title: stands in place of "view", untranslated.
    """
    known = json.loads((ROOM / "words.json").read_text(encoding="utf-8"))
    found = {}
    for key, (english, chinese) in known.items():
        found[key] = [titled(english, cls_title), _titled_in_chinese(chinese, cls_title)]
    return found


def _titled_in_chinese(text: str, cls_title: str) -> str:
    """The title apart from the letters around it, unless it is Chinese itself."""
    if cls_title == DEFAULT_TITLE:
        return text
    if not cls_title.isascii():
        return text.replace(CHINESE_VIEW, cls_title)
    spaced = re.sub(rf"(?<=\w){CHINESE_VIEW}", f" {CHINESE_VIEW}", text)
    spaced = re.sub(rf"{CHINESE_VIEW}(?=\w)", f"{CHINESE_VIEW} ", spaced)
    return spaced.replace(CHINESE_VIEW, cls_title)


def word(said: Mapping[str, Sequence[str]], key: str) -> Markup:
    """A word in the first language, in an element that the page can set in another one.

    Args:
        said: of `words`.
    """
    return Markup('<span data-word="{}">{}</span>').format(key, escape(said[key][0]))


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

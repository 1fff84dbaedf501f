"""What a page may do, and that its words are all there, in both languages."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from made_up_pages import unpacked, write_run

from utils.core.title import plural
from utils.report.page import LANGUAGES, ROOM, asset, packed, word, words
from utils.report.run_page import write_report

SOURCES = [*(ROOM / "templates").glob("*.j2"), *(ROOM / "assets").glob("*.js"), *ROOM.glob("*.py")]


@pytest.fixture(scope="module")
def text(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_run(tmp_path_factory.mktemp("run") / "exp", tiny_data)
    return write_report([run]).read_text(encoding="utf-8")


def test_every_word_is_there_in_both_languages():
    for key, texts in words().items():
        assert len(texts) == len(LANGUAGES) and all(texts), key
        places = [set(re.findall(r"\{\w+\}", own)) for own in texts]
        assert places[0] == places[1], key


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_words_that_are_asked_for_exist(path: Path):
    source = path.read_text(encoding="utf-8")
    asked = re.findall(r"""\bword\(["'](\w+)["']""", source)
    assert set(asked) <= words().keys()


def test_the_policy_allows_exactly_our_scripts_and_no_network(text: str):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    policy = policy.replace("&#39;", "'")
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
    for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_what_is_packed_comes_back_and_is_the_same_every_time():
    content = {"a": [1, -1, None, 0.5], "<b>": "影格 \u202e"}
    assert unpacked(packed(content)) == content and packed(content) == packed(content)
    assert len(packed([7] * 10_000)) < 200


def test_nothing_in_the_page_leads_elsewhere(text: str):
    without_library = text.replace(asset("uPlot.iife.min.js"), "")
    addresses = set(re.findall(r"https?://[^\s\"'<]+", without_library))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|iframe|object|embed)\b|@import|url\(", without_library)


def test_scripts_set_text_only():
    for path in (ROOM / "assets").glob("[a-z]*.js"):
        if not path.name.startswith("uPlot"):
            source = path.read_text(encoding="utf-8")
            forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\("
            assert not re.search(forbidden, source), path.name


def test_the_library_has_its_licence_beside_it():
    assert "MIT License" in (ROOM / "assets/uPlot.LICENSE").read_text(encoding="utf-8")
    size = (ROOM / "assets/uPlot.iife.min.js").stat().st_size
    assert size < 60_000


def test_a_word_is_escaped():
    said = {"a": ["<b>", "乙"]}
    assert word(said, "a") == '<span data-word="a">&lt;b&gt;</span>'


@pytest.mark.parametrize(
    ("title", "english", "chinese"),
    [
        ("view", "view accuracy", "切面準確率"),
        ("projection", "projection accuracy", "projection 準確率"),
        ("體位", "體位 accuracy", "體位準確率"),
    ],
)
def test_a_data_sets_own_word_for_a_view_stands_in_its_place(
    title: str, english: str, chinese: str
):
    said = words(title)
    assert said["accuracy"] == [english, chinese]
    assert said["confusion_views"][0].split(":")[0].lower() == plural(title)
    for key, texts in said.items():
        has_view = [re.search(r"\bviews?\b", texts[0], re.IGNORECASE), "切面" in texts[1]]
        assert title == "view" or not any(has_view), key
    changed = [own == said[key] for key, own in words().items()]
    assert (title == "view") == all(changed)

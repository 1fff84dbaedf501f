"""docs/reference/options.md is what the code makes of it, and every option explains itself."""

import importlib

import pytest

from docs import options_page
from utils.core.files import ROOT


def test_the_page_is_up_to_date():
    assert options_page.PAGE.read_text(encoding="utf-8") == options_page.page(), (
        "run: python -m docs.options_page"
    )


def test_every_script_is_on_the_page():
    scripts = {
        path.stem for path in ROOT.glob("*.py") if "run_script(main)" in path.read_text("utf-8")
    }
    assert set(options_page.SCRIPTS) == scripts


@pytest.mark.parametrize("script", options_page.SCRIPTS)
def test_every_option_has_a_meaning_and_tells_its_default(script: str):
    for action in importlib.import_module(script).build_parser()._actions:
        assert action.help and not action.help.startswith("("), action.option_strings
        if action.default not in (None, False, "==SUPPRESS=="):
            assert "(default: " in action.help, action.option_strings

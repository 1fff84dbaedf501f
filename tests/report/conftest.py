"""A real browser, where there is one; pages that the tests look at."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_pages import write_run

from utils.report.run_page import write_report

HINT = "needs a browser: apt-get install chromium; pip install playwright"


class Opened:
    """A page in the browser; everything that it said or asked for is noted.

    Attributes:
        page: Playwright's.
        said: errors and messages on the console.
        asked: addresses of all requests.
    """

    def __init__(self, context, path: Path, cpu: bool):
        self.page = context.new_page()
        if cpu:
            self.meter = context.new_cdp_session(self.page)
            self.meter.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_default_timeout(60_000)  # a busy machine
        self.page.goto(path.resolve().as_uri())
        # What it unpacks is there once it has chosen a language
        self.page.locator("[data-language][aria-pressed='true']").wait_for()
        self.page.evaluate("document.getElementById('gallery')?.scrollIntoView()")

    def count(self) -> int:
        """How many frames the filters let through."""
        return int(self.page.inner_text("#count").split()[0])

    def until(self, script: str) -> None:
        """Wait for JavaScript to become true; Playwright's own way is against the page's policy."""
        for _ in range(600):
            if self.page.evaluate(script):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(script)

    def cpu_s(self) -> float:
        """What the page's main thread has worked, seconds."""
        found = self.meter.send("Performance.getMetrics")["metrics"]
        return {own["name"]: own["value"] for own in found}["TaskDuration"]

    def leaving(self) -> list[str]:
        """Requests for anything but a file or data in the page."""
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Debian's chromium, by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason=HINT)
    path = shutil.which("chromium")
    if path is None:
        pytest.skip(HINT)
    with playwright.sync_playwright() as driver:
        # Root, as in a container, may not use the sandbox
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def look(browser) -> Iterator:
    """Open a page: a path, and perhaps the window's width."""
    contexts = []

    def open_page(
        path: Path, width: int = 1280, locale: str = "en-US", cpu: bool = False
    ) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=locale, accept_downloads=True
        )
        contexts.append(context)
        return Opened(context, path, cpu)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def run_folder(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "exp", tiny_data)


@pytest.fixture(scope="module")
def report_page(run_folder: Path) -> Path:
    return write_report([run_folder])

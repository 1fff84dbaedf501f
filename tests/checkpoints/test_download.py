"""Fetching a public checkpoint: only when asked, only over https, and only what it should be.

No network is needed.
"""

import hashlib
import http.server
import io
import logging
import re
import threading
import urllib.error
import urllib.request
import urllib.response
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from small_runs import new_job

from utils.checkpoints import download
from utils.checkpoints.download import PUBLIC, SHA256, fetch, https_opener, weights_file
from utils.core.script import UserError

CONTENT = bytes(range(256)) * 3000  # several chunks


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /whole, /short (which ends early) and /none (404) with what the name says."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.send_response(404 if kind == "none" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 1000 if kind == "short" else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    """The address of a server on this machine, which speaks http.

    The opener is made to know that too.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            download,
            "https_opener",
            lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})),
        )
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def release(server, monkeypatch) -> None:
    monkeypatch.setattr(download, "RELEASE", f"{server}/whole")


def test_what_is_expected_is_kept(release, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(SHA256, "yolov5s.pt", hashlib.sha256(CONTENT).hexdigest())
    path = tmp_path / "yolov5s.pt"
    with caplog.at_level(logging.INFO):
        assert weights_file(str(path), download=True) == path
    assert path.read_bytes() == CONTENT and list(tmp_path.iterdir()) == [path]
    assert "expected SHA-256" in caplog.text and "warning" not in caplog.text


def test_what_is_not_expected_leaves_nothing_behind(release, tmp_path):
    with pytest.raises(
        UserError, match=r"yolov5s\.pt: SHA-256 [0-9a-f]{64}, expected 8b3b748c.*thrown away"
    ):
        weights_file(str(tmp_path / "yolov5s.pt"), download=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_checked_is_kept_and_said(release, tmp_path, monkeypatch, caplog):
    monkeypatch.delitem(SHA256, "yolov5x.pt", raising=False)
    fetch(tmp_path / "yolov5x.pt")
    assert (tmp_path / "yolov5x.pt").read_bytes() == CONTENT
    assert f"SHA-256 {hashlib.sha256(CONTENT).hexdigest()}; it could not be checked" in caplog.text


@pytest.mark.parametrize(
    ("kind", "said"), [("short", "ended after 1000 of 768000 bytes"), ("none", "Not Found")]
)
def test_an_answer_that_is_not_the_file(server, tmp_path, monkeypatch, kind, said):
    monkeypatch.setattr(download, "RELEASE", f"{server}/{kind}")
    with pytest.raises(UserError, match=f"yolov5s.pt: cannot be fetched: {said}"):
        fetch(tmp_path / "yolov5s.pt")
    assert not list(tmp_path.iterdir())


def test_no_network_is_one_line(tmp_path, monkeypatch):
    class Nowhere:
        def open(self, url, timeout):
            raise urllib.error.URLError(OSError("Name or service not known"))

    monkeypatch.setattr(download, "https_opener", Nowhere)
    with pytest.raises(
        UserError, match=r"^https://github.*cannot be fetched: Name or service not known.*yourself$"
    ):
        fetch(tmp_path / "yolov5s.pt")


def test_a_full_disk_is_not_blamed_on_the_network(release, tmp_path, monkeypatch):
    def full(self, mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        fetch(tmp_path / "yolov5s.pt")


def test_only_https_is_spoken_even_where_an_answer_leads_elsewhere(monkeypatch):
    with pytest.raises(urllib.error.URLError, match="unknown url type: http"):
        https_opener().open("http://127.0.0.1:9/yolov5s.pt")
    asked = []

    def answer(self, request):
        asked.append(request.full_url)
        headers = Message()
        headers["Location"] = {1: "https://elsewhere.example/a", 2: "http://elsewhere.example/b"}[
            len(asked)
        ]
        response = urllib.response.addinfourl(io.BytesIO(), headers, request.full_url, 302)
        response.msg = "Found"
        return response

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", answer)
    with pytest.raises(urllib.error.URLError, match="unknown url type: http"):
        https_opener().open("https://start.example/yolov5s.pt")
    assert asked == ["https://start.example/yolov5s.pt", "https://elsewhere.example/a"]


def test_nothing_is_fetched_unless_asked_for_or_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda path: pytest.fail(f"fetches {path}"))
    for name in PUBLIC:
        with pytest.raises(
            UserError,
            match=f"{name}: no such checkpoint; add --download, or fetch https://.*{name}",
        ):
            weights_file(str(tmp_path / name), download=False)
    with pytest.raises(
        UserError, match=r"best\.pt: no such checkpoint, and --download fetches only yolov5n\.pt, "
    ):
        weights_file(str(tmp_path / "best.pt"), download=True)
    (tmp_path / "yolov5s.pt").write_bytes(b"mine")
    assert weights_file(str(tmp_path / "yolov5s.pt"), download=True).read_bytes() == b"mine"


def test_a_training_fetches_what_it_starts_from(shared_dir, tiny_data, tmp_path, monkeypatch):
    official = (shared_dir / "reference" / "yolov5s_official_format.pt").read_bytes()
    monkeypatch.setattr(download, "fetch", lambda path: path.write_bytes(official))
    weights = tmp_path / "yolov5s.pt"
    options = {
        "data": str(tiny_data),
        "imgsz": 64,
        "device": "cpu",
        "amp": "off",
        "project": str(tmp_path / "runs"),
    }
    with pytest.raises(UserError, match="add --download"):
        new_job(options | {"weights": str(weights)})
    new_job(options | {"weights": str(weights), "download": True})
    assert weights.read_bytes() == official
    with pytest.raises(UserError, match="--download: nothing to fetch"):
        new_job(options | {"download": True})


def test_the_address_and_the_hashes_are_well_formed():
    assert download.RELEASE.startswith("https://github.com/ultralytics/yolov5/releases/")
    assert SHA256.keys() <= set(PUBLIC)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in SHA256.values())

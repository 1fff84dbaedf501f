"""Fetches a public YOLOv5 checkpoint, when the user asks for it.

Nothing else in this project uses the network.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from utils.core.files import write_atomically
from utils.core.options import SIZES
from utils.core.script import LOGGER, UserError

RELEASE = "https://github.com/ultralytics/yolov5/releases/download/v7.0"
PUBLIC = tuple(f"yolov5{size}.pt" for size in SIZES)
# As several projects that fetched these files independently state them; where their statements
# differ, or only one was found (l and x), there is none.
SHA256 = {
    "yolov5n.pt": "4f180cf23ba0717ada0badd6c685026d73d48f184d00fc159c2641284b2ac0a3",
    "yolov5s.pt": "8b3b748c1e592ddd8868022e8732fde20025197328490623cc16c6f24d0782ee",
    "yolov5m.pt": "61d933360ba5a7733a36764996c800287d973889d875227f5beedd2473a97a56",
}
CHUNK_BYTES = 2**18
TIMEOUT_S = 30.0  # without a sign of life


def weights_file(weights: str, download: bool) -> Path:
    """The path of `--weights`; a public checkpoint that is missing is fetched if `download` is set.

    Raises:
        UserError: it is missing and is not to be, or cannot be, fetched.
    """
    path = Path(weights)
    if path.exists() or (path.name not in PUBLIC and not download):
        return path  # whoever reads it reports what is wrong with it
    if path.name not in PUBLIC:
        raise UserError(
            f"{path}: no such checkpoint, and --download fetches only {', '.join(PUBLIC)}; "
            "fix --weights"
        )
    if not download:
        raise UserError(
            f"{path}: no such checkpoint; add --download, or fetch {RELEASE}/{path.name} yourself"
        )
    fetch(path)
    return path


def fetch(path: Path) -> None:
    """Fetch the public checkpoint of the path's name, and check it before it gets that name.

    Raises:
        UserError: no network, an incomplete answer, or other bytes than expected.
        OSError: it cannot be written.
    """
    LOGGER.info(f"fetching {RELEASE}/{path.name}")
    write_atomically(path, lambda temporary: _receive(temporary, path.name))


def _receive(temporary: Path, name: str) -> None:
    digest = hashlib.sha256()
    expected = SHA256.get(name)
    with temporary.open("wb") as stream:
        for chunk in _chunks(f"{RELEASE}/{name}"):
            digest.update(chunk)
            stream.write(chunk)
    found = digest.hexdigest()
    if expected is None:
        LOGGER.warning(
            f"warning: {name} has SHA-256 {found}; it could not be checked, as none is known here"
        )
    elif found != expected:
        raise UserError(
            f"{RELEASE}/{name}: SHA-256 {found}, expected {expected}; it was thrown away"
        )
    else:
        LOGGER.info(f"{name} has the expected SHA-256 {found}")


def _chunks(url: str) -> Iterator[bytes]:
    """The bytes at `url`, with a progress bar."""
    try:
        with https_opener().open(url, timeout=TIMEOUT_S) as response:
            total = int(response.headers.get("Content-Length", 0))
            with tqdm(total=total or None, unit="B", unit_scale=True, unit_divisor=1024) as bar:
                while chunk := response.read(CHUNK_BYTES):
                    bar.update(len(chunk))
                    yield chunk
                if bar.n < total:  # `read` ends quietly where the connection does
                    raise http.client.HTTPException(f"ended after {bar.n} of {total} bytes")
    # Errors of the network: files are written elsewhere.
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url}: cannot be fetched: {reason}; try again, or put the file there yourself"
        ) from None


def https_opener() -> urllib.request.OpenerDirector:
    """Follows redirections as usual, but never to anything that is not https."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener

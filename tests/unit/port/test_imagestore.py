# SPDX-License-Identifier: GPL-3.0-or-later
"""Blobs from an HTTP server that may lie."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.port.imagestore import stream_blob

CONTENT = bytes(range(256)) * 5000
GOOD, WRONG, SHORT, MISSING = (hashlib.sha256(name).digest() for name in (CONTENT, b"wrong", b"short", b"missing"))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if not self.path.startswith("/store/sha256/") or name == MISSING.hex():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) * (2 if name == SHORT.hex() else 1)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/store/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_blob_comes_in_chunks_and_whole(url: str) -> None:
    seen: list[tuple[int, int]] = []
    chunks = list(stream_blob(url, GOOD, limit_bytes=len(CONTENT), progress=lambda *at: seen.append(at)))
    assert len(chunks) == 2
    assert b"".join(chunks) == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("digest", "limit_bytes", "code"),
    [
        (WRONG, len(CONTENT), "store.digest"),
        (SHORT, 3 * len(CONTENT), "store.unreachable"),
        (MISSING, len(CONTENT), "store.missing"),
        (GOOD, len(CONTENT) - 1, "store.too-large"),
    ],
)
def test_a_lying_store_is_refused(url: str, digest: bytes, limit_bytes: int, code: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        list(stream_blob(url, digest, limit_bytes=limit_bytes))
    assert caught.value.code == code


def test_of_a_wrong_blob_the_end_is_kept_back(url: str) -> None:
    chunks: list[bytes] = []
    with pytest.raises(UnreachableError):
        chunks.extend(stream_blob(url, WRONG, limit_bytes=len(CONTENT)))
    assert len(b"".join(chunks)) < len(CONTENT)


def test_no_server() -> None:
    with pytest.raises(UnreachableError) as caught:
        list(stream_blob("http://127.0.0.1:9", GOOD, limit_bytes=1))
    assert caught.value.code == "store.unreachable"


@pytest.mark.parametrize("base", ["file:///etc", "ftp://host", ""])
def test_other_protocols_are_our_mistake(base: str) -> None:
    with pytest.raises(UsageError):
        list(stream_blob(base, GOOD, limit_bytes=1))

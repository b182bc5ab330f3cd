# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's image store: plain HTTP on loopback over one folder of files named by their digest.

Whoever fetches checks the digest, so the store needs no secrecy and no trust: it gives out regular files, lists
nothing, follows no link out of its folder, and takes nothing in.

This file is also run on its own (``python3 -I httpstore.py FOLDER PORT``), hence it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import sys
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

LOOPBACK = "127.0.0.1"
IDLE_TIMEOUT_S = 60.0
"""A connection that neither asks nor reads for so long is closed."""


def resolve(folder: Path, target: str) -> Path | None:
    """Return the file that a request target means, or None.

    Args:
        folder: The store, already resolved.
        target: As in the request line; written by whoever connects.
    """
    try:
        path = (folder / unquote(urlsplit(target).path).lstrip("/")).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):
        # A NUL in the name, a loop of links (RuntimeError before Python 3.13), an IPv6 bracket that never closes.
        return None
    return None


class StoreHandler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    server_version = "vouch-store"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    server: StoreServer

    def do_GET(self) -> None:
        """Send the file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send its size."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write one line to standard error, control characters replaced."""
        line = f"{self.address_string()} {format % args}"
        sys.stderr.write("".join(c if c.isprintable() else "?" for c in line) + "\n")

    def _answer(self, *, with_body: bool) -> None:
        path = resolve(self.server.folder, self.path)
        stream: BinaryIO | None = None
        if path is not None:
            with contextlib.suppress(OSError):
                stream = path.open("rb")
        if stream is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no such file")
            return
        with stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if with_body:
                self.wfile.flush()
                self.connection.sendfile(stream, count=size or None)


class StoreServer(http.server.ThreadingHTTPServer):
    """Serves ``folder`` on ``port`` of the loopback address; port 0 takes a free one."""

    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder.resolve()
        super().__init__((LOOPBACK, port), StoreHandler)


def main(arguments: list[str]) -> int:
    """Serve until killed; return the exit code."""
    folder, port = arguments
    with StoreServer(Path(folder), int(port)) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

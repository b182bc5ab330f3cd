# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image store needs of HTTP/1.1: one GET, a range, a length.

The standard library's client costs dom0 half a second of imports. Server and network are an attacker's: every line,
length and wait is bounded, and what came is judged by its digest, not here.

Source: RFC 9110, 14 (ranges), 15.3.7; RFC 9112, 6.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable

from ..errors import UnreachableError, UsageError, shown

CHUNK_BYTES = 256 * 1024
MAX_HEADER_BYTES = 16 * 1024

SILENCE_LIMIT_S = 30.0
"""Longest wait for the server's next byte."""

MIN_RATE_BYTES_S = 16 * 1024
"""A slower server is given up: it would keep the order for ever."""

GRACE_S = 60.0

_URL = re.compile(r"http://([A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?((?:/[A-Za-z0-9._~/+-]*)?)\Z")


def get(
    url: str, fd: int, begin: int, size_bytes: int, limit_bytes: int | None, monotonic_s: Callable[[], float]
) -> int:
    """Append to an open file what the server has from byte ``begin`` on; return how many bytes came.

    Args:
        url: What to ask for.
        fd: The file; cut to nothing when the server begins anew.
        begin: Its length.
        size_bytes: How long it has to be in the end; -1 when unknown.
        limit_bytes: How long it may be.
        monotonic_s: Seconds that never go backwards.

    Raises:
        UnreachableError: ``store.unreachable``, which is worth another attempt; ``store.missing``, ``store.size``,
            ``store.slow``.
    """
    match = _URL.match(url)
    if match is None:
        raise UsageError(f"not an image store: {shown(url)}", code="store.url")
    host, port, path = match[1], int(match[2] or 80), match[3] or "/"
    try:
        with socket.create_connection((host, port), timeout=SILENCE_LIMIT_S) as connection:
            ranged = f"Range: bytes={begin}-\r\n" if begin else ""
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
                f"Accept-Encoding: identity\r\n{ranged}\r\n".encode("ascii")
            )
            status, length, first, body = _answer(connection, url, monotonic_s)
            if status == 416 and begin:
                # Another file than the one that was begun: from the start next time.
                os.ftruncate(fd, 0)
                raise _unreachable(url, "has no such range")
            if status in (404, 410):
                raise UnreachableError(f"the image store has no {url}", code="store.missing")
            if status not in (200, 206):
                raise _unreachable(url, f"answers with {status}")
            if status == 200 or first != begin:
                os.ftruncate(fd, 0)
                begin = 0
                if first:
                    raise _unreachable(url, "answers with another range")
            total = begin + length
            if (size_bytes >= 0 and total != size_bytes) or (limit_bytes is not None and total > limit_bytes):
                raise UnreachableError(
                    f"{url} has {total} bytes, expected {size_bytes if size_bytes >= 0 else f'at most {limit_bytes}'}",
                    code="store.size",
                )
            return _body(connection, body, length, fd, url, monotonic_s)
    except TimeoutError:
        raise _unreachable(url, f"is silent for {SILENCE_LIMIT_S:g} s") from None
    except OSError as error:
        if error.errno in _STORAGE_ERRORS:
            raise
        raise _unreachable(url, error.strerror or str(error)) from None


_STORAGE_ERRORS = frozenset({5, 27, 28, 30, 122})
"""EIO, EFBIG, ENOSPC, EROFS, EDQUOT: of our file, not of the network."""


def _answer(connection: socket.socket, url: str, monotonic_s: Callable[[], float]) -> tuple[int, int, int, bytes]:
    """Return status, length of the body, where it begins in the file, and what was read of it already."""
    deadline_s = monotonic_s() + GRACE_S
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(CHUNK_BYTES)
        if not more or len(data) > MAX_HEADER_BYTES or monotonic_s() > deadline_s:
            raise _unreachable(url, "gives no HTTP answer")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    if len(head) > MAX_HEADER_BYTES:
        raise _unreachable(url, "gives no HTTP answer")
    lines = head.decode("latin-1").split("\r\n")
    match = re.match(r"HTTP/1\.[01] ([0-9]{3})(?: |\Z)", lines[0])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = headers.get("content-length", "")
    if match is None or "transfer-encoding" in headers or not re.fullmatch(r"[0-9]{1,15}", length):
        raise _unreachable(url, "gives no length")
    found = re.match(r"bytes ([0-9]{1,15})-", headers.get("content-range", ""))
    return int(match[1]), int(length), int(found[1]) if found and match[1] == "206" else 0, body


def _body(
    connection: socket.socket, body: bytes, length: int, fd: int, url: str, monotonic_s: Callable[[], float]
) -> int:
    deadline_s = monotonic_s() + GRACE_S + length / MIN_RATE_BYTES_S
    got = 0
    while True:
        body = body[: length - got]
        view = memoryview(body)
        while view:
            view = view[os.write(fd, view) :]
        got += len(body)
        if got == length:
            return got
        if monotonic_s() > deadline_s:
            raise UnreachableError(f"{url} comes slower than {MIN_RATE_BYTES_S >> 10} KiB/s", code="store.slow")
        body = connection.recv(CHUNK_BYTES)
        if not body:
            raise _unreachable(url, f"ended after {got} of {length} bytes")


def _unreachable(url: str, problem: str) -> UnreachableError:
    return UnreachableError(f"the image store: {url} {shown(problem)}", code="store.unreachable")

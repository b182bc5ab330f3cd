# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of the ``vouch`` subsystem: cutting a byte stream into messages.

    offset  size  field
    0       4     length of the body, big-endian, 1 .. the reader's limit
    4       n     body: one canonical JSON document

Source: docs/proof.md, "The subsystem".
"""

from __future__ import annotations

from ..errors import ParseError, UsageError

HEADER_BYTES = 4

MAX_REQUEST_BYTES = 64 * 1024
"""Body of a request; a longer one costs its sender the connection."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Body of an answer."""

MAX_FETCHED_BYTES = 8 * 1024 * 1024
"""What one ``guest.fetch`` brings of a guest; in base64 it fits an answer."""


def encode_frame(body: bytes, *, limit_bytes: int) -> bytes:
    """Return ``body`` with its length in front.

    Raises:
        UsageError: when the body is empty or longer than ``limit_bytes``.
    """
    if not 0 < len(body) <= limit_bytes:
        raise UsageError(f"a frame carries 1 to {limit_bytes} bytes, not {len(body)}", code="frame.length")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Collects bytes as they arrive and hands out whole bodies; holds at most one frame plus one ``feed``.

    Args:
        limit_bytes: Longest body accepted. The length is judged as soon as its four bytes are there, so nobody can
            make us wait for, or store, more than that.

    Trust: the bytes are an attacker's.
    """

    __slots__ = ("_buffer", "_consumed", "_limit_bytes")

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._consumed = 0

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add bytes of the stream."""
        self._buffer += data

    def next_body(self) -> bytes | None:
        """Return the next whole body, or None when more bytes are needed.

        Raises:
            ParseError: code ``frame.length`` for a length of zero or beyond the limit. The stream cannot be
                understood after that.
        """
        if len(self._buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if not 0 < length <= self._limit_bytes:
            raise ParseError(
                "frame.length",
                self._consumed,
                f"{length} bytes, allowed are 1 to {self._limit_bytes}",
                code="frame.length",
            )
        end = HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            body = bytes(view[HEADER_BYTES:end])
        del self._buffer[:end]
        self._consumed += end
        return body

# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds-checked reading of untrusted bytes: the only door from bytes to numbers.

Every parser of this package reads through a ``Cursor``, so no length from the wire is believed before it was
held against the bytes that are there.
"""

from __future__ import annotations

import struct

from ..errors import ParseError, UsageError


class Cursor:
    """A forward reader over one byte string.

    Args:
        data: The whole input.
        limit_bytes: Refuse a longer input at once (a named constant of the calling parser).
        what: Name of the format, used in error messages.
        base: Offset of ``data`` in the outermost input, so errors name the real place.

    Raises:
        ParseError: when ``data`` is longer than ``limit_bytes``.

    Trust: ``data`` is written by an attacker; nothing is proven by reading it.
    """

    __slots__ = ("_base", "_data", "_pos", "_what")

    def __init__(self, data: bytes, *, limit_bytes: int, what: str, base: int = 0) -> None:
        if limit_bytes < 0:
            raise UsageError(f"{what}: negative size limit")
        if len(data) > limit_bytes:
            raise ParseError(
                what, base, f"{len(data)} bytes, more than the {limit_bytes} allowed", code="parse.too-large"
            )
        self._data = data
        self._pos = 0
        self._what = what
        self._base = base

    @property
    def offset(self) -> int:
        """Bytes consumed so far, counted from the outermost input."""
        return self._base + self._pos

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._pos

    def take(self, count: int, field: str) -> bytes:
        """Consume exactly ``count`` bytes.

        Raises:
            ParseError: when fewer are left, or ``count`` is negative.
        """
        if count < 0 or count > self.remaining:
            raise ParseError(
                f"{self._what}.{field}",
                self.offset,
                f"needs {count} bytes, {self.remaining} left",
                code="parse.truncated",
            )
        start = self._pos
        self._pos += count
        return self._data[start : self._pos]

    def peek(self, count: int) -> bytes:
        """Return up to ``count`` bytes without consuming them."""
        return self._data[self._pos : self._pos + max(count, 0)]

    def uint(self, size: int, field: str, *, byteorder: str = "little") -> int:
        """Consume an unsigned integer of ``size`` bytes (1, 2, 4 or 8)."""
        raw = self.take(size, field)
        if byteorder == "little":
            return int.from_bytes(raw, "little")
        return int.from_bytes(raw, "big")

    def u8(self, field: str) -> int:
        """Consume one byte."""
        return self.take(1, field)[0]

    def u16le(self, field: str) -> int:
        """Consume a little-endian 16-bit integer."""
        return int(struct.unpack("<H", self.take(2, field))[0])

    def u32le(self, field: str) -> int:
        """Consume a little-endian 32-bit integer."""
        return int(struct.unpack("<I", self.take(4, field))[0])

    def u64le(self, field: str) -> int:
        """Consume a little-endian 64-bit integer."""
        return int(struct.unpack("<Q", self.take(8, field))[0])

    def u16be(self, field: str) -> int:
        """Consume a big-endian 16-bit integer."""
        return int(struct.unpack(">H", self.take(2, field))[0])

    def u32be(self, field: str) -> int:
        """Consume a big-endian 32-bit integer."""
        return int(struct.unpack(">I", self.take(4, field))[0])

    def u64be(self, field: str) -> int:
        """Consume a big-endian 64-bit integer."""
        return int(struct.unpack(">Q", self.take(8, field))[0])

    def expect(self, literal: bytes, field: str) -> None:
        """Consume ``literal``.

        Raises:
            ParseError: when other bytes stand there.
        """
        at = self.offset
        found = self.take(len(literal), field)
        if found != literal:
            raise ParseError(f"{self._what}.{field}", at, f"expected {literal.hex()}, found {found.hex()}")

    def sub(self, count: int, field: str) -> Cursor:
        """Consume ``count`` bytes and return a cursor over just them."""
        at = self.offset
        raw = self.take(count, field)
        return Cursor(raw, limit_bytes=count, what=f"{self._what}.{field}", base=at)

    def fail(self, field: str, problem: str, *, code: str | None = None) -> ParseError:
        """Return (not raise) a ``ParseError`` that names ``field`` at the current offset."""
        return ParseError(f"{self._what}.{field}", self.offset, problem, code=code)

    def done(self) -> None:
        """Return when the whole input was consumed.

        Raises:
            ParseError: when bytes are left over.
        """
        if self.remaining:
            raise ParseError(self._what, self.offset, f"{self.remaining} bytes after the end", code="parse.trailing")

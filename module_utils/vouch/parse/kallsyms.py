# SPDX-License-Identifier: GPL-3.0-or-later
"""The symbols of a kernel from its own table for stack traces (kallsyms): no System.map, no debug package.

The table stands somewhere in ``.rodata``, without a symbol of its own: it is found by the part of its token table that
every kernel has, the ten digits, and proven by the markers that must agree with the names. Two layouts exist: up to
Linux 6.3 the addresses stand before the names, from 6.4 on behind the token index.

Source: Linux 6.12, scripts/kallsyms.c (write_src); kernel/kallsyms.c (kallsyms_expand_symbol, kallsyms_sym_address).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..errors import ParseError

MIN_SYMBOLS, MAX_SYMBOLS = 20_000, 1_000_000
MAX_NAMES_BYTES = 16 << 20
MAX_TABLES = 4096
"""Places that look like the ten digits; a kernel has a handful."""

_TOKENS = 256
_MARK_EVERY = 256
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_KERNEL_HALF = 0xFFFFFF


class Symbol(NamedTuple):
    """Address and kind (``T`` text, ``D`` data and so on; small letters for local ones) of one symbol."""

    address: int
    kind: str


def parse_kallsyms(rodata: bytes) -> Mapping[str, tuple[Symbol, ...]]:
    """Return the symbols by name; several where files share the name of a local one.

    Args:
        rodata: Content of ``.rodata``.

    Raises:
        ParseError: there is no such table, or none whose parts agree.
    """
    tokens, tokens_at, index_end = _token_table(rodata)
    count_at, names = _names(rodata, tokens_at)
    addresses = _addresses(rodata, count_at, index_end, len(names))
    found: dict[str, list[Symbol]] = {}
    for (begin, length), address in zip(names, addresses, strict=True):
        text = b"".join([tokens[code] for code in rodata[begin : begin + length]])
        found.setdefault(text[1:].decode("ascii", "replace"), []).append(Symbol(address, chr(text[0])))
    return MappingProxyType({name: tuple(symbols) for name, symbols in found.items()})


def _token_table(data: bytes) -> tuple[list[bytes], int, int]:
    """Return the tokens, where they begin, and where their index ends."""
    at = data.find(_DIGITS)
    for _ in range(MAX_TABLES):
        if at < 0:
            break
        begin = at
        for _ in range(ord("0")):
            begin = data.rfind(b"\0", 0, max(begin - 1, 0)) + 1
        found = _tokens_at(data, begin)
        if found is not None:
            return found
        at = data.find(_DIGITS, at + 1)
    raise ParseError("kallsyms.token_table", 0, "there is none", code="parse.kallsyms")


def _tokens_at(data: bytes, begin: int) -> tuple[list[bytes], int, int] | None:
    # Before the first token there may be zeros of the alignment, which read like the end of another string.
    for start in range(begin, min(begin + 8, len(data))):
        tokens, offsets, at = [], [], start
        for _ in range(_TOKENS):
            end = data.find(b"\0", at, at + 1024)
            if end < 0:
                return None
            offsets.append(at - start)
            tokens.append(data[at:end])
            at = end + 1
        if offsets[-1] > 0xFFFF:
            return None
        index = struct.pack(f"<{_TOKENS}H", *offsets)
        place = data.find(index, at, at + len(index) + 16)
        if place >= 0:
            return tokens, start, place + len(index)
    return None


def _names(data: bytes, tokens_at: int) -> tuple[int, list[tuple[int, int]]]:
    """Return where the number of symbols stands, and begin and length of each compressed name."""
    for at in range((tokens_at - 64) & ~7, max(0, tokens_at - MAX_NAMES_BYTES), -8):
        count, zero = struct.unpack_from("<II", data, at)
        if zero or not MIN_SYMBOLS <= count <= MAX_SYMBOLS:
            continue
        names, marks, end = _names_at(data, at + 8, count, tokens_at)
        if len(names) == count:
            packed = struct.pack(f"<{len(marks)}I", *marks)
            if data.find(packed, end, end + len(packed) + 16) >= 0:
                return at, names
    raise ParseError("kallsyms.names", 0, "there are none before the token table", code="parse.kallsyms")


def _names_at(data: bytes, begin: int, count: int, limit: int) -> tuple[list[tuple[int, int]], list[int], int]:
    names: list[tuple[int, int]] = []
    marks: list[int] = []
    at = begin
    for number in range(count):
        if number % _MARK_EVERY == 0:
            marks.append(at - begin)
        if at + 2 > limit:
            return [], [], at
        length = data[at]
        if length & 0x80:
            # From Linux 6.1 on: names of more than 127 codes.
            at += 1
            length = (length & 0x7F) | (data[at] << 7)
        if not length:
            return [], [], at
        names.append((at + 1, length))
        at += 1 + length
    return names, marks, at


def _addresses(data: bytes, count_at: int, index_end: int, count: int) -> list[int]:
    """Return the address of each symbol: offsets from a base where they are negative, absolute where not."""
    behind = (index_end + 7) & ~7
    for offsets_at, base_at in (
        (count_at - 8 - ((4 * count + 7) & ~7), count_at - 8),
        (behind, (behind + 4 * count + 7) & ~7),
    ):
        if offsets_at < 0 or base_at + 8 > len(data):
            continue
        (base,) = struct.unpack_from("<Q", data, base_at)
        if base >> 40 == _KERNEL_HALF:
            offsets = struct.unpack_from(f"<{count}i", data, offsets_at)
            return [offset if offset >= 0 else base - 1 - offset for offset in offsets]
    raise ParseError("kallsyms.relative_base", 0, "is at neither place where it could be", code="parse.kallsyms")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Bit maps (``ebitmap``) and counts inside SELinux kernel policies.

======== ===== =====================================================
offset   size  field
======== ===== =====================================================
0        4     bits of a node, always 64
4        4     highest bit, rounded up to a multiple of 64: one more than any bit
8        4     number of nodes
12       12·n  nodes: first bit (a multiple of 64), 64 bits
======== ===== =====================================================

A few bytes can claim a bit far away, and an integer with that bit is large. So all bit maps of one policy together
may have ``MAX_SET_BITS`` bits and take ``MAX_BITMAP_BYTES``.

Source: Linux 6.12, security/selinux/ss/ebitmap.c, ebitmap_read.
"""

from __future__ import annotations

import struct

from .cursor import Cursor

NODE_BITS = 64
MAX_BITS = 1 << 17
"""More than any symbol table has entries (a type value is a 16-bit number in a rule)."""

MAX_SET_BITS = 2_000_000
MAX_BITMAP_BYTES = 64 * 1024 * 1024
"""Debian 12's whole policy has 84,000 bits set and takes 1.4 MB."""

_NODE = struct.Struct("<IQ")


class PolicyCursor(Cursor):
    """A cursor that counts what the bit maps read through it take."""

    __slots__ = ("_bitmap_bytes", "_set_bits")

    def __init__(self, data: bytes, *, limit_bytes: int, what: str, base: int = 0) -> None:
        super().__init__(data, limit_bytes=limit_bytes, what=what, base=base)
        self._bitmap_bytes = 0
        self._set_bits = 0

    def charge(self, bitmap: int, field: str) -> None:
        """Count ``bitmap``.

        Raises:
            ParseError: all bit maps so far are too large together.
        """
        self._bitmap_bytes += bitmap.bit_length() // 8
        self._set_bits += bitmap.bit_count()
        if self._bitmap_bytes > MAX_BITMAP_BYTES or self._set_bits > MAX_SET_BITS:
            raise self.fail(field, "the bit maps so far are too large together", code="parse.too-large")


def read_bitmap(cursor: PolicyCursor, field: str) -> int:
    """Consume a bit map and return it as an integer: bit n of the map is bit n of the integer.

    Raises:
        ParseError: nodes out of order, empty, or beyond the stated highest bit.
    """
    size, highest, count = struct.unpack("<3I", cursor.take(12, field))
    highest += -highest % NODE_BITS
    if size != NODE_BITS or highest > MAX_BITS or count > highest // NODE_BITS:
        raise cursor.fail(field, f"a bit map of {count} nodes of {size} bits up to bit {highest}")
    if not count:
        if highest:
            raise cursor.fail(field, "an empty bit map with a highest bit")
        return 0
    found, above = 0, -1
    for start, bits in _NODE.iter_unpack(cursor.take(_NODE.size * count, field)):
        if start <= above or start % NODE_BITS or start >= highest or not bits:
            raise cursor.fail(field, f"a node of bits {start} is empty or out of order")
        above = start
        found |= bits << start
    cursor.charge(found, field)
    return found


def read_count(cursor: Cursor, limit: int, field: str) -> int:
    """Consume a count.

    Raises:
        ParseError: more than ``limit``.
    """
    count = cursor.u32le(field)
    if count > limit:
        raise cursor.fail(field, f"{count} entries, more than {limit}", code="parse.too-many")
    return count

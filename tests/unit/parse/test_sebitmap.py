# SPDX-License-Identifier: GPL-3.0-or-later
"""Bit maps inside SELinux policies."""

from __future__ import annotations

import struct

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.sebitmap import MAX_BITMAP_BYTES, MAX_BITS, PolicyCursor, read_bitmap


def bitmap(highest: int, *nodes: tuple[int, int], size: int = 64, count: int | None = None) -> bytes:
    """Return the bytes of a bit map."""
    body = b"".join(struct.pack("<IQ", *node) for node in nodes)
    return struct.pack("<3I", size, highest, len(nodes) if count is None else count) + body


def read(data: bytes) -> int:
    cursor = PolicyCursor(data, limit_bytes=len(data), what="test")
    found = read_bitmap(cursor, "map")
    cursor.done()
    return found


def test_nodes_become_bits() -> None:
    assert read(bitmap(0)) == 0
    assert read(bitmap(64, (0, 0b101))) == 0b101
    assert read(bitmap(192, (0, 1), (128, 1 << 63))) == 1 | 1 << 191


def test_the_highest_bit_is_rounded_up_as_the_kernel_does() -> None:
    assert read(bitmap(3, (0, 0b101))) == 0b101


MALFORMED = {
    "nodes of 32 bits": bitmap(64, (0, 1), size=32),
    "an empty node": bitmap(64, (0, 0)),
    "out of order": bitmap(128, (64, 1), (0, 1)),
    "twice": bitmap(128, (0, 1), (0, 2)),
    "not aligned": bitmap(128, (1, 1)),
    "beyond the highest": bitmap(64, (64, 1)),
    "a highest bit of nothing": bitmap(64),
    "more nodes than fit": bitmap(64, (0, 1), count=2),
    "too large": bitmap(MAX_BITS + 64, (0, 1)),
    "cut": bitmap(64, (0, 1))[:-1],
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_maps_are_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        read(MALFORMED[fault])


def test_bit_maps_are_not_too_large_together() -> None:
    far = bitmap(MAX_BITS, (MAX_BITS - 64, 1 << 63))
    many = MAX_BITMAP_BYTES * 8 // MAX_BITS + 1
    cursor = PolicyCursor(far * many, limit_bytes=len(far) * many, what="test")
    for _ in range(many - 1):
        read_bitmap(cursor, "map")
    with pytest.raises(ParseError) as caught:
        read_bitmap(cursor, "map")
    assert caught.value.code == "parse.too-large"
    assert cursor.remaining == 0


def test_so_are_the_bits_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.vouch.parse.sebitmap.MAX_SET_BITS", 5)
    assert read(bitmap(64, (0, 0b11111))) == 0b11111
    with pytest.raises(ParseError):
        read(bitmap(64, (0, 0b111111)))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The only door from bytes to numbers."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.parse.cursor import Cursor


def cursor(data: bytes, limit: int = 64) -> Cursor:
    return Cursor(data, limit_bytes=limit, what="thing")


def test_numbers_of_both_byte_orders() -> None:
    c = cursor(bytes(range(1, 30)))
    assert c.u8("a") == 0x01
    assert c.u16le("b") == 0x0302
    assert c.u16be("c") == 0x0405
    assert c.u32le("d") == 0x09080706
    assert c.u32be("e") == 0x0A0B0C0D
    assert c.u64le("f") == int.from_bytes(bytes(range(14, 22)), "little")
    assert c.u64be("g") == int.from_bytes(bytes(range(22, 30)), "big")
    c.done()


@pytest.mark.parametrize(("size", "byteorder", "value"), [(2, "little", 0x0201), (2, "big", 0x0102), (1, "big", 1)])
def test_uint(size: int, byteorder: str, value: int) -> None:
    assert cursor(b"\x01\x02").uint(size, "n", byteorder=byteorder) == value


def test_an_input_above_the_limit_is_refused_at_once() -> None:
    with pytest.raises(ParseError) as error:
        cursor(bytes(65))
    assert error.value.code == "parse.too-large"
    cursor(bytes(64))


@pytest.mark.parametrize("count", [-1, 5])
def test_no_byte_is_read_that_is_not_there(count: int) -> None:
    c = cursor(b"abcd")
    with pytest.raises(ParseError) as error:
        c.take(count, "name")
    assert (error.value.code, error.value.field, error.value.offset_bytes) == ("parse.truncated", "thing.name", 0)
    assert c.remaining == 4


def test_a_negative_limit_is_our_own_fault() -> None:
    with pytest.raises(UsageError):
        cursor(b"", -1)


def test_peek_consumes_nothing() -> None:
    c = cursor(b"abcd")
    assert (c.peek(2), c.peek(9), c.peek(-1), c.remaining) == (b"ab", b"abcd", b"", 4)


def test_expect_names_both_sides() -> None:
    c = cursor(b"MX")
    with pytest.raises(ParseError, match="expected 4d5a, found 4d58") as error:
        c.expect(b"MZ", "magic")
    assert error.value.offset_bytes == 0


def test_a_sub_cursor_keeps_the_outer_offset() -> None:
    c = cursor(b"xxabcyy")
    c.take(2, "head")
    inner = c.sub(3, "body")
    assert inner.take(3, "all") == b"abc"
    with pytest.raises(ParseError) as error:
        inner.u8("more")
    assert (error.value.offset_bytes, error.value.field) == (5, "thing.body.more")
    assert c.take(2, "tail") == b"yy"


def test_done_refuses_leftovers() -> None:
    with pytest.raises(ParseError) as error:
        cursor(b"a").done()
    assert error.value.code == "parse.trailing"

# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of VICI: the documentation's own example, what is refused, and any bytes at all."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.parse.vici import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    encode_message,
    parse_message,
    section_of,
    text_of,
)
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = (
    b"\x03\x04key1\x00\x06value1"
    b"\x01\x08section1"
    b"\x01\x0bsub-section"
    b"\x03\x04key2\x00\x06value2"
    b"\x02"
    b"\x04\x05list1"
    b"\x05\x00\x05item1"
    b"\x05\x00\x05item2"
    b"\x06"
    b"\x02"
)
"""README.md, "Encoding example"."""

TREE: dict[str, Any] = {
    "key1": b"value1",
    "section1": {"sub-section": {"key2": b"value2"}, "list1": [b"item1", b"item2"]},
}


def test_the_example_of_the_documentation_both_ways() -> None:
    assert parse_message(EXAMPLE) == TREE
    assert encode_message(TREE) == EXAMPLE


@pytest.mark.parametrize("cut", range(1, len(EXAMPLE)))
def test_a_part_of_it_is_a_shorter_message_or_none(cut: int) -> None:
    """Only between two elements of the outermost section does a message end."""
    whole = {14: {"key1": b"value1"}}
    if cut in whole:
        assert parse_message(EXAMPLE[:cut]) == whole[cut]
        return
    with pytest.raises(ParseError):
        parse_message(EXAMPLE[:cut])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00", "parse.invalid"),
        (b"\x07", "parse.invalid"),
        (b"\x02", "parse.invalid"),
        (b"\x05\x00\x00", "parse.invalid"),
        (b"\x06", "parse.invalid"),
        (b"\x04\x01a\x03\x01b\x00\x00\x06", "parse.invalid"),
        (b"\x04\x01a\x04\x01b\x06\x06", "parse.invalid"),
        (b"\x03\x01a\x00\x00\x03\x01a\x00\x00", "parse.invalid"),
        (b"\x03\x00\x00\x00", "parse.invalid"),
        (b"\x03\x01\xff\x00\x00", "parse.invalid"),
        (b"\x03\x01a\x00\x02b", "parse.truncated"),
        (b"\x01\x01a", "parse.truncated"),
        (b"\x04\x01a", "parse.truncated"),
        (b"\x01\x01a" * (MAX_DEPTH + 1), "parse.too-large"),
        (b"\x04\x01a" + b"\x05\x00\x00" * MAX_ELEMENTS, "parse.too-large"),
    ],
)
def test_what_is_no_message(data: bytes, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_message(data)
    assert caught.value.code == code


@pytest.mark.parametrize("message", [{"": "x"}, {"a" * 256: "x"}, {"ä": "x"}, {"a": "ä"}, {"a": bytes(65536)}])
def test_what_cannot_be_said(message: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        encode_message(message)
    assert caught.value.code == "vici.message"


def test_a_value_of_another_kind_is_as_none() -> None:
    assert (text_of([b"a"]), text_of(None), text_of(b"\xff"), text_of(b"a")) == ("", "", "", "a")
    assert (section_of(b"a"), section_of({"a": b"b"})) == ({}, {"a": b"b"})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = parse_message(data)
    except ParseError:
        return
    assert encode_message(message) == data


VALUES = st.binary(max_size=20)
NAMES = st.text("abc-_0", min_size=1, max_size=8)
TREES = st.recursive(
    VALUES | st.lists(VALUES, max_size=3), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_what_was_written_is_read_back(message: dict[str, Any]) -> None:
    assert parse_message(encode_message(message)) == message

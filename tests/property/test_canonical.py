# SPDX-License-Identifier: GPL-3.0-or-later
"""Canonical JSON: one text per value, read back as the same value; bytes of any kind are read or refused."""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.canonical import MAX_SAFE_INTEGER, dump_canonical, load_canonical, load_json
from hypothesis import given, settings
from hypothesis import strategies as st

from thorough import examples

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
LIMIT = 1 << 20


@given(VALUES)
@settings(max_examples=examples(200), deadline=None)
def test_round_trip(value: Any) -> None:
    data = dump_canonical(value)
    assert load_canonical(data, limit_bytes=LIMIT) == value
    # Another writer's text of the same value is read alike, and written alike again.
    assert dump_canonical(load_json(json.dumps(value, indent=1).encode(), limit_bytes=LIMIT)) == data


@given(st.binary(max_size=200) | TEXT.map(str.encode))
@settings(max_examples=examples(300), deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = load_json(data, limit_bytes=LIMIT)
    except ParseError:
        return
    assert value == json.loads(data)


@given(VALUES, st.data())
@settings(max_examples=examples(200), deadline=None)
def test_one_changed_byte_is_another_value_or_refused(value: Any, data: st.DataObject) -> None:
    text = bytearray(dump_canonical(value))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    try:
        found = load_canonical(bytes(text), limit_bytes=LIMIT)
    except ParseError:
        return
    assert dump_canonical(found) == bytes(text)

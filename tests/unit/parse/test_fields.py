# SPDX-License-Identifier: GPL-3.0-or-later
"""Members of objects: taken once, by type and bound."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.fields import Fields, decode_base64, encode_base64

REFUSED: dict[str, tuple[Any, Callable[[Fields], Any]]] = {
    "missing": ({}, lambda f: f.text("a")),
    "no object": ([], lambda f: f.done()),
    "unknown": ({"a": 1}, lambda f: f.done()),
    "taken twice": ({"a": "x"}, lambda f: (f.text("a"), f.text("a"))),
    "text: number": ({"a": 1}, lambda f: f.text("a")),
    "text: empty": ({"a": ""}, lambda f: f.text("a")),
    "text: long": ({"a": "xx"}, lambda f: f.text("a", maximum_chars=1)),
    "text: form": ({"a": "x\n"}, lambda f: f.text("a", pattern=re.compile("x"))),
    "uuid: upper case": ({"a": "A" * 8 + "-0000-0000-0000-" + "0" * 12}, lambda f: f.uuid("a")),
    "uuid: line end": ({"a": "0" * 8 + "-0000-0000-0000-" + "0" * 11 + "\n"}, lambda f: f.uuid("a")),
    "integer: true": ({"a": True}, lambda f: f.integer("a")),
    "integer: text": ({"a": "1"}, lambda f: f.integer("a")),
    "integer: negative": ({"a": -1}, lambda f: f.integer("a")),
    "integer: large": ({"a": 2}, lambda f: f.integer("a", maximum=1)),
    "literal: true is not 1": ({"a": True}, lambda f: f.literal("a", 1)),
    "literal: other": ({"a": "b"}, lambda f: f.literal("a", "a")),
    "choice: other": ({"a": "c"}, lambda f: f.choice("a", "a", "b")),
    "choice: list": ({"a": ["a"]}, lambda f: f.choice("a", "a", "b")),
    "hex: upper case": ({"a": "AA"}, lambda f: f.hex("a")),
    "hex: odd": ({"a": "a"}, lambda f: f.hex("a")),
    "hex: line end": ({"a": "aa\n"}, lambda f: f.hex("a")),
    "hex: empty": ({"a": ""}, lambda f: f.hex("a")),
    "hex: short": ({"a": "aa"}, lambda f: f.hex("a", 2)),
    "hex: number": ({"a": 10}, lambda f: f.hex("a")),
    "blob: no padding": ({"a": "YQ"}, lambda f: f.blob("a", limit_bytes=9)),
    "blob: unused bits": ({"a": "YR=="}, lambda f: f.blob("a", limit_bytes=9)),
    "blob: line end": ({"a": "YQ==\n"}, lambda f: f.blob("a", limit_bytes=9)),
    "blob: url alphabet": ({"a": "__8="}, lambda f: f.blob("a", limit_bytes=9)),
    "blob: long": ({"a": "YWJj"}, lambda f: f.blob("a", limit_bytes=2)),
    "blob: far too long": ({"a": "YWJj" * 9}, lambda f: f.blob("a", limit_bytes=2)),
    "blob: empty": ({"a": ""}, lambda f: f.blob("a", limit_bytes=2)),
    "blob: not ascii": ({"a": "\u00e4\u00e4\u00e4="}, lambda f: f.blob("a", limit_bytes=9)),
    "array: object": ({"a": {}}, lambda f: f.array("a", maximum=1)),
    "array: long": ({"a": [1, 2]}, lambda f: f.array("a", maximum=1)),
    "object: text": ({"a": "x"}, lambda f: f.object("a")),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(fault: str) -> None:
    value, read = REFUSED[fault]
    with pytest.raises(ParseError):
        read(Fields(value, "test"))


def test_taken() -> None:
    fields = Fields({"t": "x", "e": "", "i": 3, "h": "00ff", "n": "", "b": "YQ==", "o": {"p": 1}, "l": [1]}, "test")
    assert fields.text("t") == "x"
    assert fields.text("e", empty=True) == ""
    assert fields.integer("i") == 3
    assert fields.hex("h", 2) == b"\x00\xff"
    assert fields.hex("n", 32, empty=True) == b""
    assert fields.blob("b", limit_bytes=1) == b"a"
    inner = fields.object("o")
    assert inner.rest() == {"p": 1}
    inner.done()
    assert fields.array("l", maximum=1) == [1]
    fields.done()


@pytest.mark.parametrize("size", range(8))
def test_base64_round_trip(size: int) -> None:
    assert decode_base64(encode_base64(bytes(range(size)))) == bytes(range(size))

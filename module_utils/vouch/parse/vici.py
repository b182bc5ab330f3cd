# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of VICI, the control interface of strongSwan's IKE daemon charon: trees of sections, values and lists.

    message   elements, to the end of the packet
    1 name    section begins; 2: the last opened section ends
    3 name v  value
    4 name    list begins; 5 v: an item of it; 6: it ends
    name      one byte of length, then ASCII
    v         two bytes of length, big-endian, then bytes

Source: strongSwan, src/libcharon/plugins/vici/README.md ("Message format").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from ..errors import UsageError
from .cursor import Cursor

MAX_MESSAGE_BYTES = 512 * 1024
"""Longest packet of the protocol, its type included."""

MAX_DEPTH = 8
MAX_ELEMENTS = 16_384
MAX_NAME_BYTES, MAX_VALUE_BYTES = 0xFF, 0xFFFF

SECTION_START, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END = range(1, 7)

Found: TypeAlias = "bytes | list[bytes] | dict[str, Found]"
"""What was read: a value, a list of values, or a section."""

Given: TypeAlias = "str | bytes | Sequence[str | bytes] | Mapping[str, Given]"
"""What is written; text is ASCII."""


def parse_message(data: bytes) -> dict[str, Found]:
    """Return the tree of one message; the whole of ``data`` is one.

    Raises:
        ParseError: for anything that is no message: an unknown element, sections or lists that do not balance, a name
            that is no ASCII or stands twice in one section, and for one beyond our limits.

    Trust: charon's, a large program that speaks with the network; so these bytes are treated as an attacker's.
    """
    cursor = Cursor(data, limit_bytes=MAX_MESSAGE_BYTES, what="vici")
    root: dict[str, Found] = {}
    open_sections = [root]
    items: list[bytes] | None = None
    elements = 0
    while cursor.remaining:
        elements += 1
        if elements > MAX_ELEMENTS:
            raise cursor.fail("element", f"is more than the {MAX_ELEMENTS} allowed", code="parse.too-large")
        kind = cursor.u8("element")
        if items is not None and kind not in (LIST_ITEM, LIST_END):
            raise cursor.fail("element", "stands inside a list, where only items may")
        if kind == SECTION_START:
            if len(open_sections) > MAX_DEPTH:
                raise cursor.fail("section", f"lies deeper than {MAX_DEPTH}", code="parse.too-large")
            section: dict[str, Found] = {}
            open_sections[-1][_new_name(cursor, open_sections[-1])] = section
            open_sections.append(section)
        elif kind == SECTION_END and len(open_sections) > 1:
            open_sections.pop()
        elif kind == KEY_VALUE:
            name = _new_name(cursor, open_sections[-1])
            open_sections[-1][name] = _value(cursor)
        elif kind == LIST_START:
            items = []
            open_sections[-1][_new_name(cursor, open_sections[-1])] = items
        elif kind == LIST_ITEM and items is not None:
            items.append(_value(cursor))
        elif kind == LIST_END and items is not None:
            items = None
        else:
            raise cursor.fail("element", f"of type {kind} cannot stand here")
    if items is not None or len(open_sections) > 1:
        raise cursor.fail("element", "ends within a section or list", code="parse.truncated")
    return root


def encode_message(message: Mapping[str, Given]) -> bytes:
    """Return the message of a tree, its members in their order.

    Raises:
        UsageError: ``vici.message`` for a name or value that is too long, or no ASCII.
    """
    encoded = b"".join(_elements(message))
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise _unusable("message", encoded)
    return encoded


def _elements(message: Mapping[str, Given]) -> Iterator[bytes]:
    for name, value in message.items():
        if isinstance(value, str | bytes):
            yield bytes([KEY_VALUE]) + encode_name(name) + _sized(value)
        elif isinstance(value, Mapping):
            yield bytes([SECTION_START]) + encode_name(name)
            yield from _elements(value)
            yield bytes([SECTION_END])
        else:
            yield bytes([LIST_START]) + encode_name(name)
            yield from (bytes([LIST_ITEM]) + _sized(item) for item in value)
            yield bytes([LIST_END])


def encode_name(name: str) -> bytes:
    """Return a name with its length in front; raises as ``encode_message``."""
    raw = _bytes(name)
    if not 0 < len(raw) <= MAX_NAME_BYTES:
        raise _unusable("name", raw)
    return bytes([len(raw)]) + raw


def _sized(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else _bytes(value)
    if len(raw) > MAX_VALUE_BYTES:
        raise _unusable("value", raw)
    return len(raw).to_bytes(2, "big") + raw


def _bytes(text: str) -> bytes:
    if not text.isascii():
        raise _unusable("text", text.encode())
    return text.encode("ascii")


def _unusable(what: str, raw: bytes) -> UsageError:
    return UsageError(f"a {what} of {len(raw)} bytes cannot be said in VICI", code="vici.message")


def read_name(cursor: Cursor) -> str:
    """Take a name with its length in front."""
    raw = cursor.take(cursor.u8("name.length"), "name")
    if not raw or not raw.isascii():
        raise cursor.fail("name", "is empty or no ASCII")
    return raw.decode("ascii")


def _new_name(cursor: Cursor, section: Mapping[str, Found]) -> str:
    name = read_name(cursor)
    if name in section:
        raise cursor.fail("name", "stands twice in one section")
    return name


def _value(cursor: Cursor) -> bytes:
    return cursor.take(cursor.u16be("value.length"), "value")


def text_of(found: Found | None) -> str:
    """Return a value as text; the empty text for what is none, or no ASCII."""
    return found.decode("ascii") if isinstance(found, bytes) and found.isascii() else ""


def section_of(found: Found | None) -> dict[str, Found]:
    """Return a section; an empty one for what is none."""
    return found if isinstance(found, dict) else {}

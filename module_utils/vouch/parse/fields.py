# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict reading of one JSON object: every member taken once, by type and bound, and none left over.

>>> fields = Fields({"type": "t", "count": 3}, "example")
>>> fields.literal("type", "t"); fields.integer("count", minimum=0); fields.done()
3
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ParseError, shown
from .canonical import MAX_SAFE_INTEGER

MAX_TEXT_CHARS = 4096
"""Characters of one text member unless its reader says otherwise."""

_HEX = re.compile(r"(?:[0-9a-f]{2})*\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class Fields:
    """A reader over the members of one JSON object.

    Args:
        value: What ``load_json`` returned for it.
        what: Dotted name of the object, used in error messages.

    Raises:
        ParseError: by every method, when a member is missing, of another type, out of bounds; by ``done``, when
            members were not taken.

    Trust: the members are an attacker's until what signs them was checked.
    """

    __slots__ = ("_left", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ParseError(what, 0, f"expected an object, found {type(value).__name__}", code="parse.field.type")
        self._left: dict[str, Any] = dict(value)
        self._what = what

    def fail(self, name: str, problem: str, code: str = "parse.field.value") -> ParseError:
        """Return (not raise) a ``ParseError`` that names the member."""
        return ParseError(f"{self._what}.{name}" if name else self._what, 0, problem, code=code)

    def has(self, name: str) -> bool:
        """Say whether the member is there and was not taken yet."""
        return name in self._left

    def given(self, name: str) -> bool:
        """Say whether a member holds something; one that is null is taken."""
        if self._left.get(name, "") is None:
            del self._left[name]
            return False
        return True

    def take(self, name: str) -> Any:
        """Take a member of any type."""
        try:
            return self._left.pop(name)
        except KeyError:
            raise self.fail(name, "is missing", "parse.field.missing") from None

    def literal(self, name: str, value: str | int) -> None:
        """Take a member that has one possible value."""
        found = self.take(name)
        if type(found) is not type(value) or found != value:
            raise self.fail(name, f"expected {shown(value)}, found {shown(found)}")

    def text(
        self,
        name: str,
        *,
        maximum_chars: int = MAX_TEXT_CHARS,
        pattern: re.Pattern[str] | None = None,
        empty: bool = False,
    ) -> str:
        """Take a text; ``pattern`` must match all of it (unless it is empty and ``empty`` allows that)."""
        found = self.take(name)
        if not isinstance(found, str):
            raise self.fail(name, f"expected text, found {type(found).__name__}", "parse.field.type")
        if len(found) > maximum_chars:
            raise self.fail(name, f"{len(found)} characters, more than {maximum_chars}")
        if not found:
            if empty:
                return found
            raise self.fail(name, "is empty")
        if pattern is not None and pattern.fullmatch(found) is None:
            raise self.fail(name, f"has a form we do not accept: {shown(found)}")
        return found

    def uuid(self, name: str) -> str:
        """Take a UUID in lower-case text form."""
        return self.text(name, maximum_chars=36, pattern=_UUID)

    def integer(self, name: str, *, minimum: int = 0, maximum: int = MAX_SAFE_INTEGER) -> int:
        """Take an integer within bounds (``true`` is none)."""
        found = self.take(name)
        if not isinstance(found, int) or isinstance(found, bool):
            raise self.fail(name, f"expected an integer, found {type(found).__name__}", "parse.field.type")
        if not minimum <= found <= maximum:
            raise self.fail(name, f"{found} is not within {minimum} and {maximum}")
        return found

    def choice(self, name: str, *values: str) -> str:
        """Take a text that is one of ``values``."""
        found = self.take(name)
        if not isinstance(found, str) or found not in values:
            raise self.fail(name, f"expected one of {', '.join(values)}, found {shown(found)}")
        return found

    def hex(self, name: str, size_bytes: int | None = None, *, empty: bool = False) -> bytes:
        """Take bytes written as lower-case hexadecimal, of exactly ``size_bytes`` when given."""
        return self.decode_hex(name, self.take(name), size_bytes, empty=empty)

    def decode_hex(self, name: str, found: Any, size_bytes: int | None = None, *, empty: bool = False) -> bytes:
        """Return ``found`` decoded as ``hex`` does; for items of lists."""
        if not isinstance(found, str) or _HEX.match(found) is None:
            raise self.fail(name, f"expected lower-case hexadecimal, found {shown(found)}", "parse.field.type")
        value = bytes.fromhex(found)
        if (size_bytes is not None and len(value) != size_bytes and not (empty and not value)) or not (value or empty):
            raise self.fail(name, f"{len(value)} bytes, expected {'some' if size_bytes is None else size_bytes}")
        return value

    def blob(self, name: str, *, limit_bytes: int, empty: bool = False) -> bytes:
        """Take bytes written as standard base64 with padding; another spelling of the same bytes is refused."""
        found = self.take(name)
        if not isinstance(found, str):
            raise self.fail(name, f"expected base64 text, found {type(found).__name__}", "parse.field.type")
        if len(found) > (limit_bytes + 2) // 3 * 4:
            raise self.fail(name, f"more than the {limit_bytes} bytes allowed", "parse.too-large")
        value = decode_base64(found)
        if value is None:
            raise self.fail(name, "is not base64")
        if len(value) > limit_bytes:
            raise self.fail(name, f"more than the {limit_bytes} bytes allowed", "parse.too-large")
        if not value and not empty:
            raise self.fail(name, "is empty")
        return value

    def object(self, name: str) -> Fields:
        """Take a nested object as ``Fields``; its ``done`` is the caller's to call."""
        return Fields(self.take(name), f"{self._what}.{name}")

    def array(self, name: str, *, maximum: int) -> list[Any]:
        """Take a list of at most ``maximum`` items."""
        found = self.take(name)
        if not isinstance(found, list):
            raise self.fail(name, f"expected a list, found {type(found).__name__}", "parse.field.type")
        if len(found) > maximum:
            raise self.fail(name, f"{len(found)} items, more than {maximum}")
        return found

    def rest(self) -> Mapping[str, Any]:
        """Take every member that is left, for objects whose names are data."""
        rest, self._left = self._left, {}
        return rest

    def done(self) -> None:
        """Return when every member was taken."""
        if self._left:
            raise self.fail("", f"unknown member {shown(min(self._left))!r}", "parse.field.unknown")


def decode_base64(text: str) -> bytes | None:
    """Return the bytes of canonical standard base64, or None."""
    try:
        value = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        return None
    # Strict mode lets unused bits of the last character through: two texts, the same bytes.
    tail = text[-4:]
    return value if not tail or base64.b64encode(value[(len(text) // 4 - 1) * 3 :]).decode() == tail else None


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding, in one line."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")

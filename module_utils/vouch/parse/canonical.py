# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict JSON in, canonical JSON out.

What is read here is stricter than RFC 8259: UTF-8 without a byte order mark, no member twice, no NaN or
infinity, no floats unless asked for, integers within +-(2^53 - 1), bounded size and depth, no lone surrogate.
What is written is RFC 8785 (JCS) for the values we allow: strings, integers, booleans, null, lists, objects.

Source: RFC 8259; RFC 7493 (I-JSON), 2; RFC 8785, 3.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import ParseError, UsageError, shown

MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer every JSON reader agrees on (RFC 7493, 2.2)."""

MAX_DEPTH = 32
"""Nested arrays and objects a document may have unless its reader says otherwise."""

MAX_PARTS = 1_000_000
"""Values of one document, counted by the commas that have to stand between them: a list of nothing but ``[],`` would
otherwise take twenty times its size in memory. The largest document of ours has some thousands."""

MAX_NUMBER_CHARS = 32
"""Characters of one number: refused before Python converts it."""

# A string runs to its closing quote or, unterminated, to the end of input: so every byte is looked at once. The
# possessive quantifiers keep a hostile document from costing more than linear time.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPENING = frozenset((b"[", b"{"))
_CLOSING = frozenset((b"]", b"}"))


def load_json(data: bytes, *, limit_bytes: int, max_depth: int = MAX_DEPTH, allow_floats: bool = False) -> Any:
    """Return the value of one JSON document.

    Args:
        data: The document.
        limit_bytes: Refuse a longer one (a named constant of the caller).
        max_depth: Refuse deeper nesting; found by scanning, before any recursion.
        allow_floats: Accept fractions and exponents; only foreign formats need it.

    Returns:
        dict, list, str, int, bool or None (float when allowed).

    Raises:
        ParseError: for anything else than one well-formed document within the limits.

    Trust: ``data`` is an attacker's. The structure is bounded afterwards, nothing in it is proven.
    """
    if len(data) > limit_bytes:
        raise ParseError("json", 0, f"{len(data)} bytes, more than the {limit_bytes} allowed", code="parse.too-large")
    if data.startswith(b"\xef\xbb\xbf"):
        raise ParseError("json", 0, "begins with a byte order mark", code="parse.json.encoding")
    if data.count(b",") > MAX_PARTS:
        raise _too_many()
    _check_depth(data, max_depth)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError("json", error.start, "is not UTF-8", code="parse.json.encoding") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float if allow_floats else _no_float,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise ParseError("json", error.pos, error.msg, code="parse.json.syntax") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def load_canonical(data: bytes, *, limit_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of one JSON document that is written exactly as ``dump_canonical`` writes it.

    Raises:
        ParseError: as ``load_json``, and with code ``parse.json.not-canonical`` for another spelling.
    """
    value = load_json(data, limit_bytes=limit_bytes, max_depth=max_depth)
    if dump_canonical(value) != data:
        raise ParseError("json", 0, "is not in canonical form (RFC 8785)", code="parse.json.not-canonical")
    return value


def dump_canonical(value: Any) -> bytes:
    """Return ``value`` as RFC 8785 writes it: members sorted by UTF-16 code units, no white space, UTF-8.

    Args:
        value: str, int within +-(2^53 - 1), bool, None, and lists, tuples and mappings of these.

    Raises:
        UsageError: for a float, a larger integer, a key that is no string, a lone surrogate, deep nesting
            or any other type: our own mistake, not an attacker's.
    """
    try:
        text = json.dumps(_ordered(value, MAX_DEPTH), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError("a lone surrogate cannot be written as JSON", code="json.surrogate") from None


def _ordered(value: Any, depth: int) -> Any:
    """Return a copy of ``value`` with sorted members, every type checked."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise UsageError("an integer beyond 2^53 - 1 is not portable JSON", code="json.integer")
        return value
    if depth <= 0:
        raise UsageError(f"nested deeper than {MAX_DEPTH}", code="json.depth")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UsageError(f"member names are strings, not {type(key).__name__}", code="json.key")
        # Code units, not code points: they differ for characters beyond U+FFFF (RFC 8785, 3.2.3).
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return {name: _ordered(value[name], depth - 1) for name in names}
    if isinstance(value, list | tuple):
        return [_ordered(item, depth - 1) for item in value]
    raise UsageError(f"canonical JSON has no {type(value).__name__}", code="json.type")


def _check_depth(data: bytes, max_depth: int) -> None:
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    depth = 0
    for count, match in enumerate(_STRING_OR_BRACKET.finditer(data)):
        # Between two commas of a well-formed document stand few of these.
        if count > 4 * MAX_PARTS:
            raise _too_many()
        token = match[0]
        if token in _OPENING:
            depth += 1
            if depth > max_depth:
                raise ParseError("json", match.start(), f"nested deeper than {max_depth}", code="parse.json.depth")
        elif token in _CLOSING:
            depth -= 1


def _too_many() -> ParseError:
    return ParseError("json", 0, f"more than {MAX_PARTS} values", code="parse.too-many")


def _check_surrogates(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError:
                raise ParseError("json", 0, "holds a lone surrogate", code="parse.json.surrogate") from None
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ParseError("json", 0, f"member {shown(twice)!r} stands twice", code="parse.json.duplicate")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS or not -MAX_SAFE_INTEGER <= int(text) <= MAX_SAFE_INTEGER:
        raise ParseError("json", 0, f"integer {shown(text)} is beyond 2^53 - 1", code="parse.json.integer")
    return int(text)


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARS:
        raise ParseError("json", 0, f"number {shown(text)} is too long", code="parse.json.number")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ParseError("json", 0, f"number {shown(text)} is infinite", code="parse.json.number")
    return value


def _no_float(text: str) -> NoReturn:
    raise ParseError("json", 0, f"number {shown(text)} is not an integer", code="parse.json.number")


def _no_constant(text: str) -> NoReturn:
    raise ParseError("json", 0, f"{text} is not JSON", code="parse.json.number")

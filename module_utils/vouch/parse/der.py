# SPDX-License-Identifier: GPL-3.0-or-later
"""ASN.1 DER elements, as far as keys and certificates need them.

Lengths and tags are read strictly; the order inside a SET is not looked at, because the names in some vendors'
certificates have it wrong and their signatures hold all the same.

Layout of an element: tag (1 byte, low-tag-number form), length (short form, or 0x80|n and n bytes big-endian,
minimal), content.

Source: ITU-T X.690, 8.1 and 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ParseError

MAX_DER_BYTES = 64 * 1024
"""Longest certificate or key we read."""

MAX_LENGTH_BYTES = 4

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING = 0x01, 0x02, 0x03, 0x04
OID, UTC_TIME, GENERALIZED_TIME = 0x06, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

_STRINGS = {0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of ``data``.

    Attributes:
        tag: The identifier byte.
        data: The outermost input.
        start: Where the element begins.
        body: Where its content begins.
        end: Where it ends.
    """

    tag: int
    data: bytes
    start: int
    body: int
    end: int

    @property
    def encoded(self) -> bytes:
        """The element with tag and length, as it stands in the input."""
        return self.data[self.start : self.end]

    @property
    def content(self) -> bytes:
        """What the element holds."""
        return self.data[self.body : self.end]

    def fail(self, problem: str) -> ParseError:
        """Return (not raise) a ``ParseError`` at this element."""
        return ParseError("der", self.start, problem, code="parse.der")

    def expect(self, tag: int) -> Element:
        """Return this element when it has ``tag``."""
        if self.tag != tag:
            raise self.fail(f"expected tag {tag:#04x}, found {self.tag:#04x}")
        return self

    def children(self) -> tuple[Element, ...]:
        """Return the elements of a constructed element; they fill it exactly."""
        if not self.tag & 0x20:
            raise self.fail("is primitive, not constructed")
        found: list[Element] = []
        at = self.body
        while at < self.end:
            child = _element(self.data, at, self.end)
            found.append(child)
            at = child.end
        return tuple(found)

    def child(self, index: int, tag: int) -> Element:
        """Return child ``index``, which must have ``tag``."""
        children = self.children()
        if index >= len(children):
            raise self.fail(f"has {len(children)} parts, part {index} is missing")
        return children[index].expect(tag)

    def oid(self) -> str:
        """Return an object identifier in dotted form."""
        content = self.expect(OID).content
        if not content or content[-1] & 0x80 or len(content) > 64:
            raise self.fail("is no object identifier")
        arcs: list[int] = []
        value = 0
        for byte in content:
            if value == 0 and byte == 0x80:
                raise self.fail("has an arc that is not minimal")
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))

    def unsigned(self) -> int:
        """Return a non-negative INTEGER."""
        content = self.expect(INTEGER).content
        if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
            raise self.fail("is no minimal non-negative integer")
        return int.from_bytes(content, "big")

    def bits(self) -> bytes:
        """Return a BIT STRING of whole bytes."""
        content = self.expect(BIT_STRING).content
        if not content or content[0] != 0:
            raise self.fail("is no bit string of whole bytes")
        return content[1:]

    def text(self) -> str:
        """Return a character string of any of the usual types; bytes that do not fit are replaced."""
        encoding = _STRINGS.get(self.tag)
        if encoding is None:
            raise self.fail(f"tag {self.tag:#04x} is no character string")
        return self.content.decode(encoding, "replace")


def parse_der(data: bytes, *, allow_trailing: bool = False) -> Element:
    """Return the outermost element of ``data``.

    Args:
        data: One element; more bytes after it are refused unless ``allow_trailing`` (NV indices are padded).
        allow_trailing: Whether bytes after the element are ignored.

    Raises:
        ParseError: when the element is cut, its length is not minimal, or bytes are left over.

    Trust: ``data`` is an attacker's; nothing is proven by reading it.
    """
    if len(data) > MAX_DER_BYTES:
        raise ParseError("der", 0, f"{len(data)} bytes, more than the {MAX_DER_BYTES} allowed", code="parse.too-large")
    element = _element(data, 0, len(data))
    if element.end != len(data) and not allow_trailing:
        raise ParseError("der", element.end, f"{len(data) - element.end} bytes after the end", code="parse.trailing")
    return element


def _element(data: bytes, at: int, limit: int) -> Element:
    if limit - at < 2:
        raise ParseError("der", at, "element is cut", code="parse.truncated")
    tag, first = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise ParseError("der", at, "high tag numbers are not used in certificates", code="parse.der")
    body = at + 2
    length = first
    if first & 0x80:
        count = first & 0x7F
        if not 1 <= count <= MAX_LENGTH_BYTES or limit - body < count:
            raise ParseError("der", at, "length is indefinite, too long or cut", code="parse.der")
        length = int.from_bytes(data[body : body + count], "big")
        if length < 0x80 or data[body] == 0:
            raise ParseError("der", at, "length is not minimal", code="parse.der")
        body += count
    if length > limit - body:
        raise ParseError("der", at, f"needs {length} bytes, {limit - body} left", code="parse.truncated")
    return Element(tag, data, at, body, body + length)

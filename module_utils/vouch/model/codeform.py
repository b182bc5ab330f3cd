# SPDX-License-Identifier: GPL-3.0-or-later
"""What may stand at a patch site of a kernel: forms made of parts, shared by all sites that allow the same.

A kernel rewrites its own code while it starts, at places listed in its image and with contents listed there too. A
*form* is one such content, written so that it does not depend on the site: a jump names its target, not the distance to
it, and padding is a number of bytes, not one of the spellings of doing nothing.

A form set in a file:

======== ===== =====================================================
offset   size  field
======== ===== =====================================================
0        4     bytes of the site
4        1     reason: index into ``REASONS``
5        1     number of forms
6        …     forms: number of parts (1 byte), parts
======== ===== =====================================================

A part is its kind (1 byte) and: LITERAL length (1), bytes; REL8 and REL32 tail (1), target (8); NOPS length (1); ANY
length (4); VALUE length (1), index of the value (1). All numbers are little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import ParseError, UsageError

LITERAL, REL8, REL32, NOPS, ANY, VALUE = range(6)

REASONS = (
    "alternative",
    "paravirt call",
    "retpoline",
    "return",
    "lock prefix",
    "jump label",
    "static call",
    "trampoline",
    "ftrace",
    "branch target",
    "run-time constant",
    "several",
    "read-only after start",
)
"""Why the bytes of a site may differ from the file's; the order is part of the format."""

MAX_FORMS = 255
MAX_PARTS = 255
MAX_SITE_BYTES = 4096
"""Of a site with code; ANY may be longer."""

MAX_SET_BYTES = 1 << 20

_HEAD = struct.Struct("<IBB")
_TARGET = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")


class Part(NamedTuple):
    """One part of a form.

    Attributes:
        kind: ``LITERAL`` and the others.
        length: Bytes that it takes.
        data: ``LITERAL``: the bytes.
        target: ``REL8``, ``REL32``: the address that the distance leads to.
        tail: ``REL8``, ``REL32``: bytes of the instruction behind the distance, which is counted from its end.
        value: ``VALUE``: which of the profile's values.
    """

    kind: int
    length: int
    data: bytes = b""
    target: int = 0
    tail: int = 0
    value: int = 0


Form = tuple[Part, ...]


class FormSet(NamedTuple):
    """Everything that may stand at a site.

    Attributes:
        length: Bytes of the site.
        reason: Index into ``REASONS``.
        forms: The file's own content first.
    """

    length: int
    reason: int
    forms: tuple[Form, ...]


def literal(data: bytes) -> Part:
    """Return the part that is exactly these bytes."""
    return Part(LITERAL, len(data), data=data)


def nops(length: int) -> Part:
    """Return the part that does nothing for ``length`` bytes."""
    return Part(NOPS, length)


def relative(target: int, *, length: int = 4, tail: int = 0) -> Part:
    """Return the part that leads to ``target``."""
    return Part(REL32 if length == 4 else REL8, length, target=target, tail=tail)


def anything(length: int) -> Part:
    """Return the part about which the profile says nothing: it is another check's to judge."""
    return Part(ANY, length)


def encode_form_set(wanted: FormSet) -> bytes:
    """Return the bytes of a form set.

    Raises:
        UsageError: a form of another length, no form, or too many.
    """
    out = [_HEAD.pack(wanted.length, wanted.reason, len(wanted.forms))]
    if not 0 < len(wanted.forms) <= MAX_FORMS:
        raise UsageError(f"{len(wanted.forms)} forms of one site", code="profile.forms")
    for form in wanted.forms:
        if sum(part.length for part in form) != wanted.length or len(form) > MAX_PARTS:
            raise UsageError(f"a form of another length than {wanted.length}", code="profile.forms")
        out.append(bytes([len(form)]))
        out += [_encode(part) for part in form]
    return b"".join(out)


def _encode(part: Part) -> bytes:
    if part.kind == LITERAL:
        return bytes([LITERAL, part.length]) + part.data
    if part.kind in (REL8, REL32):
        return struct.pack("<BBQ", part.kind, part.tail, part.target)
    if part.kind == ANY:
        return struct.pack("<BI", ANY, part.length)
    if part.kind == VALUE:
        return bytes([VALUE, part.length, part.value])
    return bytes([NOPS, part.length])


def decode_form_set(data: bytes, *, values: int, base: int = 0) -> FormSet:
    """Return the form set of ``data``, which is its own and nothing else.

    Args:
        data: As ``encode_form_set`` wrote it.
        values: How many values the profile has.
        base: Where it stands, for messages.

    Raises:
        ParseError: malformed, or a form has another length than the site.
    """
    if len(data) > MAX_SET_BYTES:
        raise ParseError("profile.forms", base, f"{len(data)} bytes", code="parse.too-large")
    try:
        found, end = _decode(data, values)
    except (struct.error, IndexError):
        raise ParseError("profile.forms", base, "ends within a form", code="parse.truncated") from None
    except ValueError as error:
        raise ParseError("profile.forms", base, str(error)) from None
    if end != len(data):
        raise ParseError("profile.forms", base, f"{len(data) - end} bytes after the end", code="parse.trailing")
    return found


def _decode(data: bytes, values: int) -> tuple[FormSet, int]:
    """Return a form set and where it ends; ``ValueError`` tells what is wrong. There are many: no cursor here."""
    length, reason, count = _HEAD.unpack_from(data)
    if not length or reason >= len(REASONS) or not count:
        raise ValueError(f"{count} forms of {length} bytes for reason {reason}")
    at = _HEAD.size
    forms = []
    for _ in range(count):
        parts = []
        total = 0
        number = data[at]
        at += 1
        for _ in range(number):
            kind, size = data[at], data[at + 1]
            at += 2
            if kind in (REL8, REL32):
                (target,) = _TARGET.unpack_from(data, at)
                part = Part(kind, 1 if kind == REL8 else 4, target=target, tail=size)
                at += 8
            elif kind == LITERAL:
                part = Part(LITERAL, size, data[at : at + size])
                at += size
                if at > len(data):
                    raise IndexError
            elif kind == NOPS:
                part = Part(NOPS, size)
            elif kind == VALUE:
                part = Part(VALUE, size, value=data[at])
                at += 1
                if part.value >= values or size not in (1, 8):
                    raise ValueError(f"{size} bytes of value {part.value} of {values}")
            elif kind == ANY:
                part = Part(ANY, _LENGTH.unpack_from(data, at - 1)[0])
                at += 3
            else:
                raise ValueError(f"a part of kind {kind}")
            total += part.length
            parts.append(part)
        if total != length:
            raise ValueError(f"a form of {total} bytes at a site of {length}")
        forms.append(tuple(parts))
    if length > MAX_SITE_BYTES and any(part.kind != ANY for form in forms for part in form):
        raise ValueError(f"{length} bytes of code")
    return FormSet(length, reason, tuple(forms)), at

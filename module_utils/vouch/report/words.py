# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as text that is safe to look at: no character acts on what stands around it.

Escaping keeps a name from being markup. It does not keep it from turning the line around, hiding letters, ringing a
terminal's bell where the page is dumped, or filling a screen. ``inert`` does that.

Source: Unicode 15.1, UAX 9 (bidirectional controls) and DerivedCoreProperties (Default_Ignorable_Code_Point).
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import unicodedata

from ..parse.fields import decode_base64

MAX_CHARS = 400
"""Length of a text nobody asked a shorter one of."""

MAX_MARKS = 2
"""Combining marks on one letter; more would climb over the neighbouring lines."""

_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Printable by their category, and yet nothing to see."""

_LAST_S = 253_402_300_799
"""9999-12-31T23:59:59Z: the last moment Python's calendar has."""


def inert(value: object, most: int = MAX_CHARS) -> str:
    """Return ``value`` as text of at most ``most`` characters in which each character only stands for itself.

    Controls, bidirectional marks, invisible and unassigned characters are spelt out (``\\u202e``), piled-up combining
    marks too; what is cut is counted. Applied to its own answer it changes nothing but an overlong one.
    """
    text = str(value)
    parts: list[str] = []
    length = marks = read = 0
    for char in text[: most + 1]:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        piled = marks > MAX_MARKS or (marks > 0 and not parts)
        plain = char.isprintable() and char not in _BLANKS and not piled and not 0xFE00 <= ord(char) <= 0xFE0F
        part = char if plain else _spelt(ord(char))
        if length + len(part) > most:
            break
        parts.append(part)
        length += len(part)
        read += 1
    left = len(text) - read
    if not left:
        return "".join(parts)
    while parts and length + len(_cut(left, most)) > most:
        length -= len(parts.pop())
        left += 1
    return "".join(parts) + _cut(left, most)


def _cut(left: int, most: int) -> str:
    return f"… ({left:,} more)" if most > 40 else "…"


def _spelt(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def moment(time_s: int) -> str:
    """Return ``2026-09-21 13:46:40Z``; a time no calendar has is shown as it was given."""
    if not 0 <= time_s <= _LAST_S:
        return f"second {inert(time_s, 24)}"
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def machine_moment(time_s: int) -> str:
    """Return the time as HTML's ``datetime`` attribute wants it; empty for one no calendar has."""
    if not 0 <= time_s <= _LAST_S:
        return ""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: int) -> str:
    """Return a length of time in its two largest units, for example ``2 h 5 min``."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    told = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count:
            told.append(f"{count:,} {name}")
    return " ".join(told[:2]) or "0 s"


def brief(digest: bytes) -> str:
    """Return the first twelve digits of a digest: enough to find it, too few to compare it by."""
    return f"{digest.hex()[:12]}…" if len(digest) > 6 else digest.hex()


def many(count: int, one: str, more: str = "") -> str:
    """Return ``1 host`` or ``1,024 hosts``."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def fingerprint(ssh_key: str) -> str:
    """Return the fingerprint of an SSH public key as ssh-keygen prints it; a text that is no key is shown as it is.

    Source: RFC 4716, 4, with SHA-256 in base64 without padding (OpenSSH, sshkey.c).
    """
    blob = decode_base64(ssh_key.partition(" ")[2].partition(" ")[0])
    if not blob:
        return inert(ssh_key, 64)
    digest = hashlib.sha256(blob).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

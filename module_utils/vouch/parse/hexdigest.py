# SPDX-License-Identifier: GPL-3.0-or-later
"""A SHA-256 digest or register as a person gives it: 64 hexadecimal digits, of either case.

What machines write to each other is lower case, and read by ``parse.fields``.
"""

from __future__ import annotations

from ..errors import ParseError, shown

SHA256_BYTES = 32


def parse_sha256(text: str) -> bytes:
    """Return the 32 bytes.

    Raises:
        ParseError: ``parse.field.value``; its ``problem`` is a sentence for that person.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        raise ParseError("digest", 0, f"{shown(text)} is not hexadecimal", code="parse.field.value") from None
    if len(value) != SHA256_BYTES:
        problem = f"a SHA-256 value has 64 hexadecimal digits, not {len(text)}"
        raise ParseError("digest", 0, problem, code="parse.field.value")
    return value

# SPDX-License-Identifier: GPL-3.0-or-later
"""The families of failure, by whose fault it is.

Three faults exist (docs/findings.md lists every code):

* ``UsageError``: our caller's (wrong order, missing trust anchor). Nobody catches it but ``main()``.
* ``EvidenceError``: the attester's (malformed or false evidence). Carries the findings.
* ``UnreachableError``: the surroundings' (TPM busy, host down, disk full). The part is absent.

``ParseError`` is what ``parse`` raises; ``check`` turns it into an ``EvidenceError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MAX_SHOWN_CHARS = 120
"""Hostile text is cut to this many characters before a person sees it."""


def shown(value: object) -> str:
    """Render ``value`` for a message: printable ASCII only, bounded length.

    Args:
        value: Anything; bytes are shown as lower-case hex.

    Returns:
        At most ``MAX_SHOWN_CHARS`` printable characters, with an ellipsis when cut.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        head = bytes(value[: MAX_SHOWN_CHARS // 2 + 1])
        text = head.hex()
    else:
        head_text = str(value)[: MAX_SHOWN_CHARS + 1]
        text = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in head_text)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


class VouchError(Exception):
    """Base of every error of this package. ``code`` is stable: never renamed, never reused."""

    code = "vouch.error"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        text = f"{self.message} [{self.code}]"
        return f"{text}. {self.hint}" if self.hint else text


class UsageError(VouchError):
    """Our caller's fault: an argument, an order of calls, a missing trust anchor."""

    code = "usage.invalid"


class UnreachableError(VouchError):
    """The surroundings' fault: we could not look. Never evidence for or against a host."""

    code = "unreachable"


class EvidenceError(VouchError):
    """The attester's fault. ``findings`` is never empty and says what was expected and found."""

    code = "evidence.invalid"

    def __init__(self, findings: Iterable[Any]) -> None:
        self.findings = tuple(findings)
        if not self.findings:
            raise UsageError("an EvidenceError needs at least one finding")
        first = self.findings[0]
        super().__init__(str(first), code=first.code)


class ParseError(VouchError, ValueError):
    """A byte string is not what its format says.

    Attributes:
        field: Dotted name of the field, e.g. ``"TCG_PCR_EVENT2.eventSize"``.
        offset_bytes: Where it begins in the input.
    """

    code = "parse.invalid"

    def __init__(self, field: str, offset_bytes: int, problem: str, *, code: str | None = None) -> None:
        super().__init__(f"{field} at byte {offset_bytes}: {problem}", code=code)
        self.field = field
        self.offset_bytes = offset_bytes
        self.problem = problem

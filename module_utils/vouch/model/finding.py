# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings: reasons as data. Sentences are made from them at the edge.

A code is never renamed and never reused; ``codes.py`` registers each with its meaning and document.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import EvidenceError, shown


class Severity(enum.Enum):
    """What a finding does to the verdict: nothing, warning, contraindicated."""

    NOTE = "note"
    WARN = "warn"
    DENY = "deny"


class Verdict(enum.Enum):
    """The tiers of EAR (draft-ietf-rats-ear, ear.status)."""

    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"
    NONE = "none"

    def __bool__(self) -> bool:
        raise TypeError("a Verdict has no truth value: compare it by name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locator:
    """Where in the evidence: the part, and the byte or entry inside it."""

    part: str
    offset_bytes: int | None = None
    entry: int | None = None

    def __str__(self) -> str:
        text = self.part
        if self.entry is not None:
            text += f" entry {self.entry}"
        if self.offset_bytes is not None:
            text += f" byte {self.offset_bytes}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason.

    Attributes:
        code: Stable dotted code, registered in ``codes.py``.
        severity: What it does to the verdict.
        subject: What was judged: ``"host"``, ``"pcr:4"``, ``"guest:<uuid>"``.
        where: Place in the evidence.
        expected: What a good machine shows, already printable.
        actual: What was found, already printable (use ``errors.shown`` on hostile text).
        source: Document, version, clause.
    """

    code: str
    severity: Severity
    subject: str
    where: Locator | None = None
    expected: str | None = None
    actual: str | None = None
    source: str = ""

    @classmethod
    def deny(
        cls,
        code: str,
        subject: str,
        expected: object = None,
        actual: object = None,
        *,
        where: Locator | None = None,
        source: str = "",
    ) -> Finding:
        """Return a DENY finding; values go through ``shown``, None stays away."""
        return cls(
            code=code,
            severity=Severity.DENY,
            subject=subject,
            where=where,
            expected=None if expected is None else shown(expected),
            actual=None if actual is None else shown(actual),
            source=source,
        )

    def __str__(self) -> str:
        text = f"{self.subject}: {self.code}"
        if self.where is not None:
            text += f" at {self.where}"
        parts = [("expected", self.expected), ("found", self.actual)]
        told = ", ".join(f"{word} {shown(value)}" for word, value in parts if value is not None)
        return f"{text}: {told}" if told else text

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; absent fields are left out."""
        out: dict[str, Any] = {"code": self.code, "severity": self.severity.value, "subject": self.subject}
        if self.where is not None:
            out["where"] = str(self.where)
        for name in ("expected", "actual"):
            value = getattr(self, name)
            if value is not None:
                out[name] = value
        if self.source:
            out["source"] = self.source
        return out


def deny(
    code: str,
    subject: str,
    *,
    expected: object = None,
    actual: object = None,
    where: Locator | None = None,
    source: str = "",
) -> EvidenceError:
    """Return (not raise) the ``EvidenceError`` with one DENY finding; values go through ``shown``."""
    return EvidenceError([Finding.deny(code, subject, expected, actual, where=where, source=source)])


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that ``findings`` leave of an otherwise proven part; they can only worsen it."""
    severities = {finding.severity for finding in findings}
    if Severity.DENY in severities:
        return Verdict.CONTRAINDICATED
    if Severity.WARN in severities:
        return Verdict.WARNING
    return Verdict.AFFIRMING

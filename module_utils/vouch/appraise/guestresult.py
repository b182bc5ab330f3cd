# SPDX-License-Identifier: GPL-3.0-or-later
"""What an appraisal found of one guest: a part of the host's result, with a verdict of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..model.finding import Finding, Severity, Verdict, verdict_of
from ..model.gueststate import GUEST_ID, MAX_NAME_CHARS, GuestRecord
from ..parse.fields import Fields
from .findingjson import finding_json, read_finding

MAX_FINDINGS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestResult:
    """One guest.

    Attributes:
        guest: Its id on the host.
        verdict: AFFIRMING and WARNING only for a guest that is up and checked; NONE for one that is not yet, or paused.
        findings: Reasons, in the order found.
        record: What the host stated of it; None when it stated nothing.
    """

    guest: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    record: GuestRecord | None

    def __post_init__(self) -> None:
        rank = (Verdict.AFFIRMING, Verdict.WARNING, Verdict.NONE, Verdict.CONTRAINDICATED)
        least = verdict_of(self.findings)
        if rank.index(self.verdict) < rank.index(least) or (
            self.verdict is Verdict.CONTRAINDICATED and least is not Verdict.CONTRAINDICATED
        ):
            raise UsageError("the verdict of a guest follows from its findings", code="result.verdict")

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the findings that made the verdict worse, in the order found, none twice."""
        return tuple(dict.fromkeys(item.code for item in self.findings if item.severity is not Severity.NOTE))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "guest": self.guest,
            "verdict": self.verdict.value,
            "findings": [finding_json(item) for item in self.findings],
            "record": None if self.record is None else self.record.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any) -> GuestResult:
        """Return the result of a JSON value.

        Raises:
            ParseError: for an unknown, missing or malformed member.
            UsageError: when the verdict does not follow from the findings.
        """
        fields = Fields(value, "result.guests")
        record = fields.take("record")
        result = cls(
            guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
            verdict=Verdict(fields.choice("verdict", *(item.value for item in Verdict))),
            findings=tuple(read_finding(item) for item in fields.array("findings", maximum=MAX_FINDINGS)),
            record=None if record is None else GuestRecord.from_json(record),
        )
        fields.done()
        return result

# SPDX-License-Identifier: GPL-3.0-or-later
"""The attestation result: a verdict that names what it was made from and when it stops to count.

Same evidence, same references, same time: same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UnreachableError, UsageError
from ..model.finding import Finding, Severity, Verdict, verdict_of
from ..model.gueststate import MAX_GUESTS
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields
from .findingjson import MAX_CODE_CHARS, MAX_SHOWN_CHARS, finding_json, optional_integer, optional_text, read_finding
from .guestresult import GuestResult

RESULT_TYPE = "urn:vouch:attestation-result:1"

MAX_RESULT_BYTES = 4 << 20
MAX_FINDINGS = 1024

STAGES = ("evidence", "identity", "quote", "counters", "boot", "logs", "contents", "roti", "channel", "guests")
"""The appraisal order. A result names the stage it stopped at, or ``done``."""

DONE = "done"
UNREACHED = "unreached"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What one appraisal found. ``None`` in a field: the appraisal did not come that far.

    Attributes:
        host_id: Which host was asked.
        verdict: Follows from ``findings`` and ``stage``.
        stage: Where the appraisal stopped: one of ``STAGES``, ``done``, or ``unreached`` when nobody could look.
        findings: Reasons, in the order found.
        nonce: The asker's nonce, empty when unreached.
        evidence_digest: SHA-256 of the evidence as received.
        policy_digest: SHA-256 that names the policy.
        ak_name: TPM name of the key that signed.
        release_id: Release the host was judged against.
        release_name: Its name, for people.
        variant: ``production`` or ``debug``.
        pcr4_expected: PCR 4 after a boot without failed attempts.
        pcr4_found: PCR 4 as quoted.
        ima_entries: Measurements judged up to now, in this boot.
        guests: Its guests, in the order of their ids, each with a verdict of its own, which does not touch the host's.
        issued_at_s: Unix seconds: when the nonce was made, or when nobody could be reached.
        expires_at_s: Unix seconds; from then on the result reads as expired.
    """

    host_id: str
    verdict: Verdict
    stage: str
    findings: tuple[Finding, ...]
    nonce: bytes
    evidence_digest: bytes | None
    policy_digest: bytes
    ak_name: bytes | None = None
    release_id: bytes | None = None
    release_name: str | None = None
    variant: str | None = None
    pcr4_expected: bytes | None = None
    pcr4_found: bytes | None = None
    ima_entries: int | None = None
    guests: tuple[GuestResult, ...] = ()
    issued_at_s: int
    expires_at_s: int

    def __post_init__(self) -> None:
        if self.stage not in (*STAGES, DONE, UNREACHED):
            raise UsageError(f"no stage {self.stage!r}")
        if self.expires_at_s <= self.issued_at_s:
            raise UsageError("a result expires after it was issued")
        if self.verdict is not _verdict(self.stage, self.findings):
            raise UsageError("the verdict of a result follows from its findings", code="result.verdict")

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the findings that made the verdict worse, in the order found, none twice."""
        return tuple(dict.fromkeys(item.code for item in self.findings if item.severity is not Severity.NOTE))

    def expired(self, now_s: int) -> bool:
        """Say whether the result stopped to count."""
        return now_s >= self.expires_at_s

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; absent values are null."""
        return {
            "type": RESULT_TYPE,
            "host_id": self.host_id,
            "verdict": self.verdict.value,
            "stage": self.stage,
            "findings": [finding_json(item) for item in self.findings],
            "nonce": self.nonce.hex(),
            "evidence_sha256": _hex(self.evidence_digest),
            "policy_sha256": self.policy_digest.hex(),
            "ak_name": _hex(self.ak_name),
            "release_id": _hex(self.release_id),
            "release_name": self.release_name,
            "variant": self.variant,
            "pcr4": {"expected": _hex(self.pcr4_expected), "found": _hex(self.pcr4_found)},
            "ima_entries": self.ima_entries,
            "guests": [guest.to_json() for guest in self.guests],
            "issued_at": self.issued_at_s,
            "expires_at": self.expires_at_s,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> AttestationResult:
        """Return the result of its JSON form.

        Raises:
            ParseError: for an unknown, missing or malformed member.
            UsageError: when the verdict does not follow from the findings.
        """
        fields = Fields(load_json(data, limit_bytes=MAX_RESULT_BYTES), "result")
        fields.literal("type", RESULT_TYPE)
        pcr4 = fields.object("pcr4")
        result = cls(
            host_id=fields.uuid("host_id"),
            verdict=Verdict(fields.choice("verdict", *(item.value for item in Verdict))),
            stage=fields.choice("stage", *STAGES, DONE, UNREACHED),
            findings=tuple(read_finding(item) for item in fields.array("findings", maximum=MAX_FINDINGS)),
            nonce=fields.hex("nonce", 32, empty=True),
            evidence_digest=_optional_hex(fields, "evidence_sha256", 32),
            policy_digest=fields.hex("policy_sha256", 32),
            ak_name=_optional_hex(fields, "ak_name", 34),
            release_id=_optional_hex(fields, "release_id", 32),
            release_name=optional_text(fields, "release_name"),
            variant=optional_text(fields, "variant"),
            pcr4_expected=_optional_hex(pcr4, "expected", 32),
            pcr4_found=_optional_hex(pcr4, "found", 32),
            ima_entries=optional_integer(fields, "ima_entries"),
            # Twice as many as can be stated: the log may name others.
            guests=tuple(GuestResult.from_json(item) for item in fields.array("guests", maximum=2 * MAX_GUESTS)),
            issued_at_s=fields.integer("issued_at"),
            expires_at_s=fields.integer("expires_at"),
        )
        pcr4.done()
        fields.done()
        return result


def unreachable_result(
    host_id: str, error: UnreachableError, *, policy_digest: bytes, issued_at_s: int, ttl_s: int
) -> AttestationResult:
    """Return the result for a host that could not be looked at: verdict NONE, never evidence for or against it."""
    code = error.code[:MAX_CODE_CHARS] or UnreachableError.code
    finding = Finding(code=code, severity=Severity.NOTE, subject="host", actual=_readable(error.message))
    return AttestationResult(
        host_id=host_id,
        verdict=Verdict.NONE,
        stage=UNREACHED,
        findings=(finding,),
        nonce=b"",
        evidence_digest=None,
        policy_digest=policy_digest,
        issued_at_s=issued_at_s,
        expires_at_s=issued_at_s + ttl_s,
    )


def _readable(message: str) -> str:
    """Return a message as a result can hold it; what already is such a one is not changed."""
    text = message.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def _verdict(stage: str, findings: tuple[Finding, ...]) -> Verdict:
    if stage == UNREACHED:
        return Verdict.NONE
    verdict = verdict_of(findings)
    if stage != DONE and verdict is not Verdict.CONTRAINDICATED:
        raise UsageError("an appraisal stops early only at a finding that denies", code="result.stage")
    return verdict


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _optional_hex(fields: Fields, name: str, size_bytes: int) -> bytes | None:
    value = fields.take(name)
    return None if value is None else fields.decode_hex(name, value, size_bytes)

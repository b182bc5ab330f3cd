# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found of a bundle, as plain text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..appraise.anchors import APPRAISER, INSTALLER, PACKAGES, RELEASE, Claim, Hold
from ..appraise.chain import Step, chain
from ..appraise.recheck import Outcome, Recheck
from ..errors import shown
from ..model.codes import CODES
from ..model.finding import Finding
from ..port.clock import utc_text

OPTIONS = {
    APPRAISER: "--appraiser-key",
    RELEASE: "--release-key",
    INSTALLER: "--installer-pcr4",
    PACKAGES: "--package-key",
}
"""Claim to the option that would carry it."""

_SENTENCES = {
    Outcome.PROVEN: "PROVEN: the host was affirming at that time, by what you trust",
    Outcome.REFUSED: "NOT AFFIRMING: the bundle is true, and the host was not affirming",
    Outcome.FALSE: "FALSE: the bundle was altered, or is not what you trust",
}


def time_text(time_s: int) -> str:
    """Return a time for people; one that no calendar has stays a number."""
    try:
        return utc_text(time_s)
    except (ValueError, OverflowError, OSError):
        return f"{time_s} s"


def standing(found: Recheck, at_s: int) -> str:
    """Return how the recorded result stands at a time: ``future``, ``counts`` or ``expired``."""
    result = found.parts.result
    if result.expired(at_s):
        return "expired"
    return "future" if at_s < result.issued_at_s else "counts"


def report_lines(found: Recheck, *, name: str, at_s: int, why: bool) -> Iterator[str]:
    """Yield the lines of a report.

    Args:
        found: What was found.
        name: What the bundle is called.
        at_s: The time that the result is held against, Unix seconds.
        why: Tell every step.
    """
    result, bundle = found.parts.result, found.parts.bundle
    yield f"bundle    {name}: {len(bundle.parts)} parts, {bundle.size_bytes:,} bytes"
    yield f"host      {result.host_id}"
    yield f"verdict   {result.verdict.value}, stage {result.stage}{_reasons(result.findings)}"
    if (found.again.verdict, found.again.stage) != (result.verdict, result.stage):
        yield f"          but made anew: {found.again.verdict.value}, stage {found.again.stage}"
    yield f"policy    {found.parts.policy.name}, sha256 {result.policy_digest.hex()}"
    yield f"issued    {time_text(result.issued_at_s)}"
    yield f"expires   {time_text(result.expires_at_s)}: {_standing_text(found, at_s)}"
    for guest in result.guests:
        yield f"guest     {guest.guest}: {guest.verdict.value}{_reasons(guest.findings)}"
    yield "claims"
    for claim in found.claims:
        yield f"  {claim.name:<10} {claim_text(claim):<13} {claim.by}{_option(claim)}"
    for finding in found.findings:
        yield from finding_lines(finding, "  ")
    if why:
        for number, step in enumerate(chain(found), 1):
            yield ""
            yield from step_lines(number, step)
        yield ""
    yield f"outcome   {outcome_text(found)}"


def outcome_text(found: Recheck) -> str:
    """Return what the bundle is worth, in one line."""
    if found.outcome is not Outcome.UNANCHORED:
        return _SENTENCES[found.outcome]
    missing = [claim.name for claim in found.claims if claim.hold is Hold.MISSING]
    if len(missing) == len(found.claims):
        return "NOT ANCHORED: self-consistent, nothing anchored; anybody could have made this bundle up"
    return f"NOT ANCHORED: self-consistent, but nothing given carries: {', '.join(missing)}"


def report_json(found: Recheck, *, at_s: int, exit_code: int) -> dict[str, Any]:
    """Return the same for programs."""
    result = found.parts.result
    return {
        "outcome": found.outcome.value,
        "exit_code": exit_code,
        "host_id": result.host_id,
        "verdict": result.verdict.value,
        "stage": result.stage,
        "reasons": list(result.codes),
        "again": {"verdict": found.again.verdict.value, "stage": found.again.stage},
        "policy_sha256": result.policy_digest.hex(),
        "issued_at": result.issued_at_s,
        "expires_at": result.expires_at_s,
        "at": at_s,
        "standing": standing(found, at_s),
        "claims": [
            {"claim": claim.name, "hold": claim.hold.value, "by": claim.by, "option": OPTIONS.get(claim.name)}
            for claim in found.claims
        ],
        "guests": [
            {"guest": guest.guest, "verdict": guest.verdict.value, "reasons": list(guest.codes)}
            for guest in result.guests
        ],
        "findings": [finding.as_dict() for finding in found.findings],
        "steps": [step_json(step) for step in chain(found)],
    }


def false_json(findings: Iterable[Finding], *, exit_code: int) -> dict[str, Any]:
    """Return the JSON of a bundle that cannot even be read."""
    return {
        "outcome": Outcome.FALSE.value,
        "exit_code": exit_code,
        "findings": [finding.as_dict() for finding in findings],
    }


def _standing_text(found: Recheck, at_s: int) -> str:
    at = time_text(at_s)
    return {
        "expired": f"EXPIRED at {at}. It says what was true then, and nothing since",
        "future": f"issued AFTER {at}. One of the two clocks is wrong",
        "counts": f"counts at {at}",
    }[standing(found, at_s)]


def _reasons(findings: Iterable[Finding]) -> str:
    codes = ", ".join(dict.fromkeys(item.code for item in findings))
    return f" ({codes})" if codes else ""


def claim_text(claim: Claim) -> str:
    """Return how a claim stands."""
    return {Hold.HELD: "anchored", Hold.MISSING: "not anchored", Hold.REFUTED: "REFUTED"}[claim.hold]


def _option(claim: Claim) -> str:
    return f" ({OPTIONS[claim.name]})" if claim.hold is Hold.MISSING and claim.name in OPTIONS else ""


def step_lines(number: int, step: Step) -> Iterator[str]:
    """Yield one step."""
    yield f"{number:>2}. {step.name:<12} {step.state.value.upper():<12} {step.checked}"
    for word, text in (("against", step.against), ("expected", step.expected), ("found", step.found)):
        if text:
            yield f"      {word:<9} {text}"
    for finding in step.findings:
        yield from finding_lines(finding, "      ")
    yield f"      {'see':<9} {step.source}"


def finding_lines(finding: Finding, indent: str) -> Iterator[str]:
    """Yield one finding, with what its code means."""
    yield f"{indent}{finding.severity.value:<9} {finding}"
    # A code out of a bundle may be one that nobody registered.
    entry = CODES.get(finding.code)
    if entry is not None:
        yield f"{indent}          {entry.meaning}"


def step_json(step: Step) -> dict[str, Any]:
    """Return one step for programs."""
    return {
        "step": step.name,
        "state": step.state.value,
        "checked": step.checked,
        "against": step.against,
        "expected": shown(step.expected),
        "found": shown(step.found),
        "source": step.source,
        "findings": [finding.as_dict() for finding in step.findings],
    }

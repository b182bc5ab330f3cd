# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest packages for the page: what each says about its SELinux policy, and who has checked that.

A package states the counts; the reasons stand in the proof, which is there only where somebody had the package's
files. What is stated and not checked here is called *stated*: hosts check it before each start.

Source: docs/cwlite.md; docs/guests.md.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..model.finding import Finding, Severity, Verdict
from ..model.integrity import Entry, Filter
from ..model.package import POLICY, PROOF, GuestPackage
from .standing import VERDICTS, Standing, Tone
from .summary import Place
from .view import FleetInput, Limits, PackageInput, PolicySize


class Claim(enum.Enum):
    """What is known of a package's information flow."""

    HOLDS = "holds"
    STATED = "stated"
    BROKEN = "does not hold"
    UNKNOWN = "not known"


TONES: Mapping[Claim, tuple[Tone, str, str]] = {
    Claim.HOLDS: (Tone.GOOD, "✓", "the proof was checked against the policy for this page"),
    Claim.STATED: (Tone.OPEN, "-", "the package says so; hosts check the proof before each start"),
    Claim.BROKEN: (Tone.BAD, "✕", "the proof does not hold, or is not for this policy"),
    Claim.UNKNOWN: (Tone.OPEN, "?", "the package was not given to this page, or cannot be read"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """One package.

    Attributes:
        package_id: SHA-256 of the signed file.
        package: What it says; None when it is not known.
        claim: What is known of its information flow.
        verdict: Of the package as a whole; None when it is not known.
        signed: Whether a key that the reader trusts signed it.
        findings: What speaks against it.
        filters: Declared filters, where the proof is there.
        filters_left_out: How many more there are.
        entries: Declared entries, likewise.
        entries_left_out: How many more there are.
        unused: Filters that nothing needs; None where the proof is not there.
        trusted: Trusted subject types; None where the proof is not there.
        size: Size of the policy; None where nobody read it.
        guests: Guests that run it by results that count now.
        guests_then: Guests of it in results that do not count now.
    """

    package_id: bytes
    package: GuestPackage | None
    claim: Claim
    verdict: Standing | None
    signed: bool
    findings: tuple[Finding, ...]
    filters: tuple[Filter, ...]
    filters_left_out: int
    entries: tuple[Entry, ...]
    entries_left_out: int
    unused: int | None
    trusted: int | None
    size: PolicySize | None
    guests: int
    guests_then: int


def flows_of(fleet: FleetInput, places: tuple[Place, ...], limits: Limits) -> tuple[tuple[Flows, ...], int]:
    """Return the packages that are given or run, those in use first, and how many are left out."""
    now, then = _in_use(places)
    ids = sorted(
        {*fleet.packages, *now, *then},
        key=lambda item: (not _is_broken(fleet.packages.get(item)), -now[item], -then[item], item),
    )
    told = tuple(
        _flows(item, fleet.packages.get(item), now[item], then[item], limits) for item in ids[: limits.packages]
    )
    return told, max(0, len(ids) - limits.packages)


def _in_use(places: tuple[Place, ...]) -> tuple[Counter[bytes], Counter[bytes]]:
    now: Counter[bytes] = Counter()
    then: Counter[bytes] = Counter()
    for place in places:
        for guest in () if place.host.result is None else place.host.result.guests:
            if guest.record is not None:
                (now if place.current else then)[guest.record.package] += 1
    return now, then


def _flows(package_id: bytes, given: PackageInput | None, now: int, then: int, limits: Limits) -> Flows:
    report = None if given is None else given.report
    proof = None if report is None else report.proof
    filters = () if proof is None else proof.intent.filters
    entries = () if proof is None else proof.intent.entries
    return Flows(
        package_id=package_id,
        package=None if report is None else report.package,
        claim=_claim(given),
        verdict=None if report is None else VERDICTS[report.verdict],
        signed=report is not None and bool(report.keyid),
        findings=() if report is None else report.findings[: limits.findings],
        filters=filters[: limits.filters],
        filters_left_out=max(0, len(filters) - limits.filters),
        entries=entries[: limits.filters],
        entries_left_out=max(0, len(entries) - limits.filters),
        unused=None if proof is None else proof.unused_filters,
        trusted=None if proof is None else len(proof.intent.high),
        size=None if given is None else given.size,
        guests=now,
        guests_then=then,
    )


def _is_broken(given: PackageInput | None) -> bool:
    return given is not None and (given.report.verdict is Verdict.CONTRAINDICATED or _claim(given) is Claim.BROKEN)


def _claim(given: PackageInput | None) -> Claim:
    if given is None or given.report.package is None:
        return Claim.UNKNOWN
    if given.report.proof is not None:
        return Claim.HOLDS
    return Claim.BROKEN if any(_on_policy(item) for item in given.report.findings) else Claim.STATED


def _on_policy(finding: Finding) -> bool:
    """Say whether a finding speaks against policy or proof; a file that is missing speaks neither for nor against."""
    if finding.severity is not Severity.DENY or finding.code == "package.part.missing":
        return False
    about = finding.subject.rpartition("/")[2]
    return finding.code.startswith(("proof.", "package.policy.", "package.service.")) or about in (POLICY, PROOF)

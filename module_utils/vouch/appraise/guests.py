# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of one host: its statement against its own log, and both against the packages.

Both are proven to be the host's by then: the statement is under the quote, the log replays to PCR 14. The log counts
more, since nobody can take back what it says.

1. Each guest that lives by the log is stated, each stated one lives by the log, and both agree.
2. Its package is one of those that were given, and the policy lists it.
3. What the host states of it is what the package says.
4. It is the package that the guest is meant to run, where that is recorded, or the next one within its time.
5. Nothing in the log speaks against it.
6. It was checked lately.
7. It is worth no more than its host.

A guest that is coming up, or paused by order, has verdict NONE: nothing speaks against it, and nothing for it.

Source: docs/proof.md, "Guests".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from ..check.guestevents import GuestLife
from ..check.packagerules import VerifiedPackage
from ..errors import EvidenceError, shown
from ..model.finding import Finding, Severity, Verdict, verdict_of
from ..model.guestreference import GuestReference
from ..model.gueststate import HOLDS, RUNNING, UP, GuestRecord
from ..model.image import DEBUG
from .guestresult import GuestResult
from .policy import AppraisalPolicy
from .references import References

SOURCE = "docs/proof.md, guests"


def appraise_guests(
    stated: Sequence[GuestRecord],
    lives: Mapping[str, GuestLife],
    *,
    references: References,
    host_verdict: Verdict,
    host_time_s: int,
    meant: Mapping[str, GuestReference],
    now_s: int,
) -> tuple[GuestResult, ...]:
    """Return a result for each guest that is stated or lives by the log, in the order of their ids.

    Args:
        stated: Guests of the quoted statement.
        lives: From the log (``check.guestevents``); empty when it did not replay.
        references: Policy and packages.
        host_verdict: What was found of the host.
        host_time_s: The host's clock in the same statement: ages are differences of that one clock.
        meant: Packages that guests of this host are meant to run; a guest that is not in it may run any accepted one.
        now_s: Unix seconds of this machine: until when a next package is expected.
    """
    records = {record.id: record for record in stated}
    judge = functools.partial(_appraise, references=references, host_verdict=host_verdict, host_time_s=host_time_s)
    return tuple(
        judge(guest, records.get(guest), lives.get(guest), meant=meant.get(guest), now_s=now_s)
        for guest in sorted(records.keys() | lives.keys())
    )


def _appraise(
    guest: str,
    record: GuestRecord | None,
    life: GuestLife | None,
    *,
    references: References,
    host_verdict: Verdict,
    host_time_s: int,
    meant: GuestReference | None,
    now_s: int,
) -> GuestResult:
    judge = _Judge(guest, references.policy)
    findings: list[Finding] = []
    if host_verdict is Verdict.CONTRAINDICATED:
        findings.append(judge.finding("guest.host.contraindicated", "a host that is proven", host_verdict.value))
    else:
        findings += judge.log(record, life)
        if record is not None:
            findings += judge.package(record, references)
            findings += judge.meant(record, meant, now_s)
            findings += judge.check(record, host_time_s)
    verdict = verdict_of(findings)
    if verdict is not Verdict.CONTRAINDICATED:
        if record is None or (record.verdict, record.phase, record.state) != (HOLDS, UP, RUNNING):
            verdict = Verdict.NONE
        elif host_verdict is not Verdict.AFFIRMING:
            # A debug host: whoever has its shell can write the guest's memory.
            verdict = host_verdict
    return GuestResult(guest=guest, verdict=verdict, findings=tuple(findings), record=record)


class _Judge:
    """Findings on one guest."""

    def __init__(self, guest: str, policy: AppraisalPolicy) -> None:
        self._subject = f"guest:{guest}"
        self._policy = policy

    def finding(
        self, code: str, expected: object, actual: object, severity: Severity = Severity.DENY, source: str = SOURCE
    ) -> Finding:
        """Return a finding."""
        return Finding(
            code=code,
            severity=severity,
            subject=self._subject,
            expected=shown(expected),
            actual=shown(actual),
            source=source,
        )

    def log(self, record: GuestRecord | None, life: GuestLife | None) -> Iterator[Finding]:
        """Yield findings on statement and log (steps 1 and 5)."""
        if life is None:
            yield self.finding("guest.statement.launch", "a launch in the log", "none")
            return
        yield from life.findings
        for code in life.violations:
            yield self.finding("guest.log.violation", "no violation since its launch", code)
        if record is None:
            yield self.finding("guest.statement.missing", f"package {life.package}", "no statement about it")
            return
        told: tuple[tuple[str, object, object], ...] = (
            ("package", life.package, record.package.hex()),
            ("kind of domain", life.kind, record.kind),
            ("counter", life.counter, record.counter),
            ("violations", ", ".join(sorted(life.violations)) or "none", ", ".join(record.violations) or "none"),
        )
        for what, logged, said in told:
            if logged != said:
                yield self.finding("guest.statement.mismatch", f"{what} {logged}", f"{what} {said}")

    def package(self, record: GuestRecord, references: References) -> Iterator[Finding]:
        """Yield findings on the package and what is stated of it (steps 2 and 3)."""
        try:
            verified: VerifiedPackage = references.find_package(record.package, subject=self._subject)
        except EvidenceError as error:
            yield from error.findings
            return
        package = verified.package
        told: tuple[tuple[str, object, object], ...] = (
            ("name", package.name, record.name),
            ("variant", package.variant, record.variant),
            ("root hash", package.verity.root_hash.hex(), record.verity_root.hex()),
            ("policy", package.policy.sha256.hex(), record.policy.hex()),
        )
        for what, expected, actual in told:
            if expected != actual:
                yield self.finding("guest.package.mismatch", f"{what} {expected}", f"{what} {actual}")
        if record.kind not in package.resources.types:
            expected = f"kind of domain {' or '.join(package.resources.types)}"
            yield self.finding("guest.package.mismatch", expected, record.kind)
        if package.variant == DEBUG:
            severity = Severity.WARN if self._policy.allow_debug else Severity.DENY
            yield self.finding("package.debug", "a production package", "a debug package", severity)

    def meant(self, record: GuestRecord, meant: GuestReference | None, now_s: int) -> Iterator[Finding]:
        """Yield findings on which package it is meant to run (step 4)."""
        if meant is None or record.package == meant.package:
            return
        ahead = meant.next
        if record.package in meant.retired:
            yield self.finding("guest.package.retired", meant.package, record.package)
        elif ahead is None or ahead.package != record.package:
            yield self.finding("guest.package.unexpected", meant.package, record.package)
        elif now_s >= ahead.until_s:
            yield self.finding("guest.package.window", f"before {ahead.until_s}", now_s)
        else:
            yield self.finding("guest.package.next", meant.package, record.package, Severity.NOTE)

    def check(self, record: GuestRecord, host_time_s: int) -> Iterator[Finding]:
        """Yield findings on when and how far it was checked (step 6)."""
        if record.state == RUNNING and not record.rounds:
            yield self.finding("guest.check.missing", "a round of checks before it ran", "none")
        elif record.state == "paused":
            yield self.finding("guest.paused", "a guest that runs", "paused by order", Severity.NOTE)
        elif record.verdict != HOLDS or record.phase != UP:
            yield self.finding("guest.check.pending", "a guest that is up", record.phase, Severity.NOTE)
        age_s = host_time_s - record.checked_at_s
        limit_s = self._policy.guest_max_age_s
        if record.state == RUNNING and record.rounds and not -limit_s <= age_s <= limit_s:
            yield self.finding("guest.check.stale", f"checked in the last {limit_s} s", f"{age_s} s ago")

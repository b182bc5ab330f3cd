# SPDX-License-Identifier: GPL-3.0-or-later
"""One host's evidence against enrolment, releases and policy: the whole appraisal, in its order.

 1. evidence   the container is well formed
 2. identity   the host is enrolled, and with an attestation key that cannot sign anything but what its TPM made
 3. quote      asked less than a result's life ago; signature, TPM_GENERATED, type, signer, our nonce and the statement
               by inclusion, selection, values; the statement is this host's
 4. counters   clock and counters of the TPM did not go backwards
 5. boot       the stated release is one we accept; PCR 4 is that release's; the firmware registers are the baseline
 6. logs       the VM verifier's log replays to PCR 14, the measurement list to PCR 10
 7. contents   every event and every measurement is accounted for
 8. roti       the installer proved what it wrote, and each release since then what it was updated to
 9. channel    the key we spoke to is the one stated and the one enrolled; left out for evidence that was relayed
10. guests     each has a verdict of its own (``appraise.guests``), which does not touch the host's

A stage reports all it finds; the first stage that denies is the last one. Nothing is parsed before what covers it is
verified: the logs come after the registers they replay to.

The caller still owes: a nonce of its own, random, used once, and the truth about when it was made.

Source: docs/proof.md, "Appraisal"; RFC 9334, 7; RFC 9683, 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..check.bootpcrs import check_baseline, check_pcr4, pcr4_values
from ..check.eventlog14 import check_events, replay_log
from ..check.guestevents import guest_lives
from ..check.identity import check_ak_public
from ..check.imarules import ReplayedIma, check_ima, replay_ima
from ..check.quote import VerifiedQuote, verify_quote
from ..check.releases import VerifiedRelease
from ..check.updateproof import verify_updates
from ..errors import EvidenceError, ParseError, UsageError, shown
from ..model.boot import boot_aggregate
from ..model.digest import sha256
from ..model.enrolment import FIRMWARE_PCRS, FIRST_BOOT_PCRS, Enrolment
from ..model.evidence import Evidence
from ..model.finding import Finding, Severity, Verdict, deny, verdict_of
from ..model.ima import IMA_PCR, ImaResume
from ..model.image import DEBUG
from ..model.key import AkPublic
from ..model.statement import HostStatement
from ..parse.cel import CelRecord
from .guestresult import GuestResult
from .guests import appraise_guests
from .references import Reference, References
from .result import DONE, AttestationResult

COUNTER_CODES = frozenset({"quote.clock.backwards", "quote.statement.clock"})
"""Denials of the quote check that are about time: they belong to stage 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAppraisal:
    """What one appraisal leaves.

    Attributes:
        result: The result.
        enrolment: What to store with it: advanced when the evidence was accepted, else None.
        stated_release: Id of the release that the host stated under its quote, accepted or not; empty when it stated
            none, or when the appraisal did not come that far. Who is to check the result again needs that release.
        former: Ids of the other releases that were asked for: what the host was installed with and updated to. Who is
            to check the result again needs those that there are, too.
        statement: What the quote covers of the host and its guests; None when the appraisal did not come that far.
    """

    result: AttestationResult
    enrolment: Enrolment | None
    stated_release: bytes = b""
    former: frozenset[bytes] = frozenset()
    statement: HostStatement | None = None


def appraise_host(
    data: bytes,
    *,
    host_id: str,
    nonce: bytes,
    channel_key: str | None,
    enrolment: Enrolment | None,
    references: References,
    now_s: int,
    asked_at_s: int | None = None,
) -> HostAppraisal:
    """Return the result for one host.

    Args:
        data: Evidence as received.
        host_id: The host that was asked.
        nonce: The 32 bytes it was asked with.
        channel_key: Host key of the SSH connection the evidence came through (``ssh-ed25519 AAAA...``). None where it
            came by a relay: then stage 9 says nothing, and the caller binds the evidence to a channel (``peer``).
        enrolment: What is known of the host; None when it is not enrolled.
        references: Policy and releases.
        now_s: Unix seconds.
        asked_at_s: When the nonce was made, Unix seconds; None means now. The result counts from then on, so evidence
            that was put aside does not become fresh by being judged later.

    Returns:
        A result with verdict AFFIRMING, WARNING or CONTRAINDICATED, never NONE: there is evidence.

    Raises:
        UsageError: for an enrolment of another host, a nonce of another length, or one made in the future.

    Trust: ``data`` is the attester's.
    """
    if enrolment is not None and enrolment.host_id != host_id:
        raise UsageError(f"the enrolment of {enrolment.host_id} is not that of {host_id}")
    asked_at_s = now_s if asked_at_s is None else asked_at_s
    if asked_at_s > now_s:
        raise UsageError("the nonce was made in the future", hint="was the clock of this machine set back?")
    return _Appraisal(data, host_id, nonce, channel_key, enrolment, references, now_s, asked_at_s).run()


class _Appraisal:
    """The state between stages. Each stage reads what earlier ones proved and returns its findings, or raises."""

    evidence: Evidence
    known: Enrolment
    ak: AkPublic
    quote: VerifiedQuote
    reference: Reference
    records: tuple[CelRecord, ...]
    ima: ReplayedIma

    def __init__(
        self,
        data: bytes,
        host_id: str,
        nonce: bytes,
        channel_key: str | None,
        enrolment: Enrolment | None,
        references: References,
        now_s: int,
        asked_at_s: int,
    ) -> None:
        self.data, self.host_id, self.nonce, self.channel_key = data, host_id, nonce, channel_key
        self.enrolment, self.references, self.now_s = enrolment, references, now_s
        self.asked_at_s = asked_at_s
        self.policy = references.policy
        self.expires_at_s = asked_at_s + self.policy.ttl_s
        self.findings: list[Finding] = []
        self.needed: set[bytes] = set()

    def run(self) -> HostAppraisal:
        plan: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
            ("evidence", self.read_evidence),
            ("identity", self.check_identity),
            ("quote", self.check_quote),
            ("boot", self.check_boot),
            ("logs", self.replay_logs),
            ("contents", self.check_contents),
            ("roti", self.check_roti),
            ("channel", self.check_channel),
        )
        for stage, judge in plan:
            try:
                found = tuple(judge())
            except EvidenceError as error:
                found = error.findings
            self.findings.extend(found)
            if any(item.severity is Severity.DENY for item in found):
                counters = stage == "quote" and found[0].code in COUNTER_CODES
                return self.appraisal("counters" if counters else stage)
        return self.appraisal(DONE)

    def appraisal(self, stage: str) -> HostAppraisal:
        quote, result = getattr(self, "quote", None), self.result(stage)
        statement = None if quote is None else quote.statement
        stated = b"" if statement is None else statement.release_id
        return HostAppraisal(
            result=result,
            enrolment=self.advanced(result.guests) if stage == DONE else None,
            stated_release=stated,
            former=frozenset(self.needed - {stated}),
            statement=statement,
        )

    # Stage 1.
    def read_evidence(self) -> Iterable[Finding]:
        try:
            self.evidence = Evidence.from_bytes(self.data)
        except ParseError as error:
            raise deny("evidence.malformed", "host", expected=error.field, actual=error.problem) from None
        return ()

    # Stage 2.
    def check_identity(self) -> Iterable[Finding]:
        if self.enrolment is None:
            raise deny("ak.unknown", "host", expected="an enrolled attestation key", actual=f"host {self.host_id}")
        self.known = self.enrolment
        self.ak = check_ak_public(self.known.ak_public)
        return ()

    # Stages 3 and 4.
    def check_quote(self) -> Iterable[Finding]:
        if self.now_s >= self.expires_at_s:
            waited = f"{self.now_s - self.expires_at_s + self.policy.ttl_s} s ago"
            raise deny(
                "quote.nonce.stale", "quote", expected=f"asked less than {self.policy.ttl_s} s ago", actual=waited
            )
        self.quote = verify_quote(
            ak=self.ak,
            nonce=self.nonce,
            selection=self.policy.selection,
            evidence=self.evidence,
            last=self.known.counters,
        )
        stated = self.quote.statement.host_id
        if stated != self.known.host_id:
            raise deny("statement.host.mismatch", "host", expected=self.known.host_id, actual=stated)
        return self.quote.findings

    # Stage 5.
    def check_boot(self) -> Iterable[Finding]:
        stated = self.quote.statement.release_id
        if stated in self.known.retired:
            # Before anything else: it may be signed, and known, and still there must be no way back to it.
            raise deny("release.retired", "host", expected=self.known.release_id, actual=stated)
        self.reference = self.references.find(stated)
        release = self.reference.verified.release
        found = self.check_expected(stated)
        if release.variant == DEBUG:
            severity = Severity.WARN if self.policy.allow_debug else Severity.DENY
            found.append(_finding("release.debug", "production", release.variant, severity))
        found += check_pcr4(
            self.quote.bank,
            authenticode_sha256=release.authenticode_sha256,
            max_failed_attempts=self.policy.max_failed_boot_attempts,
            others=self.references.names,
        )
        found += check_baseline(self.quote.bank, self.known.baseline)
        return found

    def check_expected(self, stated: bytes) -> list[Finding]:
        """Hold the stated release against the one that is meant to run, and the one of an update that is being made."""
        ahead = self.known.next
        if stated == self.known.release_id:
            return []
        if ahead is None or ahead.release_id != stated:
            return [_finding("release.unexpected", self.known.release_id, stated)]
        if self.now_s >= ahead.until_s:
            return [_finding("release.window", f"before {ahead.until_s}", self.now_s)]
        return [_finding("release.next", self.known.release_id, stated, Severity.NOTE)]

    # Stage 6.
    def replay_logs(self) -> Iterable[Finding]:
        found: list[Finding] = []
        for judge in (self.replay_event_log, self.replay_measurements):
            try:
                judge()
            except EvidenceError as error:
                found.extend(error.findings)
        return found

    def replay_event_log(self) -> None:
        statement = self.quote.statement
        self.records = replay_log(
            self.evidence.event_log,
            quoted_pcr14=self.quote.bank[14],
            count=statement.event_log_count,
            head=statement.event_log_head,
        )

    def replay_measurements(self) -> None:
        log, offset = self.evidence.ima_log, self.evidence.ima_offset
        start = self.ima_start()
        self.ima = replay_ima(log, start=start, quoted_pcr10=self.quote.bank[IMA_PCR], reference=self.reference.files)
        if offset + len(log) < self.quote.statement.ima_bytes:
            expected, actual = f"{self.quote.statement.ima_bytes} bytes", f"{offset + len(log)} bytes"
            raise deny("ima.log.short", f"pcr:{IMA_PCR}", expected=expected, actual=actual)

    def ima_start(self) -> ImaResume:
        """Return where the list in the evidence begins: at its beginning, or where this boot was judged up to."""
        # The quote's counters, not the statement's: the TPM itself vouches for them, and for one key they are stable.
        boot = {
            "reset_count": self.quote.counters.reset_count,
            "restart_count": self.quote.counters.restart_count,
        }
        if self.evidence.ima_offset == 0:
            return ImaResume.start(**boot)
        start = self.known.ima_start(**boot)
        if self.evidence.ima_offset != start.offset_bytes:
            raise deny(
                "ima.offset.mismatch", f"pcr:{IMA_PCR}", expected=start.offset_bytes, actual=self.evidence.ima_offset
            )
        return start

    # Stage 7.
    def check_contents(self) -> Iterable[Finding]:
        # The events carry TPM2_ReadClock's counters, as the statement does; a quote's are shifted by a constant.
        boot = self.quote.statement.tpm
        found = list(check_events(self.records, reset_count=boot.reset_count, restart_count=boot.restart_count))
        aggregate = boot_aggregate(self.quote.bank) if self.ima.first_entry == 0 else None
        found += check_ima(self.ima, reference=self.reference.files, boot_aggregate=aggregate)
        return found

    # Stage 8.
    def check_roti(self) -> Iterable[Finding]:
        if self.evidence.roti is None:
            raise deny("roti.missing", "installation", expected="a proof of the installation", actual="none")
        installed = self.signed_release(self.known.installed)
        install = self.references.install_proof(self.evidence.roti, release=installed, ak=self.ak, known=self.known)
        verify_updates(
            self.evidence.updates,
            ak=self.ak,
            host_id=self.known.host_id,
            installed=self.known.installed,
            running=self.quote.statement.release_id,
            release_of=self.signed_release,
            max_failed_attempts=self.policy.max_failed_boot_attempts,
        )
        found = list(install.findings)
        for index in sorted(set(FIRMWARE_PCRS) - set(FIRST_BOOT_PCRS)):
            then, now = install.bank[index], self.known.baseline[index]
            if then != now:
                found.append(_finding("roti.baseline.changed", then, now, Severity.NOTE, subject=f"pcr:{index}"))
        return found

    def signed_release(self, wanted: bytes) -> VerifiedRelease:
        self.needed.add(wanted)
        return self.references.signed(wanted)

    # Stage 9.
    def check_channel(self) -> Iterable[Finding]:
        found: list[Finding] = []
        if self.channel_key is None:
            return found
        for whose, key in (("stated", self.quote.statement.ssh_host_key), ("enrolled", self.known.ssh_host_key)):
            if key != self.channel_key:
                found.append(_finding("channel.key.mismatch", f"{key} ({whose})", self.channel_key))
        return found

    def advanced(self, guests: Iterable[GuestResult]) -> Enrolment:
        bank = self.quote.bank
        good = (item.record for item in guests if item.verdict is Verdict.AFFIRMING and item.record is not None)
        return self.known.advanced(
            counters=self.quote.counters,
            ima=self.ima.resume,
            pinned={index: bank[index] for index in FIRST_BOOT_PCRS},
            accepted_at_s=self.now_s,
            release_id=self.quote.statement.release_id,
            packages={record.id: record.package for record in good},
        )

    def result(self, stage: str) -> AttestationResult:
        quote = getattr(self, "quote", None)
        reference = getattr(self, "reference", None)
        ima = getattr(self, "ima", None)
        ak = getattr(self, "ak", None)
        release = None if reference is None else reference.verified.release
        verdict = verdict_of(self.findings)
        guests: tuple[GuestResult, ...] = ()
        if quote is not None:
            guests = appraise_guests(
                quote.statement.guests,
                guest_lives(getattr(self, "records", ())),
                references=self.references,
                host_verdict=verdict,
                host_time_s=quote.statement.time_s,
                meant={item.guest: item for item in self.known.guests},
                now_s=self.now_s,
            )
        return AttestationResult(
            host_id=self.host_id,
            verdict=verdict,
            stage=stage,
            findings=tuple(self.findings),
            nonce=self.nonce,
            evidence_digest=sha256(self.data),
            policy_digest=self.references.policy_digest,
            ak_name=None if ak is None else ak.name,
            release_id=None if reference is None else reference.verified.release_id,
            release_name=None if release is None else release.name,
            variant=None if release is None else release.variant,
            pcr4_expected=None if release is None else pcr4_values(release.authenticode_sha256, 0)[0],
            pcr4_found=None if quote is None else quote.bank[4],
            ima_entries=None if ima is None else ima.resume.entries,
            guests=guests,
            # Not when it was judged: a host may have told of a violation since, and older news never outranks that.
            issued_at_s=self.asked_at_s,
            # What was refused as stale is refused for as long as anything else.
            expires_at_s=self.expires_at_s if self.expires_at_s > self.now_s else self.now_s + self.policy.ttl_s,
        )


def _finding(
    code: str, expected: object, actual: object, severity: Severity = Severity.DENY, *, subject: str = "host"
) -> Finding:
    return Finding(code=code, severity=severity, subject=subject, expected=shown(expected), actual=shown(actual))

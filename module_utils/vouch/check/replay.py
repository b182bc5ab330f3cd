# SPDX-License-Identifier: GPL-3.0-or-later
"""Event log against quoted registers: a log becomes readable only by passing here.

The replay, in order:

1. The log carries the bank that was quoted.
2. PCR 0 starts at the locality that a StartupLocality event names (0, 3 or 4), at 4 with an H-CRTM event; such an event
   stands before anything was extended into PCR 0, and no two disagree.
3. Every record that is not EV_NO_ACTION extends its digest of this bank into its register, in the order of the log.
4. Every register of the bank that the caller wants proven equals the replayed one; a register that the log never
   mentions must have its power-on value, so that silence explains nothing else.
5. Only for a register that failed step 4, and only when the caller gave quirks: the repairs of check/quirks.py.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4 and 10.4.5; TPM 2.0 Part 1, 17.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import EvidenceError, ParseError, UsageError
from ..model.boot import BootClaim, claim_of, initial_value
from ..model.digest import HASH_SIZE_BYTES, PCR_COUNT, PcrBank, extend
from ..model.finding import Finding, Locator, Severity, deny
from ..parse.tcglog import (
    EV_EFI_HCRTM_EVENT,
    EV_NO_ACTION,
    STARTUP_LOCALITY_SIGNATURE,
    TcgEvent,
    TcgLog,
    parse_event_log,
)
from .quirks import Quirk

PART = "event log"
_SOURCE = "TCG PC Client Platform Firmware Profile 1.06, 3.3.4"
_LOCALITIES = (0, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLog:
    """Events whose digests lead to the given registers. Their data are proven only as far as each claim's coverage.

    Attributes:
        events: Those of the proven registers; EV_NO_ACTION records are left out, since nothing proves them.
        bank: The registers they were verified against.
        findings: What a reader must be told: quirks used, bytes behind the log. Never a DENY.
    """

    events: tuple[TcgEvent, ...]
    bank: PcrBank
    findings: tuple[Finding, ...]

    def claims(self, pcr: int | None = None) -> Iterator[BootClaim]:
        """Yield what the events say, of one register or of all."""
        for event in self.events:
            if pcr is None or event.pcr == pcr:
                claim = claim_of(event, self.bank.algorithm)
                if claim is not None:
                    yield claim


def read_event_log(data: bytes) -> TcgLog:
    """Return the records of ``data``; a malformed log is the attester's fault.

    Raises:
        EvidenceError: code "eventlog.malformed".
    """
    try:
        return parse_event_log(data)
    except ParseError as error:
        where = Locator(part=PART, offset_bytes=error.offset_bytes)
        raise deny("eventlog.malformed", "host", actual=error, where=where, source=_SOURCE) from error


def replay(log: TcgLog, algorithm: str = "sha256") -> PcrBank:
    """Return the registers that ``log`` extends, with the values it leads to.

    Raises:
        EvidenceError: "eventlog.bank.missing", "eventlog.pcr.range", "eventlog.locality.invalid".
        UsageError: an algorithm that cannot be computed here.
    """
    if algorithm not in HASH_SIZE_BYTES:
        raise UsageError(f"unknown hash algorithm {algorithm!r}", code="digest.algorithm")
    if algorithm not in log.algorithms:
        raise deny(
            "eventlog.bank.missing", "host", expected=algorithm, actual=", ".join(log.algorithms), source=_SOURCE
        )
    return PcrBank(algorithm, _replayed(log.events, algorithm))


def verify_event_log(
    log: TcgLog, bank: PcrBank, *, indices: Iterable[int] | None = None, quirks: Sequence[Quirk] = ()
) -> VerifiedLog:
    """Return the log's events, proven to lead to ``bank``.

    Args:
        log: As parsed, of the boot that the registers are of.
        bank: Values from a verified quote.
        indices: Registers to prove; every one in ``bank`` when None. Leave out those that the system extends after the
            firmware has handed over (8 to 15, as the boot loader and system use them).
        quirks: Defects to forgive, see check/quirks.py; none by default.

    Raises:
        EvidenceError: "eventlog.replay.mismatch" with one finding per register, or an error of ``replay``.
        UsageError: no register to prove, or one that is not in ``bank``.

    Trust: ``log`` is an attacker's; ``bank`` must come out of a verified quote, else this proves nothing.
    """
    wanted = sorted(set(bank if indices is None else indices))
    if not wanted:
        raise UsageError("no registers to verify the event log against", code="pcr.selection.empty")
    target = PcrBank(bank.algorithm, {i: bank[i] for i in wanted})
    events = log.events
    notes: list[Finding] = []
    failed = _mismatches(replay(log, bank.algorithm), target)
    for quirk in quirks:
        if quirk.pcr not in failed:
            continue
        repaired = quirk.repair(replace(log, events=events))
        if repaired is not None and quirk.pcr not in _mismatches(
            replay(replace(log, events=repaired), bank.algorithm), target
        ):
            events = repaired
            del failed[quirk.pcr]
            notes.append(_quirk_note(quirk))
    if failed:
        raise EvidenceError(_mismatch_finding(i, target[i], value) for i, value in failed.items())
    if log.trailing:
        notes.append(_trailing_note(log))
    kept = tuple(
        e for e in events if e.pcr in target.values and e.event_type != EV_NO_ACTION and bank.algorithm in e.digests
    )
    return VerifiedLog(events=kept, bank=target, findings=tuple(notes))


def _replayed(events: Iterable[TcgEvent], algorithm: str) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    locality: int | None = None
    for event in events:
        named = _locality_of(event)
        if named is not None:
            if 0 in values or (locality is not None and locality != named) or named not in _LOCALITIES:
                where = Locator(part=PART, entry=event.index, offset_bytes=event.offset_bytes)
                raise deny(
                    "eventlog.locality.invalid", "pcr:0", actual=f"locality {named}", where=where, source=_SOURCE
                )
            locality = named
        if event.event_type == EV_NO_ACTION:
            continue
        if event.pcr >= PCR_COUNT:
            where = Locator(part=PART, entry=event.index, offset_bytes=event.offset_bytes)
            raise deny("eventlog.pcr.range", "host", expected=f"below {PCR_COUNT}", actual=event.pcr, where=where)
        digest = event.digests.get(algorithm)
        if digest is None:
            continue
        before = values.get(event.pcr) or initial_value(event.pcr, algorithm, locality or 0)
        values[event.pcr] = extend(algorithm, before, digest)
    return values


def _locality_of(event: TcgEvent) -> int | None:
    """Return the start value of PCR 0 that this event names."""
    if event.pcr != 0:
        return None
    if event.event_type == EV_EFI_HCRTM_EVENT:
        return 4
    is_locality = event.event_type == EV_NO_ACTION and event.data.startswith(STARTUP_LOCALITY_SIGNATURE)
    if is_locality and len(event.data) == len(STARTUP_LOCALITY_SIGNATURE) + 1:
        return event.data[-1]
    return None


def _mismatches(found: PcrBank, target: PcrBank) -> dict[int, bytes]:
    """Return the registers whose replayed value is not the target's, with the replayed value."""
    values = {i: found.values.get(i) or initial_value(i, target.algorithm) for i in target}
    return {i: value for i, value in values.items() if value != target[i]}


def _mismatch_finding(pcr: int, quoted: bytes, replayed: bytes) -> Finding:
    return Finding(
        code="eventlog.replay.mismatch",
        severity=Severity.DENY,
        subject=f"pcr:{pcr}",
        where=Locator(part=PART),
        expected=quoted.hex(),
        actual=replayed.hex(),
        source=_SOURCE,
    )


def _quirk_note(quirk: Quirk) -> Finding:
    return Finding(
        code="eventlog.quirk",
        severity=Severity.WARN,
        subject=f"pcr:{quirk.pcr}",
        where=Locator(part=PART),
        actual=quirk.id,
        source=quirk.cause,
    )


def _trailing_note(log: TcgLog) -> Finding:
    return Finding(
        code="eventlog.trailing",
        severity=Severity.NOTE,
        subject="host",
        where=Locator(part=PART, entry=len(log.events)),
        actual=f"{len(log.trailing)} bytes that are no record",
        source=_SOURCE,
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's own event log against the quoted PCR 14 and the statement.

1. The log parses: canonical records, nothing else.
2. Records are numbered from 0 without a gap and extend PCR 14.
3. Each digest is that of its content.
4. The digests, extended in order, give the quoted PCR 14.
5. Count and head are those of the quoted statement.
6. Every event is known, and its members are the ones it has.
7. The log begins with ``verifier.start``, of the boot that was quoted.

Source: docs/proof.md, "Event log"; TCG Canonical Event Log Format 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import EvidenceError, ParseError
from ..model.digest import extend, sha256
from ..model.finding import Finding, Locator, Severity, deny
from ..parse.cel import CelRecord, parse_cel

PART = "event_log"
PCR = 14
SUBJECT = f"pcr:{PCR}"
SOURCE = "docs/proof.md, event log"

MAX_REPORTED = 64
"""Findings of one log that are spelt out; the rest is one finding with their number."""

START = "verifier.start"

_GUEST: Mapping[str, type] = {"event": str, "time": int, "guest": str}

EVENTS: Mapping[str, Mapping[str, type]] = {
    START: {"event": str, "version": str, "time": int, "reset_count": int, "restart_count": int},
    "guest.launch": {**_GUEST, "package": str, "kind": str, "order": str, "counter": int},
    "guest.refused": {**_GUEST, "package": str, "code": str},
    "guest.violation": {**_GUEST, "package": str, "codes": str, "expected": str, "found": str},
    "guest.action": {**_GUEST, "action": str},
    "guest.adopted": {**_GUEST, "package": str},
    "guest.stop": {**_GUEST, "package": str, "counter": int, "state": str},
    "host.update": {"event": str, "time": int, "action": str, "release": str, "order": str},
    "host.staged": {"event": str, "time": int, "release": str, "statement": str},
    "host.refused": {"event": str, "time": int, "action": str, "release": str, "code": str},
}
"""Known events and their members: an event nobody can judge is refused, not skipped."""


def replay_log(data: bytes, *, quoted_pcr14: bytes, count: int, head: bytes) -> tuple[CelRecord, ...]:
    """Return the records that the quoted PCR 14 proves (steps 1 to 5).

    Args:
        data: The log as received.
        quoted_pcr14: Value under a verified quote.
        count: Number of records by the quoted statement.
        head: PCR 14 by the quoted statement.

    Raises:
        EvidenceError: ``eventlog14.record.order``, ``eventlog14.digest.mismatch``, ``eventlog14.replay.mismatch``,
            ``eventlog14.statement.mismatch``, or the parser's code.

    Trust: ``data`` is the attester's; afterwards contents and order are what was extended.
    """
    try:
        records = parse_cel(data)
    except ParseError as error:
        where = Locator(part=PART, offset_bytes=error.offset_bytes)
        raise deny(error.code, PART, expected=error.field, actual=error.problem, where=where, source=SOURCE) from None
    register = bytes(32)
    for index, record in enumerate(records):
        if record.recnum != index or record.pcr != PCR:
            actual = f"{record.recnum} in PCR {record.pcr}"
            raise _wrong("eventlog14.record.order", record, index, f"{index} in PCR {PCR}", actual)
        digest = sha256(record.content_bytes)
        if digest != record.digest:
            raise _wrong("eventlog14.digest.mismatch", record, index, digest, record.digest)
        register = extend("sha256", register, digest)
    if register != quoted_pcr14:
        raise deny("eventlog14.replay.mismatch", SUBJECT, expected=quoted_pcr14, actual=register, source=SOURCE)
    if (count, head) != (len(records), register):
        raise deny(
            "eventlog14.statement.mismatch",
            SUBJECT,
            expected=f"{count} records, head {head.hex()}",
            actual=f"{len(records)} records, head {register.hex()}",
            source=SOURCE,
        )
    return records


def check_events(records: tuple[CelRecord, ...], *, reset_count: int, restart_count: int) -> tuple[Finding, ...]:
    """Return the findings on proven records (steps 6 and 7).

    Args:
        records: What ``replay_log`` proved.
        reset_count: Boot of the TPM by the quote.
        restart_count: As ``reset_count``.

    Returns:
        DENY ``eventlog14.event.unknown``, ``eventlog14.event.malformed``, ``eventlog14.start.missing``,
        ``eventlog14.boot.mismatch``; NOTE ``eventlog14.restarted``. Beyond ``MAX_REPORTED`` of them one
        ``eventlog14.findings.more``, as bad as the worst it stands for.
    """
    found: list[Finding] = []
    for index, record in enumerate(records):
        members = EVENTS.get(record.event)
        if members is None:
            found.append(_finding("eventlog14.event.unknown", record, index, "a known event", record.event))
        elif {name: type(value) for name, value in record.content.items()} != dict(members):
            found.append(_finding("eventlog14.event.malformed", record, index, ", ".join(members), record.event))
        elif record.event == START:
            boot = (record.content["reset_count"], record.content["restart_count"])
            if boot != (reset_count, restart_count):
                expected = f"boot {reset_count}.{restart_count}"
                found.append(_finding("eventlog14.boot.mismatch", record, index, expected, f"boot {boot[0]}.{boot[1]}"))
            if index:
                found.append(_finding("eventlog14.restarted", record, index, "one start", "another", Severity.NOTE))
    if not records or records[0].event != START:
        first = records[0].event if records else "an empty log"
        found.append(
            Finding(
                code="eventlog14.start.missing",
                severity=Severity.DENY,
                subject=SUBJECT,
                expected=f"{START} first",
                actual=first,
                source=SOURCE,
            )
        )
    return _bounded(found)


def _bounded(found: list[Finding]) -> tuple[Finding, ...]:
    """Return the worst ``MAX_REPORTED`` findings in their order, and the number of the others."""
    worst_first = sorted(found, key=lambda item: item.severity is not Severity.DENY)
    kept, cut = worst_first[:MAX_REPORTED], worst_first[MAX_REPORTED:]
    if not cut:
        return tuple(found)
    more = Finding(
        code="eventlog14.findings.more",
        # Sorted: when a denial was cut, the first one was.
        severity=cut[0].severity,
        subject=SUBJECT,
        expected="0",
        actual=f"{len(cut)} more findings",
        source=SOURCE,
    )
    return (*kept, more)


def _where(record: CelRecord, index: int) -> Locator:
    return Locator(part=PART, offset_bytes=record.offset_bytes, entry=index)


def _wrong(code: str, record: CelRecord, index: int, expected: object, actual: object) -> EvidenceError:
    return deny(code, SUBJECT, expected=expected, actual=actual, where=_where(record, index), source=SOURCE)


def _finding(
    code: str, record: CelRecord, index: int, expected: str, actual: str, severity: Severity = Severity.DENY
) -> Finding:
    return Finding(
        code=code,
        severity=severity,
        subject=SUBJECT,
        where=_where(record, index),
        expected=expected,
        actual=actual,
        source=SOURCE,
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of each guest as the VM verifier's log tells it: what cannot be taken back, whoever runs the host later.

1. A guest begins with ``guest.launch`` and ends with ``guest.stop``; after that its id may begin again.
2. Whatever else is told of a guest is told while it lives. ``guest.refused`` is about a request and begins nothing.
3. ``guest.violation`` stays with the guest until it ends: no later event makes it good again.
4. A guest that was adopted after a restart of the VM verifier is the one that was launched.

Source: docs/proof.md, "Event log".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..model.finding import Finding, Locator, Severity
from ..parse.cel import CelRecord

LAUNCH, REFUSED, VIOLATION = "guest.launch", "guest.refused", "guest.violation"
ACTION, ADOPTED, STOP = "guest.action", "guest.adopted", "guest.stop"
WITHIN = frozenset({VIOLATION, ACTION, ADOPTED, STOP})
"""What can be told of a guest that lives, and of no other."""

PART = "event_log"
SOURCE = "docs/proof.md, event log"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLife:
    """One guest that was launched and not stopped.

    Attributes:
        guest: Its id.
        package: Id of its package, hexadecimal as logged.
        kind: ``pv`` or ``pvh``.
        counter: The host's monotonic counter at its launch.
        launched: Index of its launch in the log.
        violations: Codes of everything it broke, in order, none twice.
        findings: Where the log contradicts itself about it.
    """

    guest: str
    package: str
    kind: str
    counter: int
    launched: int
    violations: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def guest_lives(records: Iterable[CelRecord]) -> Mapping[str, GuestLife]:
    """Return every guest that lives by the log, by id; one that the log contradicts itself about lives, with a finding.

    Args:
        records: What ``eventlog14.replay_log`` proved, with the members that ``check_events`` found right.
    """
    lives: dict[str, GuestLife] = {}
    for index, record in enumerate(records):
        guest = record.content.get("guest")
        if not isinstance(guest, str) or record.event == REFUSED:
            continue
        life = lives.get(guest)
        if record.event == LAUNCH:
            begun = _begun(record, index)
            # Two at once: nobody can tell which of them a statement is about.
            lives[guest] = begun if life is None else _contradicted(life, begun, record, index, "one launch of it")
        elif record.event in WITHIN:
            lives[guest] = _gone_on(life, record, index)
            if record.event == STOP and not lives[guest].findings:
                del lives[guest]
    return MappingProxyType(lives)


def _begun(record: CelRecord, index: int) -> GuestLife:
    content = record.content
    return GuestLife(
        guest=str(content["guest"]),
        package=str(content.get("package", "")),
        kind=str(content.get("kind", "")),
        counter=int(content.get("counter", 0)),
        launched=index,
    )


def _gone_on(life: GuestLife | None, record: CelRecord, index: int) -> GuestLife:
    if life is None:
        return _contradicted(None, _begun(record, index), record, index, "its launch before")
    if record.event == VIOLATION:
        codes = str(record.content.get("codes", "")).split(",")
        return replace(life, violations=tuple(dict.fromkeys((*life.violations, *codes))))
    if record.event in {ADOPTED, STOP} and record.content.get("package") != life.package:
        return _contradicted(life, life, record, index, f"package {life.package}")
    return life


def _contradicted(before: GuestLife | None, life: GuestLife, record: CelRecord, index: int, expected: str) -> GuestLife:
    finding = Finding(
        code="guest.log.order",
        severity=Severity.DENY,
        subject=f"guest:{life.guest}",
        where=Locator(part=PART, offset_bytes=record.offset_bytes, entry=index),
        expected=expected,
        actual=record.event,
        source=SOURCE,
    )
    earlier = before.findings if before is not None else ()
    violations = before.violations if before is not None else ()
    return replace(life, violations=violations, findings=(*earlier, finding)[:8])

# SPDX-License-Identifier: GPL-3.0-or-later
"""Known defects of firmware logs, as a table.

A defect is found by its shape, never by the machine's name; its repair is tried only after the strict replay of its
register failed, and its use is always reported. A verifier that was not given a quirk does not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from ..model.boot import EXIT_BOOT_SERVICES_INVOCATION, EXIT_BOOT_SERVICES_SUCCESS
from ..model.digest import HASH_SIZE_BYTES, hash_bytes
from ..parse.tcglog import (
    EV_EFI_ACTION,
    EV_EFI_HCRTM_EVENT,
    EV_NO_ACTION,
    STARTUP_LOCALITY_SIGNATURE,
    TcgEvent,
    TcgLog,
)

Events = tuple[TcgEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """One defect.

    Attributes:
        id: Stable name, shown in findings.
        pcr: The one register it may explain.
        cause: What the firmware does wrong, and where that is known from.
        repair: The log's events with the missing ones put in; None when the log has not this shape.
    """

    id: str
    pcr: int
    cause: str
    repair: Callable[[TcgLog], Events | None]


def _with_exit_boot_services(log: TcgLog) -> Events | None:
    invocation = EXIT_BOOT_SERVICES_INVOCATION.encode()
    if any(event.pcr == 5 and event.data == invocation for event in log.events):
        return None
    events = log.events
    for text in (invocation, EXIT_BOOT_SERVICES_SUCCESS.encode()):
        events = (*events, _made(log, 5, EV_EFI_ACTION, text))
    return events


def _with_locality_3(log: TcgLog) -> Events | None:
    for event in log.events:
        if event.event_type == EV_EFI_HCRTM_EVENT or event.data.startswith(STARTUP_LOCALITY_SIGNATURE):
            return None
    return (_made(log, 0, EV_NO_ACTION, STARTUP_LOCALITY_SIGNATURE + b"\x03"), *log.events)


def _made(log: TcgLog, pcr: int, event_type: int, data: bytes) -> TcgEvent:
    """Return an event that is not in the log: index -1, digests of ``data`` in every bank we can compute."""
    digests = {name: hash_bytes(name, data) for name in log.algorithms if name in HASH_SIZE_BYTES}
    return TcgEvent(
        index=-1, pcr=pcr, event_type=event_type, digests=MappingProxyType(digests), data=data, offset_bytes=-1
    )


EXIT_BOOT_SERVICES_MISSING = Quirk(
    id="exit-boot-services-missing",
    pcr=5,
    cause="the firmware extends the two Exit Boot Services actions after it has closed the log that the system can "
    "read, and offers no final-events table (go-attestation, attest/eventlog_workarounds.go)",
    repair=_with_exit_boot_services,
)

STARTUP_LOCALITY_MISSING = Quirk(
    id="startup-locality-missing",
    pcr=0,
    cause="the firmware starts the TPM from locality 3 and does not log it; PCR 0 then begins at 00..03 "
    "(TCG PC Client Platform Firmware Profile 1.06, 10.4.5.3)",
    repair=_with_locality_3,
)

KNOWN_QUIRKS: tuple[Quirk, ...] = (EXIT_BOOT_SERVICES_MISSING, STARTUP_LOCALITY_MISSING)
"""Every quirk of this file. Giving it to a check is a choice: each use is a WARN finding."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""From the guest that is there to the one that is wanted: which orders, and what they come to.

Pure: ``vouch_guest`` asks the host what is there, and gives the orders.
"""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from .gueststate import PAUSED, RUNNING, STARTING, VIOLATED, GuestRecord
from .order import PAUSE, RESUME, START, STOP

WANTED = ("started", "stopped", "paused", "absent")


def plan(state: str, found: GuestRecord | None, *, package: bytes | None, kind: str | None) -> list[str]:
    """Return the actions that bring a guest into ``state``.

    Raises:
        UsageError: ``guest.violated``, ``guest.other-package``, ``guest.other-kind``, ``guest.absent``: it is not ours
            to choose.
    """
    if found is None:
        if state == "paused":
            raise UsageError("there is no such guest to pause", code="guest.absent", hint="start it first")
        return [START] if state == "started" else []
    if state == "absent":
        return [STOP]
    if found.state == VIOLATED:
        raise UsageError(
            f"guest {found.id} is held for {', '.join(found.violations)}",
            code="guest.violated",
            hint="look at what happened; state: absent ends and forgets it",
        )
    if state == "stopped":
        return [STOP]
    if state == "paused":
        return [] if found.state == PAUSED else [PAUSE]
    if found.package != package:
        raise UsageError(
            f"guest {found.id} runs package {found.name} ({found.package.hex()[:16]}), not the given one",
            code="guest.other-package",
            hint="stop it first: a guest does not change its package while it runs",
        )
    if kind is not None and found.kind != kind:
        raise UsageError(f"guest {found.id} is a {found.kind} domain", code="guest.other-kind", hint="stop it first")
    return [RESUME] if found.state == PAUSED else []


def shown(record: GuestRecord | None) -> dict[str, Any]:
    """Return what of a guest an order can change."""
    if record is None:
        return {"state": "absent"}
    # A guest that comes up runs: how far it is is no matter of orders.
    state = RUNNING if record.state == STARTING else record.state
    return {"state": state, "package": record.package.hex()}


def expected(action: str, before: GuestRecord | None, package: bytes | None) -> dict[str, Any]:
    """Return what ``shown`` would say after ``action``."""
    if action == STOP:
        return {"state": "absent"}
    now = before.package if before is not None else package
    state = PAUSED if action == PAUSE else RUNNING
    return {"state": state, "package": "" if now is None else now.hex()}

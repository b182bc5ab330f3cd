# SPDX-License-Identifier: GPL-3.0-or-later
"""From the release that a host runs to the one it shall run: which order comes next.

Pure: ``install.hostupdate`` asks the host where it is, and gives the orders. What a host says of itself here chooses
orders and nothing else; which release runs is for an appraisal to say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import UsageError
from ..parse.fields import Fields
from .hostorder import CONFIRM, STAGE, TRY
from .update import CURRENT, FALLEN_BACK, MAX_UPDATES, OTHER, STAGED, TRIAL

WANTED = ("staged", "tried", "confirmed")


class HostStatus(NamedTuple):
    """What a host answers to ``host.status``.

    Attributes:
        state: As ``model.update`` names them.
        running: Id of the release that runs, as the host believes.
        confirmed: Id of the release that is meant to.
        waiting: Id of the one that waits, whether it runs or not; empty without one.
        updates: Steps since the installation.
    """

    state: str
    running: bytes
    confirmed: bytes
    waiting: bytes
    updates: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "state": self.state,
            "running": self.running.hex(),
            "confirmed": self.confirmed.hex(),
            "waiting": self.waiting.hex(),
            "updates": self.updates,
        }

    @classmethod
    def from_json(cls, value: Any) -> HostStatus:
        """Return the status of a JSON value; raises ``ParseError``."""
        fields = Fields(value, "host-status")
        status = cls(
            state=fields.choice("state", CURRENT, STAGED, TRIAL, FALLEN_BACK, OTHER),
            running=fields.hex("running", 32),
            confirmed=fields.hex("confirmed", 32),
            waiting=fields.hex("waiting", 32, empty=True),
            updates=fields.integer("updates", maximum=MAX_UPDATES + 1),
        )
        fields.done()
        return status


def plan_update(wanted: str, status: HostStatus, release: bytes, *, again: bool = False) -> str | None:
    """Return the order that brings a host into the wanted state, or None when it is there.

    Args:
        wanted: One of ``WANTED``.
        status: Where the host is.
        release: Id of the release it shall run.
        again: Try a release again that the host fell back from.

    Raises:
        UsageError: ``update.state``, ``update.unconfirmed``, ``update.not-staged``, ``update.fallen-back``,
            ``update.not-running``.
    """
    if status.state == OTHER:
        raise UsageError(
            f"the host runs release {status.running.hex()}, and is meant to run {status.confirmed.hex()}",
            code="update.state",
            hint="restart it; when it comes up like this again, find out who changed its boot files",
        )
    if wanted == "confirmed":
        if status.running != release:
            raise UsageError(
                f"the host runs release {status.running.hex()}, not {release.hex()}",
                code="update.not-running",
                hint="it fell back: see its console" if status.state == FALLEN_BACK else "try the release first",
            )
        return CONFIRM if status.state == TRIAL else None
    if status.running == release:
        return None
    if status.state == TRIAL:
        raise UsageError(
            f"the host runs release {status.running.hex()}, which is not confirmed",
            code="update.unconfirmed",
            hint="confirm it, or wait until the host falls back",
        )
    if wanted == "staged":
        return None if status.waiting == release else STAGE
    if status.waiting != release:
        raise UsageError(f"release {release.hex()} does not wait on the host", code="update.not-staged")
    if status.state == FALLEN_BACK and not again:
        raise UsageError(
            "the host was to run this release and fell back",
            code="update.fallen-back",
            hint="find out why on its console; then try it again, or stage another release",
        )
    return TRY


def expected_state(order: str | None, status: HostStatus, release: bytes) -> dict[str, Any]:
    """Return what of a host's status an order changes, after it: for check mode and differences."""
    if order == STAGE:
        return shown_state(status._replace(state=STAGED, waiting=release))
    if order == TRY:
        return shown_state(status._replace(state=TRIAL, running=release))
    if order == CONFIRM:
        return shown_state(status._replace(state=CURRENT, confirmed=release, waiting=b""))
    return shown_state(status)


def shown_state(status: HostStatus) -> dict[str, Any]:
    """Return what of a host's status an order can change."""
    return {name: value for name, value in status.to_json().items() if name != "updates"}

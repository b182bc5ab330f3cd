# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows when a guest is no longer what it was, or when it ends: pause, record, act, in this order.

A step that cannot be recorded is not done, but for the pause, which is done before. It is tried again each few seconds.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import VouchError, shown
from ..model.gueststate import MAX_CODES, GuestRecord
from ..parse.fields import Fields
from .child import Errand, Message
from .journal import STOPPING, GuestJournal
from .keeper import Keeper
from .machine import Machine
from .ward import Ward

RETRY_S = 5.0
LOST = "guest.watcher.lost"
_CODE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+){0,5}\Z")


def violation(keeper: Keeper, ward: Ward, findings: list[dict[str, str]]) -> None:
    """Hold a guest that broke a rule, have that recorded, and do what its package says."""
    keeper.pause(ward)
    watcher, ward.child = ward.child, None
    keeper.end(watcher)
    if ward.violated or ward.journal is None:
        return
    codes = tuple(sorted({item["code"] for item in findings}))[:MAX_CODES]
    ward.broke(codes)
    keeper.journals.write(ward.journal)
    first = findings[0]
    _record_violation(keeper, ward, {"codes": ",".join(codes), "expected": first["expected"], "found": first["found"]})


def lost(keeper: Keeper, ward: Ward, problem: str) -> None:
    """Hold a guest whose process is gone or silent: nobody knows what it is now."""
    violation(keeper, ward, [{"code": LOST, "expected": "a process that watches it", "found": shown(problem)}])


def enforce(keeper: Keeper, ward: Ward) -> None:
    """Record what the package of a violated guest wants, and do it."""
    assert ward.journal is not None
    ward.busy = True
    action = ward.journal.action

    def recorded(reply: Message) -> None:
        if reply["code"]:
            _later(keeper, ward, lambda: enforce(keeper, ward))
            return
        assert ward.journal is not None
        keeper.errand(_ending(ward.journal, destroy=action == "destroy"), lambda error: acted(error))

    def acted(error: VouchError | None) -> None:
        if error is not None:
            keeper.setting.say(f"guest {ward.id}: {action}: {error}")
            _later(keeper, ward, lambda: enforce(keeper, ward))
            return
        ward.busy = False
        if action == "destroy":
            record = ward.broke((), domain_id=0)
            if ward.journal is not None:
                keeper.journals.write(ward.journal)
            keeper.tell("state", record=record.to_json())
        if ward.stop_order:
            stop(keeper, ward, ward.stop_order)

    keeper.record({"event": "guest.action", "guest": ward.id, "action": action}, ward.record, recorded)


def stop(keeper: Keeper, ward: Ward, ref: int) -> None:
    """End a guest: it is paused, its end recorded with its last state, then its domain and all else of it goes.

    Args:
        keeper: Of this host.
        ward: The guest.
        ref: Of the order that is answered; 0 when the guest ended by itself.
    """
    ward.busy = True
    keeper.pause(ward)
    watcher, ward.child = ward.child, None
    keeper.end(watcher)
    if ward.journal is not None:
        keeper.journals.write(ward.keep(ward.journal._replace(step=STOPPING)))
    ward.released = False

    def recorded(reply: Message) -> None:
        if reply["code"]:
            keeper.failed(ref, reply["code"], "the end of the guest could not be recorded")
            # It is held and nobody watches it, so it cannot go on: only its end can be ordered again.
            ward.busy = False
            return
        proof = {"host_id": keeper.setting.host_id, "counter": reply["counter"], "state": reply["state"]}
        ward.launched = False
        clean(keeper, ward, lambda error: cleaned(error, proof))

    def cleaned(error: VouchError | None, proof: dict[str, Any]) -> None:
        if error is not None:
            keeper.failed(ref, error.code, error.message)
            return
        answer = {"guest": ward.id, "domain_id": 0, "state": "stopped", "changed": True, "milliseconds": {}}
        keeper.done(ref, {**answer, "shutdown_proof": proof} if proof["counter"] else answer)

    event = {"event": "guest.stop", "guest": ward.id, "package": ward.package.hex()}
    keeper.ask("event", recorded, event=event, record=None, last=_json(ward.record))


def clean(keeper: Keeper, ward: Ward, then: Any) -> None:
    """Take away what is left of a guest, then forget it; tried again until it succeeds, ``then`` told of each try."""
    ward.busy = True
    watcher, ward.child = ward.child, None
    keeper.end(watcher)
    journal = ward.journal or keeper.journals.read(ward.id)

    def cleaned(error: VouchError | None) -> None:
        if error is not None:
            keeper.setting.say(f"guest {ward.id} leaves something behind: {error}")
            _later(keeper, ward, lambda: clean(keeper, ward, lambda _: None))
        else:
            keeper.machine.blobs.unpin(ward.id)
            try:
                keeper.journals.remove(ward.id)
            except VouchError as problem:
                error = problem
            keeper.wards.pop(ward.id, None)
            keeper.tell("gone", guest=ward.id)
        then(error)

    if journal is None:
        cleaned(None)
    else:
        keeper.errand(_ending(journal, destroy=True), cleaned)


def retry(keeper: Keeper) -> None:
    """Do again what failed a while ago."""
    for ward in list(keeper.wards.values()):
        again = ward.again
        if again is not None and keeper.monotonic_s() >= ward.retry_s:
            ward.again = None
            again()


def _record_violation(keeper: Keeper, ward: Ward, members: dict[str, str]) -> None:
    ward.busy = True
    event = {"event": "guest.violation", "guest": ward.id, "package": ward.package.hex(), **members}

    def recorded(reply: Message) -> None:
        if reply["code"]:
            _later(keeper, ward, lambda: _record_violation(keeper, ward, members))
        else:
            enforce(keeper, ward)

    keeper.record(event, ward.record, recorded)


def _later(keeper: Keeper, ward: Ward, again: Any) -> None:
    ward.retry_s = keeper.monotonic_s() + RETRY_S
    ward.again = again


def _ending(journal: GuestJournal, *, destroy: bool) -> Errand:
    """Return the errand that closes a guest's network and, where asked, ends its domain."""

    def work(machine: Machine) -> None:
        if journal.card or destroy:
            machine.firewall.close(journal.record.id, journal.card)
        if destroy:
            machine.domains.destroy(journal.uuid)

    return work


def _json(record: GuestRecord | None) -> dict[str, Any] | None:
    return None if record is None else record.to_json()


def findings_of(message: Message) -> list[dict[str, str]]:
    """Return the findings that a guest's process told, each member read."""
    found = []
    for item in Fields(message, "violation").array("findings", maximum=MAX_CODES):
        fields = Fields(item, "violation.findings")
        found.append(
            {
                "code": fields.text("code", maximum_chars=128, pattern=_CODE),
                "expected": shown(fields.text("expected", empty=True)),
                "found": shown(fields.text("found", empty=True)),
            }
        )
        fields.done()
    return found or [{"code": LOST, "expected": "findings", "found": "none"}]

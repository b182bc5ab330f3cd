# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process's side of host orders: may a step be taken, and what is recorded and proven of it.

The keeper has the step done by a process; the order, its outcome and the proof are ours, since the event log, the TPM
and the book of releases are. Messages of the keeper, each answered:

    host.begin  challenge, action, release, order, confirm_s
                -> {"code","message","done","written"}   done: there is nothing to do; written: what waits, or null
    host.end    action, release, order, code, result     code: why it failed, or ""; result: what was read back
                -> {"code","message","status"}

Every step is an event before it is done: ``host.update``. What was written is stated, and quoted, after it was read
back: ``host.staged``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..errors import VouchError
from ..model.hostorder import CONFIRM, STAGE, TRY
from ..model.update import HYPERVISOR, ROOT_IMAGE, UpdateStatement
from .evidence import Identity
from .updates import Updates

MAX_REFUSALS = 500
"""Refused orders that are recorded in one run."""


class HostLog(Protocol):
    """What records events and makes proofs: ``daemon.evidence.EvidenceMaker``."""

    identity: Identity

    def record(self, content: dict[str, Any]) -> None:
        """Return when the event is in PCR 14."""
        ...

    def prove(self, statement: bytes) -> dict[str, Any]:
        """Return an update proof as JSON."""
        ...


class HostOrders:
    """Steps of an update, one at a time.

    Args:
        updates: The book.
        log: Records and proves.
        now_s: Seconds since 1970.
        say: Told what nobody else is.
    """

    def __init__(self, updates: Updates, log: HostLog, *, now_s: Callable[[], int], say: Callable[[str], None]) -> None:
        self._updates, self._log, self._now_s, self._say = updates, log, now_s, say
        self._undo: Callable[[], object] = _nothing
        self._refusals = 0

    def status(self) -> dict[str, Any]:
        """Return the answer to ``host.status``."""
        return self._updates.status()

    def begin(self, message: Mapping[str, Any], spent: bool, guests: int) -> dict[str, Any]:
        """Answer ``host.begin``.

        Args:
            message: What the keeper says of a signed order.
            spent: Whether its challenge was one that waited for an order.
            guests: How many there are.
        """
        action, release = message["action"], bytes.fromhex(message["release"])
        reply = {"code": "", "message": "", "done": False, "written": None}
        try:
            if not spent:
                raise VouchError("the order's challenge is not one that waits for an order", code="order.replayed")
            change = self._updates.begin(action, release)
            if change.done:
                return {**reply, "done": True}
            if action == TRY and guests:
                raise VouchError(f"{guests} guests are on this host: stop them first", code="update.guests")
            self._record("host.update", action=action, release=release.hex(), order=message["order"])
            self._undo = _nothing
            if action == TRY:
                self._updates.begin_trial(int(message["confirm_s"]))
                self._undo = self._updates.end_trial
            elif action == CONFIRM:
                self._undo = self._updates.end_trial()
        except VouchError as error:
            return {**reply, **self._refused(action, release, error.code, error.message)}
        return {**reply, "written": None if change.statement is None else _written(change.statement)}

    def end(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``host.end``."""
        action, release = message["action"], bytes.fromhex(message["release"])
        try:
            if message["code"]:
                undo, self._undo = self._undo, _nothing
                undo()
                raise VouchError(str(message["message"]), code=str(message["code"]))
            if action == STAGE:
                self._staged(release, bytes.fromhex(message["order"]), message["result"])
            elif action == CONFIRM:
                self._updates.confirm()
            self._log.identity = self._log.identity._replace(
                release_id=self._updates.running, updates=tuple(self._updates.proofs)
            )
        except VouchError as error:
            return {"status": self.status(), **self._refused(action, release, error.code, error.message)}
        return {"code": "", "message": "", "status": self.status()}

    def _staged(self, release: bytes, order: bytes, result: Mapping[str, Any]) -> None:
        statement = UpdateStatement(
            host_id=self._log.identity.host_id,
            before=bytes.fromhex(self._updates.running),
            release_id=release,
            authenticode_sha256=bytes.fromhex(result["authenticode_sha256"]),
            slot=str(result["slot"]),
            xen_efi_sha256=bytes.fromhex(result[HYPERVISOR]),
            root_img_sha256=bytes.fromhex(result[ROOT_IMAGE]),
            root_bytes=int(result["root_bytes"]),
            order=order,
            time_s=self._now_s(),
        )
        waiting = self._updates.waiting
        if waiting is not None and statement == waiting._replace(order=order, time_s=statement.time_s):
            return
        data = UpdateStatement.from_bytes(statement.to_bytes()).to_bytes()
        self._record("host.staged", release=release.hex(), statement=hashlib.sha256(data).hexdigest())
        self._updates.staged(statement, self._log.prove(data))

    def _record(self, event: str, **members: str) -> None:
        self._log.record({"event": event, "time": self._now_s(), **members})

    def _refused(self, action: str, release: bytes, code: str, message: str) -> dict[str, Any]:
        """Record that a step was not taken, or not to its end."""
        self._refusals += 1
        if self._refusals <= MAX_REFUSALS:
            try:
                self._record("host.refused", action=action, release=release.hex(), code=code)
            except VouchError as error:
                self._say(f"{action} of release {release.hex()} is refused, which cannot be recorded: {error}")
        return {"code": code, "message": message}


def _written(statement: UpdateStatement) -> dict[str, Any]:
    return {
        "slot": statement.slot,
        HYPERVISOR: statement.xen_efi_sha256.hex(),
        ROOT_IMAGE: statement.root_img_sha256.hex(),
        "root_bytes": statement.root_bytes,
    }


def _nothing() -> None:
    """Take nothing back."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process's side of guests: what is stated of them, challenges, orders on their way, and who watches.

Whatever takes time is the keeper's, a process of its own; nothing here waits. The main process alone writes the event
log, so the table that the statement is made of changes with an event in the same breath: no quote falls between.

A keeper that is lost is started again, and takes over what it finds. Until then records grow old, which an appraisal
sees.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..errors import VouchError
from ..model.gueststate import BROKEN, MAX_CODES, VIOLATED, GuestRecord
from ..model.order import CHALLENGE_BYTES, ShutdownProof
from ..model.shutdown import shutdown_state
from ..parse.fields import Fields, encode_base64
from .channel import Channel, pair
from .hostorders import HostOrders
from .journal import JournalFolder
from .lives import Life, lives_of
from .stops import Stops

CHALLENGE_LIFE_S = 120
MAX_CHALLENGES = 1024
MAX_HISTORY = 32
"""Events of one guest that ``guest.list`` tells."""

MAX_REFUSALS = 2000
"""Refused orders that are recorded in one run: whoever repeats an old order must not fill the log."""

MAX_ORDERS = 64
ALIVE_S = 60.0
RESTART_S = 1.0
EARLY_S = 45.0
"""A keeper is started without being asked for after so long: its imports take seconds, which the first order would."""

Answer = Callable[[Mapping[str, Any] | None, str, str], None]
"""Told how an order ended: its result, or None with a code and a message."""

Push = Callable[[Mapping[str, Any]], None]


class Log(Protocol):
    """What records events: ``daemon.evidence.EvidenceMaker``."""

    def record(self, content: dict[str, Any]) -> None:
        """Return when the event is in PCR 14."""
        ...

    def log_lines(self) -> bytes:
        """Return the log, settled."""
        ...

    def increment(self) -> int:
        """Return the host's monotonic counter after one more step; 0 where there is none."""
        ...


class Guests:
    """All guests of this host.

    Args:
        log: Records events.
        stops: How guests were last stopped.
        folder: Journals, for what is stated before the keeper has spoken.
        host: Orders about the host itself.
        start: Starts a keeper that has the other end of a socket pair, and returns its process; None on a host that
            starts no guests.
        host_id: Of this host.
        monotonic_s: Seconds that never go backwards.
        now_s: Seconds since 1970.
        say: Told what nobody else is, one line each.
        ended: Told when a guest broke a rule or was stopped, by id and kind of event.
    """

    def __init__(
        self,
        *,
        log: Log,
        stops: Stops,
        folder: str,
        host: HostOrders | None,
        start: Callable[[socket.socket], int] | None,
        host_id: str,
        monotonic_s: Callable[[], float],
        now_s: Callable[[], int],
        say: Callable[[str], None],
        ended: Callable[[str, str], None] = lambda guest, kind: None,
    ) -> None:
        self._log, self._stops, self._folder, self._host = log, stops, folder, host
        self.ended = ended
        self._start, self._host_id = start, host_id
        self._monotonic_s, self._now_s, self._say = monotonic_s, now_s, say
        self._records: dict[str, GuestRecord] = {}
        self._starting: dict[str, GuestRecord] = {}
        self._history: dict[str, deque[dict[str, Any]]] = {}
        self._challenges: dict[str, float] = {}
        self._orders: dict[int, Answer] = {}
        self._watchers: dict[int, Push] = {}
        self._channel: Channel | None = None
        self._pid = 0
        self._numbers = 0
        self._refusals = 0
        self._alive_s = 0.0
        self._again_s = monotonic_s() + EARLY_S

    @property
    def fd(self) -> int:
        """Descriptor to wait for, -1 while there is no keeper."""
        return -1 if self._channel is None else self._channel.fileno()

    @property
    def sending(self) -> bool:
        """Whether the keeper has to take something first."""
        return self._channel is not None and self._channel.sending

    def records(self) -> tuple[GuestRecord, ...]:
        """Return what is stated, ascending by id."""
        return tuple(self._records[guest] for guest in sorted(self._records))

    def find(self, guest: str) -> GuestRecord | None:
        """Return what is known of a guest, also of one that is being started."""
        return self._records.get(guest) or self._starting.get(guest)

    def listed(self) -> dict[str, Any]:
        """Return the answer to ``guest.list``."""
        found = {**self._starting, **self._records}
        return {
            "guests": [
                {**found[guest].to_json(), "history": list(self._history.get(guest, ()))} for guest in sorted(found)
            ]
        }

    def restore(self) -> None:
        """Take over what the log and the journals say, and start a keeper when there is a guest to keep.

        Raises:
            VouchError: what the log raises.
        """
        lives = lives_of(self._log.log_lines())
        journals = JournalFolder(self._folder).read_all()
        for guest, life in lives.items():
            journal = journals.get(guest)
            if journal is not None and journal.record.package.hex() == life.package:
                self._records[guest] = _with_codes(journal.record, life.violations)
        if lives or journals:
            self._open()

    def challenge(self) -> dict[str, Any]:
        """Return the answer to ``guest.challenge``; the oldest challenge goes when there are too many."""
        self._require()
        self._forget_challenges()
        while len(self._challenges) >= MAX_CHALLENGES:
            del self._challenges[next(iter(self._challenges))]
        challenge = os.urandom(CHALLENGE_BYTES).hex()
        self._challenges[challenge] = self._monotonic_s() + CHALLENGE_LIFE_S
        return {"challenge": challenge, "expires_in_s": CHALLENGE_LIFE_S}

    def host_status(self) -> dict[str, Any]:
        """Return the answer to ``host.status``."""
        if self._host is None:
            raise VouchError("this host knows of no updates", code="update.unavailable")
        return self._host.status()

    def order(self, envelope: bytes, answer: Answer, op: str = "order") -> None:
        """Give a signed order to the keeper, by default one about a guest; ``answer`` is told once how it ended.

        Raises:
            VouchError: ``guests.unavailable``, ``guests.busy``.
        """
        self._require()
        if len(self._orders) >= MAX_ORDERS:
            raise VouchError(f"{MAX_ORDERS} orders are being carried out", code="guests.busy")
        if self._channel is None:
            self._open()
        self._numbers += 1
        self._orders[self._numbers] = answer
        self._tell({"op": op, "ref": self._numbers, "order": encode_base64(envelope)})

    def watch(self, push: Push) -> int:
        """Tell ``push`` each event from now on; return the number that ends it."""
        self._numbers += 1
        self._watchers[self._numbers] = push
        push({"event": "watch.begin", "time": self._now_s(), "guests": [item.to_json() for item in self.records()]})
        return self._numbers

    def unwatch(self, number: int) -> None:
        """Tell that watcher nothing more."""
        self._watchers.pop(number, None)

    def pump(self) -> None:
        """Hear what the keeper says."""
        if self._channel is None:
            return
        try:
            self._channel.flush()
            for message in self._channel.pull():
                self._heard(message)
        except (VouchError, KeyError, TypeError, ValueError) as error:
            self._lost(error)

    def tick(self) -> None:
        """Do what is due; about once a second."""
        now_s = self._monotonic_s()
        self._forget_challenges()
        if self._channel is None and self._start is not None and now_s >= self._again_s:
            self._open()
        if now_s - self._alive_s >= ALIVE_S:
            self._alive_s = now_s
            self._push({"event": "watch.alive", "time": self._now_s()})

    def close(self) -> None:
        """Let go of the keeper: it pauses what runs, and ends."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _require(self) -> None:
        if self._start is None:
            raise VouchError("this host takes no orders: its image names no keys for them", code="guests.unavailable")

    def _open(self) -> None:
        if self._start is None:
            return
        self._reap()
        ours, its = pair()
        try:
            lives = lives_of(self._log.log_lines())
            self._pid = self._start(its)
        except (VouchError, OSError) as error:
            self._say(f"no keeper of the guests: {error}")
            self._again_s = self._monotonic_s() + RESTART_S
            ours.close()
            return
        finally:
            its.close()
        self._channel = Channel(ours)
        self._tell(
            {
                "op": "begin",
                "host_id": self._host_id,
                "lives": {
                    guest: {"package": life.package, "violations": list(life.violations)}
                    for guest, life in lives.items()
                },
            }
        )

    def _tell(self, message: Mapping[str, Any]) -> None:
        if self._channel is not None:
            try:
                self._channel.send(message)
            except VouchError as error:
                self._lost(error)

    def _lost(self, error: Exception) -> None:
        """Answer who waits; a new keeper takes over."""
        self._say(f"the keeper of the guests is lost: {error}")
        self.close()
        self._again_s = self._monotonic_s() + RESTART_S
        self._starting.clear()
        orders, self._orders = self._orders, {}
        for answer in orders.values():
            answer(None, "guests.interrupted", "the keeper of the guests was lost; look at the guest, then ask again")

    def _reap(self) -> None:
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)
            self._pid = 0

    def _heard(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "spend":
            good = self._spent(message["challenge"])
            proven = good and self._proven(message["guest"], message["proof"])
            self._tell({"op": "reply", "ref": message["ref"], "ok": good, "proven": proven})
        elif op == "event":
            self._tell({"op": "reply", "ref": message["ref"], **self._event(message)})
        elif op == "host.begin" and self._host is not None:
            good, guests = self._spent(message["challenge"]), len(self._records) + len(self._starting)
            self._tell({"op": "reply", "ref": message["ref"], **self._host.begin(message, good, guests)})
        elif op == "host.end" and self._host is not None:
            self._tell({"op": "reply", "ref": message["ref"], **self._host.end(message)})
        elif op == "state":
            self._state(GuestRecord.from_json(message["record"]))
        elif op == "starting":
            record = GuestRecord.from_json(message["record"])
            self._starting[record.id] = record
        elif op == "gone":
            self._starting.pop(message["guest"], None)
        elif op == "done":
            self._orders.pop(message["ref"], _nobody)(message["result"], "", "")
        elif op == "failed":
            self._orders.pop(message["ref"], _nobody)(None, str(message["code"]), str(message["message"]))

    def _spent(self, challenge: str) -> bool:
        """Say whether a challenge waited for an order; now it does not any more."""
        return self._challenges.pop(challenge, 0.0) > self._monotonic_s()

    def _event(self, message: dict[str, Any]) -> dict[str, Any]:
        """Record an event and change the table with it; return what the keeper is told."""
        event = {**message["event"], "time": self._now_s()}
        kind, guest = event["event"], event["guest"]
        reply = {"code": "", "counter": 0, "state": ""}
        if kind == "guest.refused":
            self._refusals += 1
            if self._refusals > MAX_REFUSALS:
                return reply
        try:
            if kind in ("guest.launch", "guest.stop"):
                event["counter"] = reply["counter"] = self._log.increment()
            if kind == "guest.stop":
                last = None if message["last"] is None else GuestRecord.from_json(message["last"])
                reply["state"] = shutdown_state(self._host_id, guest, last, event["counter"]).hex()
                event["state"] = reply["state"]
            self._log.record(event)
        except VouchError as error:
            self._say(f"event {kind} of {guest}: {error}")
            return {**reply, "code": error.code}
        if kind == "guest.launch":
            self._stops.launched(guest, event["counter"])
        elif kind == "guest.stop":
            self._stops.stopped(guest, event["counter"], bytes.fromhex(event["state"]))
        self._apply(kind, guest, event, message.get("record"))
        if kind in ("guest.stop", "guest.violation"):
            self.ended(guest, kind)
        self._tell_watchers(guest, event)
        return reply

    def _proven(self, guest: str, value: Any) -> bool:
        """Say whether a guest was stopped as an order says; of another host, the authority that signed knows."""
        if value is None:
            return True
        proof = ShutdownProof.read(Fields(value, "spend.proof"))
        return proof.host_id != self._host_id or self._stops.proves(guest, proof)

    def _apply(self, kind: str, guest: str, event: Mapping[str, Any], value: Any) -> None:
        if kind == "guest.stop":
            self._records.pop(guest, None)
        elif kind == "guest.launch":
            self._starting.pop(guest, None)
            self._records[guest] = GuestRecord.from_json(value)._replace(counter=event["counter"])
        elif kind == "guest.violation":
            record = GuestRecord.from_json(value)
            self._records[guest] = _with_codes(record, tuple(str(event["codes"]).split(",")))
        elif kind != "guest.refused" and value is not None:
            self._state(GuestRecord.from_json(value))

    def _state(self, record: GuestRecord) -> None:
        """Take what the keeper says of a guest that was launched; what the log says against it stays."""
        before = self._records.get(record.id)
        if before is None or record.package != before.package or (record.violations and not before.violations):
            return
        record = record._replace(counter=before.counter)
        self._records[record.id] = _with_codes(record._replace(violations=()), before.violations)

    def _tell_watchers(self, guest: str, event: dict[str, Any]) -> None:
        if guest in self._records or guest in self._history or event["event"] != "guest.refused":
            self._history.setdefault(guest, deque(maxlen=MAX_HISTORY)).append(event)
        if event["event"] == "guest.stop":
            self._history.pop(guest, None)
        self._push(event)

    def _push(self, event: Mapping[str, Any]) -> None:
        for push in list(self._watchers.values()):
            push(event)

    def _forget_challenges(self) -> None:
        now_s = self._monotonic_s()
        for challenge in [item for item, until_s in self._challenges.items() if until_s <= now_s]:
            del self._challenges[challenge]


def _with_codes(record: GuestRecord, codes: tuple[str, ...]) -> GuestRecord:
    found = tuple(sorted({*record.violations, *codes}))[:MAX_CODES]
    return record._replace(state=VIOLATED, verdict=BROKEN, violations=found) if found else record


def _nobody(result: Mapping[str, Any] | None, code: str, message: str) -> None:
    """Answer an order whose asker is gone."""


__all__ = ["Answer", "Guests", "Life", "Log", "Push", "lives_of"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper of the guests: it obeys orders, has each guest started and watched by a process of its own, and acts.

One thread that never waits for anything but messages: whatever takes time is done by a child. Only pausing is done
here, by one hypercall, since that must be possible at once and whatever became of the guest's own process.

What is done on an order stands in ``obey``, on a violation in ``enforce``, after a restart in ``recover``.

Messages with the main process, each an object with ``op``; those with ``ref`` are answered by ``reply`` with it:

    to us    begin     host_id, lives       what the log says of guests that were launched and not stopped
             order     ref, order           a signed order in base64; ``host-order`` one about the host itself
             reply     ref, ...
    from us  spend     ref, challenge,      is this challenge good, and was the guest last stopped so? reply {"ok",
                       guest, proof         "proven"}; the challenge is not good afterwards
             event     ref, event, record   record it, the guest is then as ``record`` says; reply {"code","counter",
                                            "state"}; a code says why it could not be recorded
             host....  (``hostorders``)     may a step of an update be taken; how it ended
             state     record               what is known of a guest now
             starting  record               a launch goes on
             gone      guest                nothing is left of a launch
             done      ref, result          the order was carried out
             failed    ref, code, message   it was not
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import UnreachableError, VouchError, shown
from ..model.gueststate import GuestRecord
from .channel import Channel
from .child import Child, Errand, Message, Work, errand
from .journal import JournalFolder
from .machine import Machine, Setting
from .ward import Ward

TICK_S = 1.0
MAX_CONSOLE_BYTES = 1 << 20
"""Of one guest's console log, which lies in memory; a longer one begins anew."""

Then = Callable[[Message], None]
Ended = Callable[[VouchError | None], None]
Fetched = Callable[[VouchError | None, Message], None]


class Keeper:
    """What the keeper has in hand.

    Args:
        main: To the main process.
        setting: Of this host.
        on_message: What to do with a message of the main process that is no reply.
        on_tick: Called about once a second.
        consoles: Folder of the guests' console logs; "" for none.

    Raises:
        VouchError: by ``run``: ``channel.lost`` when the main process ended.
    """

    def __init__(
        self,
        main: Channel,
        setting: Setting,
        *,
        on_message: Callable[[Keeper, Message], None],
        on_tick: Callable[[Keeper], None],
        consoles: str = "",
    ) -> None:
        self.setting = setting
        self.machine: Machine = setting.machine()
        self.journals = JournalFolder(setting.guests)
        self.wards: dict[str, Ward] = {}
        self.host_busy = False
        self.monotonic_s = time.monotonic
        self._main = main
        self._on_message, self._on_tick = on_message, on_tick
        self._consoles = consoles
        self._children: dict[int, Child] = {}
        self._waiting: dict[int, Then] = {}
        self._refs = 0
        self._ticked_s = 0.0

    def run(self) -> NoReturn:
        """Serve until the main process ends."""
        while True:
            self.turn(TICK_S)

    def turn(self, timeout_s: float) -> None:
        """Wait for messages once, and handle them."""
        poller = select.poll()
        poller.register(self._main, select.POLLIN | (select.POLLOUT if self._main.sending else 0))
        for child in self._children.values():
            poller.register(child.channel, select.POLLIN | (select.POLLOUT if child.channel.sending else 0))
        ready = dict(poller.poll(timeout_s * 1000))
        if self._main.fileno() in ready:
            self._main.flush()
            for message in self._main.pull():
                self.hear(message)
        for fd in ready:
            if fd in self._children:
                self._listen(self._children[fd])
        if self.monotonic_s() - self._ticked_s >= TICK_S:
            self._ticked_s = self.monotonic_s()
            self._cut_consoles()
            self._on_tick(self)

    def tell(self, op: str, **members: Any) -> None:
        """Tell the main process."""
        self._main.send({"op": op, **members})

    def ask(self, op: str, then: Then, **members: Any) -> None:
        """Ask the main process; ``then`` gets its reply."""
        self._refs += 1
        self._waiting[self._refs] = then
        self.tell(op, ref=self._refs, **members)

    def record(self, event: Message, record: GuestRecord | None, then: Then) -> None:
        """Have an event recorded; ``then`` gets the reply, its ``code`` empty when it stands in PCR 14."""
        self.ask("event", then, event=event, record=None if record is None else record.to_json())

    def done(self, ref: int, result: Message) -> None:
        """Answer an order that was carried out."""
        if ref:
            self.tell("done", ref=ref, result=result)

    def failed(self, ref: int, code: str, message: str) -> None:
        """Answer an order that was not."""
        if ref:
            self.tell("failed", ref=ref, code=code, message=shown(message))

    def child(self, work: Work, *, on_message: Then, on_lost: Callable[[VouchError], None]) -> Child:
        """Start a process."""
        child = Child(work, on_message=on_message, on_lost=on_lost)
        self._children[child.channel.fileno()] = child
        return child

    def end(self, child: Child | None) -> None:
        """Return when that process is gone; nothing it said is heard any more."""
        if child is not None and child.channel.fileno() in self._children:
            del self._children[child.channel.fileno()]
            child.end()

    def errand(self, what: Errand, then: Ended) -> None:
        """Have ``what`` done by a process; ``then`` gets None, or why it failed."""
        self.fetch(what, lambda error, _: then(error))

    def fetch(self, what: Errand, then: Fetched) -> None:
        """Have ``what`` done by a process; ``then`` gets why it failed, or None and what it returned."""
        outcome: list[VouchError | None] = [VouchError("a process ended early", code="errand.lost")]
        result: Message = {}

        def heard(message: Message) -> None:
            failed = message.get("op") == "failed"
            outcome[0] = VouchError(str(message.get("message")), code=str(message.get("code"))) if failed else None
            result.update(message.get("result") or {})

        self.child(errand(self.setting, what), on_message=heard, on_lost=lambda _: then(outcome[0], result))

    def pause(self, ward: Ward) -> None:
        """Return when no instruction of the guest runs, or when that could not be done and was said."""
        record = ward.record
        if record is None or ward.journal is None or not record.domain_id:
            return
        try:
            if self.machine.domains.look(record.domain_id, ward.journal.uuid) is not None:
                self.machine.domains.pause(record.domain_id)
        except UnreachableError as error:
            self.setting.say(f"guest {ward.id} could not be paused: {error}")

    def pause_all(self) -> None:
        """Pause every guest that runs: nobody will watch it for a while."""
        for ward in self.wards.values():
            if ward.released and not ward.violated and not (ward.journal is not None and ward.journal.held):
                self.pause(ward)

    def hear(self, message: Message) -> None:
        """Handle a message of the main process."""
        then = self._waiting.pop(message["ref"], None) if message.get("op") == "reply" else None
        if then is not None:
            then(message)
        elif message.get("op") != "reply":
            self._on_message(self, message)

    def _listen(self, child: Child) -> None:
        """Hear what a child says; one that ends, or says what is no message, is gone before anything is done."""
        try:
            child.channel.flush()
            messages = child.channel.pull()
            for message in messages:
                if child.channel.fileno() not in self._children:
                    return
                child.on_message(message)
        except (VouchError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.end(child)
            lost = error if isinstance(error, VouchError) else VouchError(f"said {error!r}", code="channel.lost")
            child.on_lost(lost)

    def _cut_consoles(self) -> None:
        """Keep a guest that writes without end from filling the host's memory with its console."""
        try:
            for entry in os.scandir(self._consoles) if self._consoles else ():
                if entry.is_file(follow_symlinks=False) and entry.stat().st_size > MAX_CONSOLE_BYTES:
                    os.truncate(entry.path, 0)
        except OSError as error:
            self.setting.say(f"{self._consoles}: {error.strerror}")


def stop_on_signals(keeper: Keeper) -> None:
    """Have the guests paused when this process is told to end."""

    def stop(*_: object) -> NoReturn:
        keeper.pause_all()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

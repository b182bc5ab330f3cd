# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits to be written to the store, and the writing: in batches, so that many standings share one seal.

Nothing is forgotten because the store cannot be written: of each host every change of verdict waits and the newest
result, of each guest the newest word, and events in their order, all up to a bound. What waits expires by itself like
everything else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import UsageError
from ..fleet.appraiser import Appraisal
from ..fleet.recorder import Found, Recorder
from ..model.enrolment import Enrolment
from ..model.finding import Verdict
from ..model.standing import Standing
from ..store.anyenrolments import Enrolments
from ..store.claims import ClaimStore
from ..store.events import Event, EventStore

MAX_EVENTS = 10_000
MAX_BATCH = 1024
MAX_CHANGES = 8
"""Results of one host that wait, each with other verdicts than the one before."""


class Appraised(NamedTuple):
    """An appraisal that waits.

    Attributes:
        name: The host's name.
        appraisal: What was found.
        before: The enrolment that it was made from.
    """

    name: str
    appraisal: Appraisal
    before: Enrolment | None


class _Waiting:
    """An appraisal in the queue of its host, and whether its enrolment was advanced already."""

    __slots__ = ("advanced", "item")

    def __init__(self, item: Appraised) -> None:
        self.item = item
        self.advanced = False

    @property
    def host_id(self) -> str:
        return self.item.appraisal.result.host_id

    @property
    def advances(self) -> bool:
        """Whether the enrolment is another one afterwards."""
        after = self.item.appraisal.enrolment
        return self.item.before is not None and after is not None and self.item.before != after

    def stands_by(self, known: Enrolment | None) -> bool:
        """Whether it was accepted by that enrolment, and the store was not brought to what it led to."""
        return self.advances and not self.advanced and self.item.before == known


class Note(NamedTuple):
    """How a host is doing, for whoever takes it over."""

    host_id: str
    state: str
    since_s: int
    due_at_s: int


class Desk:
    """The writing of one process. Filled from the loop's thread, emptied in another one."""

    def __init__(
        self,
        recorder: Recorder,
        enrolments: Enrolments,
        events: EventStore,
        claims: ClaimStore,
        say: Callable[[str], None],
    ) -> None:
        self._recorder = recorder
        self._enrolments = enrolments
        self._event_store = events
        self._claims = claims
        self._say = say
        self._lock = threading.Lock()
        self._appraised: dict[str, list[_Waiting]] = {}
        self._pushed: dict[tuple[str, str], Standing] = {}
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._notes: dict[str, Note] = {}

    @property
    def waiting(self) -> int:
        """How many results and words wait."""
        with self._lock:
            return sum(map(len, self._appraised.values())) + len(self._pushed)

    def put(self, item: Appraised) -> None:
        """Have an appraisal written; it replaces one of the same host that waits and came to the same verdicts."""
        with self._lock:
            queue = self._appraised.setdefault(item.appraisal.result.host_id, [])
            if queue and _verdicts(queue[-1].item) == _verdicts(item):
                queue.pop()
            elif len(queue) >= MAX_CHANGES:
                # Bad news is what must not be lost, of a guest as of its host.
                queue.remove(next((old for old in queue if not _denies(old.item)), queue[0]))
                self._say(f"{item.name}: changed more often than waits for the store")
            queue.append(_Waiting(item))

    def put_pushed(self, standing: Standing) -> None:
        """Have the standing of a guest written."""
        with self._lock:
            self._pushed[standing.host_id, standing.guest] = standing

    def put_events(self, events: Iterable[Event]) -> None:
        """Have events written."""
        with self._lock:
            self._events.extend(events)

    def put_note(self, note: Note) -> None:
        """Have the state of a host written."""
        with self._lock:
            self._notes[note.host_id] = note

    def write(self, *, now_s: int) -> bool:
        """Write what waits, of at most ``MAX_BATCH`` hosts; say whether anything was written.

        Raises:
            UnreachableError: the store cannot be written; what was not written still waits then.
        """
        with self._lock:
            queues = [list(queue) for queue in list(self._appraised.values())[:MAX_BATCH]]
            pushed, events, notes = dict(self._pushed), list(self._events), dict(self._notes)
        if not (queues or pushed or events or notes):
            return False
        # A guest's violation first: it must not wait for anything that may be refused.
        self._recorder.record_standings(list(pushed.values()), now_s=now_s)
        with self._lock:
            for key, standing in pushed.items():
                if self._pushed.get(key) is standing:
                    del self._pushed[key]
        kept = [entry for queue in queues for entry in self._advance(queue)]
        self._record([_found(entry.item) for entry in kept], now_s)
        for entry in kept:
            self._drop(entry)
        self._event_store.add(events)
        written = {id(event) for event in events}
        with self._lock:
            while self._events and id(self._events[0]) in written:
                self._events.popleft()
        self._claims.note_all(notes.values())
        with self._lock:
            for host_id, note in notes.items():
                if self._notes.get(host_id) is note:
                    del self._notes[host_id]
        return True

    def _advance(self, queue: list[_Waiting]) -> list[_Waiting]:
        """Advance the enrolment of one host by what was accepted; return what is to be recorded.

        What was accepted by an enrolment that somebody changed meanwhile is dropped. Of several that were made from one
        enrolment, the last one advances it.
        """
        kept: list[_Waiting] = []
        for at, entry in enumerate(queue):
            last = not any(later.advances and later.item.before == entry.item.before for later in queue[at + 1 :])
            if entry.advances and last:
                try:
                    self._update(entry)
                except UsageError as error:
                    self._say(f"{entry.item.name}: {error}")
                    by_the_old = [old for old in kept if old.stands_by(entry.item.before)]
                    for old in (*by_the_old, entry):
                        self._drop(old)
                    kept = [old for old in kept if old not in by_the_old]
                    continue
            kept.append(entry)
        return kept

    def _update(self, entry: _Waiting) -> None:
        before, after = entry.item.before, entry.item.appraisal.enrolment
        if entry.advanced or before is None or after is None:
            return
        try:
            self._enrolments.update(before, after)
        except UsageError:
            # It may have been advanced by an attempt that was cut off.
            if self._enrolments.find(entry.host_id) != after:
                raise
        entry.advanced = True

    def _record(self, found: list[Found], now_s: int) -> None:
        try:
            self._recorder.record(found, now_s=now_s)
        except UsageError:
            # One of them is not for this store; the others must not suffer for it.
            for item in found:
                try:
                    self._recorder.record([item], now_s=now_s)
                except UsageError as error:
                    self._say(f"{item.name}: {error}")

    def _drop(self, entry: _Waiting) -> None:
        with self._lock:
            queue = self._appraised.get(entry.host_id, [])
            # By identity: what was put meanwhile may be equal.
            queue[:] = [other for other in queue if other is not entry]
            if not queue:
                self._appraised.pop(entry.host_id, None)


def _found(item: Appraised) -> Found:
    done = item.appraisal
    return Found(name=item.name, result=done.result, ear=done.ear, parts=done.parts)


def _verdicts(item: Appraised) -> tuple[Verdict, dict[str, Verdict]]:
    result = item.appraisal.result
    return result.verdict, {guest.guest: guest.verdict for guest in result.guests}


def _denies(item: Appraised) -> bool:
    host, guests = _verdicts(item)
    return Verdict.CONTRAINDICATED in (host, *guests.values())

# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits to be written to the store, and the writing: in batches, so that many standings share one seal.

Nothing is forgotten because the store cannot be written: of each host the newest result waits, of each guest the newest
word, and events wait in their order up to a bound. What waits expires by itself like everything else.
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
from ..model.standing import Standing
from ..store.anyenrolments import Enrolments
from ..store.claims import ClaimStore
from ..store.events import Event, EventStore

MAX_EVENTS = 10_000
MAX_BATCH = 1024


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
        self._appraised: dict[str, Appraised] = {}
        self._pushed: dict[tuple[str, str], Standing] = {}
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._notes: dict[str, Note] = {}

    @property
    def waiting(self) -> int:
        """How many results and words wait."""
        with self._lock:
            return len(self._appraised) + len(self._pushed)

    def put(self, item: Appraised) -> None:
        """Have an appraisal written; it replaces an older one of the same host."""
        with self._lock:
            self._appraised[item.appraisal.result.host_id] = item

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
        """Write what waits, at most ``MAX_BATCH`` results; say whether anything was written.

        Raises:
            UnreachableError: the store cannot be written; everything still waits then.
        """
        with self._lock:
            appraised = dict(list(self._appraised.items())[:MAX_BATCH])
            pushed, events, notes = dict(self._pushed), list(self._events), dict(self._notes)
        if not (appraised or pushed or events or notes):
            return False
        self._advance(appraised)
        # A guest's violation first: it must not wait for anything that may be refused.
        self._recorder.record_standings(list(pushed.values()), now_s=now_s)
        self._record(
            [
                Found(name=item.name, result=item.appraisal.result, ear=item.appraisal.ear, parts=item.appraisal.parts)
                for item in appraised.values()
            ],
            now_s,
        )
        self._event_store.add(events)
        self._claims.note_all(notes.values())
        with self._lock:
            for host_id, item in appraised.items():
                if self._appraised.get(host_id) is item:
                    del self._appraised[host_id]
            for key, standing in pushed.items():
                if self._pushed.get(key) is standing:
                    del self._pushed[key]
            for _ in range(min(len(events), len(self._events))):
                self._events.popleft()
            for host_id, note in notes.items():
                if self._notes.get(host_id) is note:
                    del self._notes[host_id]
        return True

    def _advance(self, appraised: dict[str, Appraised]) -> None:
        """Advance the enrolments of what was accepted; a result whose enrolment changed meanwhile is dropped."""
        for host_id, item in list(appraised.items()):
            after = item.appraisal.enrolment
            if item.before is None or after is None or item.before == after:
                continue
            try:
                self._enrolments.update(item.before, after)
            except UsageError as error:
                if self._enrolments.find(host_id) == after:
                    continue  # It was advanced by an attempt that failed later.
                self._say(f"{item.name}: {error}")
                self._drop(host_id, item)
                del appraised[host_id]

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

    def _drop(self, host_id: str, item: Appraised) -> None:
        with self._lock:
            if self._appraised.get(host_id) is item:
                del self._appraised[host_id]

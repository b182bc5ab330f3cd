# SPDX-License-Identifier: GPL-3.0-or-later
"""One watched host as this process knows it: when it is asked, what it was found to be, what it told.

No I/O and no waiting: ``service`` does both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..appraise.standings import CLOCK_SKEW_S, pushed_standing, standings_of
from ..fleet.appraiser import Appraisal
from ..model.enrolment import Enrolment
from ..model.finding import Verdict
from ..model.standing import PUSHED, Standing
from .config import WatchedHost
from .pushed import PushedViolation
from .state import HostState, after_result, after_time, start

HOST = "host"
ACCEPTED = (Verdict.AFFIRMING, Verdict.WARNING)


class Change(NamedTuple):
    """Something became another thing. Hooks are told of it, and the store keeps it as an event."""

    at_s: int
    name: str
    host_id: str
    subject: str
    kind: str
    before: str
    after: str
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what a hook gets."""
        return {**self._asdict(), "reasons": list(self.reasons)}


class Ward:
    """One host.

    Args:
        host: From the configuration.
        known: State that the process before this one wrote down; finding the same again is no news.
        since_s: Since when it was in that state, Unix seconds.
        now_s: Unix seconds.
    """

    def __init__(self, host: WatchedHost, *, known: str = "", since_s: int = 0, now_s: int) -> None:
        self.host = host
        self._known = known
        self.state: HostState = start(now_s=now_s, known=known, since_s=since_s)
        self.failures = 0
        self.standings: tuple[Standing, ...] = ()
        self._verdicts: dict[str, str] = {}
        self._guests: frozenset[str] = frozenset()
        self._told: set[str] = set()
        self._strangers = False

    def appraised(
        self, appraisal: Appraisal, before: Enrolment | None, *, now_s: int, mono_s: float
    ) -> tuple[Change, ...]:
        """Take an appraisal; return what it changes."""
        result = appraisal.result
        self.failures = self.failures + 1 if result.verdict is Verdict.NONE else 0
        state = after_result(
            self.state,
            result.verdict,
            rebooted=_rebooted(before, appraisal.enrolment),
            window_until_s=_update_until_s(before),
            expires_at_s=result.expires_at_s,
            now_s=now_s,
            mono_s=mono_s,
        )
        found = standings_of(result, self.host.name)
        # What was told after the question was put outranks the answer here as it does in the store (store.results).
        newer = range(result.issued_at_s + 1, now_s + CLOCK_SKEW_S + 1)
        kept = {item.guest: item for item in self.standings if item.stage == PUSHED and item.issued_at_s in newer}
        self.standings = (*(item for item in found if item.guest not in kept), *kept.values())
        self._told, self._strangers = set(kept), False
        if result.verdict in ACCEPTED:
            self._guests = frozenset(item.guest for item in result.guests)
            present = {_subject(item) for item in self.standings}
            self._verdicts = {name: verdict for name, verdict in self._verdicts.items() if name in present}
        return (*self._moved(state, now_s), *self._judged(self.standings, now_s))

    def knows(self, guest: str) -> bool:
        """Say whether the last accepted evidence of the host speaks of that guest."""
        return guest in self._guests

    def stranger(self) -> bool:
        """Take note that the host told of a guest it does not have; say whether that is news since its last answer."""
        news, self._strangers = not self._strangers, True
        return news

    def pushed(
        self, violation: PushedViolation, *, now_s: int, ttl_s: int
    ) -> tuple[Standing | None, tuple[Change, ...]]:
        """Take a violation that the host told of; return the standing to write, None for no news, and changes.

        Only a guest that the host is known to have can get a standing that way: names could be made up without end.
        """
        if violation.guest in self._told or not self.knows(violation.guest):
            return None, ()
        self._told.add(violation.guest)
        # A second ahead: an answer to a question of this very second may be from before the violation.
        at_s = now_s + 1
        told = pushed_standing(
            host_id=self.host.host_id,
            name=self.host.name,
            guest=violation.guest,
            reasons=violation.codes,
            now_s=at_s,
            ttl_s=ttl_s,
        )
        self.standings = (*(item for item in self.standings if item.guest != violation.guest), told)
        return told, self._judged((told,), now_s)

    def tick(self, *, now_s: int, mono_s: float) -> tuple[Change, ...]:
        """Let time pass; return what that changes."""
        return self._moved(after_time(self.state, now_s=now_s, mono_s=mono_s), now_s)

    def _moved(self, state: HostState, now_s: int) -> tuple[Change, ...]:
        before, self.state = self.state, state
        known, self._known = self._known or before.state, ""
        if known == state.state:
            return ()
        return (self._change(now_s, HOST, "state", known, state.state, ()),)

    def _judged(self, standings: tuple[Standing, ...], now_s: int) -> tuple[Change, ...]:
        changes = []
        for item in standings:
            subject = _subject(item)
            before = self._verdicts.get(subject, "")
            # That all is well after a start is no news.
            if before != item.verdict.value and (before or item.verdict is not Verdict.AFFIRMING):
                changes.append(self._change(now_s, subject, "verdict", before, item.verdict.value, item.reasons))
            self._verdicts[subject] = item.verdict.value
        return tuple(changes)

    def _change(self, at_s: int, subject: str, kind: str, before: str, after: str, reasons: tuple[str, ...]) -> Change:
        return Change(at_s, self.host.name, self.host.host_id, subject, kind, before, after, reasons)


def _subject(standing: Standing) -> str:
    return f"guest:{standing.guest}" if standing.guest else HOST


def _update_until_s(known: Enrolment | None) -> int:
    """Return until when a host is being updated, by what is recorded of it; 0 when it is not."""
    return 0 if known is None or known.next is None else known.next.until_s


def _rebooted(before: Enrolment | None, after: Enrolment | None) -> bool:
    """Say whether accepted evidence is of another boot than the accepted evidence before it."""
    if before is None or after is None or not before.accepted_at_s:
        return False
    old, new = before.counters, after.counters
    return (old.reset_count, old.restart_count) != (new.reset_count, new.restart_count)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus reads of a watch. Labels come from the configuration and from our own words, never from a host."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..appraise.standings import STATUSES
from ..model.finding import Verdict
from .state import STATES

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._states = Gauge("vouch_watch_hosts", "Hosts of this process, by state", ["state"], registry=registry)
        self._asked = Counter("vouch_watch_appraisals", "Appraisals, by verdict", ["verdict"], registry=registry)
        self._took = Histogram(
            "vouch_watch_answer_seconds", "From the nonce to the verdict", buckets=BUCKETS_S, registry=registry
        )
        self._violations = Counter("vouch_watch_violations", "Violations that hosts told of", registry=registry)
        self._strangers = Counter(
            "vouch_watch_strangers", "Violations told of guests that no evidence had, not believed", registry=registry
        )
        self._unasked = Counter(
            "vouch_watch_unasked", "Questions put off: enrolments unread, or a clock that jumps", registry=registry
        )
        self._failed_writes = Counter(
            "vouch_watch_store_failures", "Attempts to write to the store that failed", registry=registry
        )
        self._failed_hooks = Counter("vouch_watch_hook_failures", "Hooks that failed", registry=registry)
        self._waiting = Gauge("vouch_watch_unwritten", "Results that wait for the store", registry=registry)
        self._written = Gauge(
            "vouch_watch_last_write_timestamp_seconds", "When the store was last written", registry=registry
        )
        self._expires = Gauge(
            "vouch_host_expires_timestamp_seconds", "When the last result stops to count", ["host"], registry=registry
        )
        self._verdict = Gauge(
            "vouch_host_verdict", "1 for the verdict of the last result", ["host", "verdict"], registry=registry
        )
        self._guests = Gauge("vouch_host_guests", "Guests by their status", ["host", "status"], registry=registry)
        for state in STATES:
            self._states.labels(state).set(0)
        for verdict in Verdict:
            self._asked.labels(verdict.value)

    def appraised(self, host: str, verdict: Verdict, *, expires_at_s: int, took_s: float) -> None:
        """Count one appraisal."""
        self._asked.labels(verdict.value).inc()
        self._took.observe(took_s)
        self._expires.labels(host).set(expires_at_s)
        for other in Verdict:
            self._verdict.labels(host, other.value).set(int(other is verdict))

    def guests(self, host: str, statuses: list[str]) -> None:
        """Set how many guests of a host are worth what."""
        for status in STATUSES:
            self._guests.labels(host, status).set(statuses.count(status))

    def states(self, found: list[str]) -> None:
        """Set how many hosts are in which state."""
        for state in STATES:
            self._states.labels(state).set(found.count(state))

    def violation(self) -> None:
        """Count a violation that was pushed."""
        self._violations.inc()

    def stranger(self) -> None:
        """Count a violation of a guest that the host's evidence does not have."""
        self._strangers.inc()

    def unasked(self) -> None:
        """Count a question that was put off because of us."""
        self._unasked.inc()

    def wrote(self, *, now_s: float, waiting: int) -> None:
        """Note a successful write."""
        self._written.set(now_s)
        self._waiting.set(waiting)

    def write_failed(self, *, waiting: int) -> None:
        """Count a failed write."""
        self._failed_writes.inc()
        self._waiting.set(waiting)

    def hook_failed(self) -> None:
        """Count a failed hook."""
        self._failed_hooks.inc()

    def forget(self, host: str) -> None:
        """Drop what is said of a host that another process looks after now."""
        self._expires.remove(host)
        for verdict in Verdict:
            self._verdict.remove(host, verdict.value)
        for status in STATUSES:
            self._guests.remove(host, status)

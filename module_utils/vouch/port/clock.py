# SPDX-License-Identifier: GPL-3.0-or-later
"""Time and randomness, passed in so that tests choose both."""

from __future__ import annotations

import datetime
import os
import time
from typing import Protocol

from ..model.utctime import utc_seconds, utc_text

__all__ = ["Clock", "ManualClock", "SystemClock", "utc_seconds", "utc_text"]


class Clock(Protocol):
    """What the package needs to know about time and chance."""

    def now(self) -> datetime.datetime:
        """Return the time of day, aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Return unpredictable bytes."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's own clock and random source."""

    def now(self) -> datetime.datetime:
        """Return the time of day, aware, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    def random_bytes(self, count: int) -> bytes:
        """Return bytes of the kernel's random source."""
        return os.urandom(count)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class ManualClock:
    """A clock that only moves when told to; its random bytes count upwards and never repeat.

    For tests: two ``ManualClock`` of the same start give the same bytes.
    """

    def __init__(self, start: datetime.datetime | None = None) -> None:
        self._now = start or datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        self._elapsed_s = 0.0
        self._drawn = 0

    def now(self) -> datetime.datetime:
        """Return the time that was set."""
        return self._now

    def monotonic_s(self) -> float:
        """Return the seconds advanced so far."""
        return self._elapsed_s

    def random_bytes(self, count: int) -> bytes:
        """Return the next number of a counter, big-endian, ``count`` bytes long."""
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")

    def sleep(self, seconds: float) -> None:
        """Advance instead of waiting."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        self._now += datetime.timedelta(seconds=seconds)
        self._elapsed_s += seconds

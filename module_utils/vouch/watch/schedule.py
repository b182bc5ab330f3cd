# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host is asked next: every interval, spread by chance, less often while it does not answer."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BACKOFF = 8
"""A host that does not answer is asked at least every so many intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often.

    Attributes:
        interval_s: Seconds from one question to the next.
        jitter_s: At most so many seconds less, by chance, so that hosts that began together drift apart. Never more: a
            result must be renewed before it expires.
    """

    interval_s: int
    jitter_s: int

    def next_s(self, chance: float, *, failures: int) -> float:
        """Return the seconds to wait.

        Args:
            chance: Within 0 and 1.
            failures: How often in a row the host did not answer.
        """
        backoff = min(MAX_BACKOFF, 1 << min(failures, 16)) if failures > 1 else 1
        return max(1.0, self.interval_s - chance * self.jitter_s) * backoff

    def first_s(self, chance: float) -> float:
        """Return the seconds before the first question, so that many hosts do not begin at once."""
        return chance * self.interval_s

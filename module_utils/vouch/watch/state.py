# SPDX-License-Identifier: GPL-3.0-or-later
"""How a watched host is doing, as a pure state machine. What a host is worth is its standing's to say.

============  ======================================================================================
state         means
============  ======================================================================================
fresh         its last evidence was accepted, and still counts
rebooted      the same, and it booted since the evidence before, outside any planned time
failed        its last evidence was refused; also while it could not be asked since
unreachable   it could not be asked
updating      it could not be asked, within a time that was planned for that
expired       its last accepted evidence stopped to count, and nothing came since
============  ======================================================================================

Time only ever takes away: a clock that jumps back makes nothing fresh that was not, since freshness also ends by a
clock that never jumps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..model.finding import Verdict

FRESH, REBOOTED, FAILED = "fresh", "rebooted", "failed"
UNREACHABLE, UPDATING, EXPIRED = "unreachable", "updating", "expired"
STATES = (FRESH, REBOOTED, FAILED, UNREACHABLE, UPDATING, EXPIRED)
COUNTS = (FRESH, REBOOTED)
"""States in which accepted evidence counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """One host.

    Attributes:
        state: One of ``STATES``.
        since_s: Since when, Unix seconds.
        counts_until_s: Unix seconds at which what was accepted stops to count.
        counts_until_mono_s: The same by a clock that never jumps.
    """

    state: str
    since_s: int
    counts_until_s: int = 0
    counts_until_mono_s: float = 0.0


def start(*, now_s: int, known: str = "", since_s: int = 0) -> HostState:
    """Return the state of a host that was not asked yet: of what was known elsewhere, only a failure counts."""
    return HostState(state=FAILED, since_s=since_s) if known == FAILED else HostState(state=EXPIRED, since_s=now_s)


def after_result(
    before: HostState,
    verdict: Verdict,
    *,
    rebooted: bool,
    window_until_s: int,
    expires_at_s: int,
    now_s: int,
    mono_s: float,
) -> HostState:
    """Return the state after an appraisal.

    Args:
        before: The state before.
        verdict: What was found; NONE: the host could not be asked.
        rebooted: The TPM's reset or restart counter is another than in the accepted evidence before.
        window_until_s: Until when the host may be away on purpose.
        expires_at_s: When the result stops to count.
        now_s: Unix seconds.
        mono_s: The clock that never jumps.
    """
    planned = now_s < window_until_s
    if verdict is Verdict.NONE:
        # Silence takes no refusal back: who was found out must not get away with being away.
        return before if before.state == FAILED else _moved(before, UPDATING if planned else UNREACHABLE, now_s)
    if verdict is Verdict.CONTRAINDICATED:
        return _moved(before, FAILED, now_s)
    moved = _moved(before, REBOOTED if rebooted and not planned else FRESH, now_s)
    left_s = max(0, expires_at_s - now_s)
    found = replace(moved, counts_until_s=expires_at_s, counts_until_mono_s=mono_s + left_s)
    return after_time(found, now_s=now_s, mono_s=mono_s)


def after_time(before: HostState, *, now_s: int, mono_s: float) -> HostState:
    """Return the state at a later moment: what was accepted may have stopped to count."""
    over = now_s >= before.counts_until_s or mono_s >= before.counts_until_mono_s
    return _moved(before, EXPIRED, now_s) if before.state in COUNTS and over else before


def _moved(before: HostState, state: str, now_s: int) -> HostState:
    return before if before.state == state else replace(before, state=state, since_s=now_s)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host stands now, for people: one word out of its state and its last result.

The word is never better than either. A host said to be fresh whose result has expired is *expired*; one without a
result is *none*; a guest is known only as long as its host is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..appraise.result import UNREACHED
from ..model.finding import Verdict
from .view import EXPIRED, FAILED, FRESH, NONE, REBOOTED, STATES, UNREACHABLE, UPDATING, HostInput


class Tone(enum.Enum):
    """How a word is coloured; a sign always says the same without colour."""

    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One word for a host.

    Attributes:
        word: The word.
        sign: One character that says the same.
        tone: Its colour.
        meaning: What is true of such a host.
        rank: The worst is 0.
    """

    word: str
    sign: str
    tone: Tone
    meaning: str
    rank: int


def _table() -> Mapping[str, Standing]:
    rows = (
        ("contraindicated", "✕", Tone.BAD, "its evidence speaks against it"),
        (FAILED, "✕", Tone.BAD, STATES[FAILED]),
        (UNREACHABLE, "?", Tone.OPEN, STATES[UNREACHABLE]),
        (EXPIRED, "○", Tone.OPEN, STATES[EXPIRED]),
        (NONE, "-", Tone.OPEN, STATES[NONE]),
        (UPDATING, "↑", Tone.OPEN, STATES[UPDATING]),
        ("warning", "!", Tone.DOUBT, "it proved what it is, and that is a debug image or something else to look at"),
        (REBOOTED, "↻", Tone.DOUBT, STATES[REBOOTED]),
        ("affirming", "✓", Tone.GOOD, "it proved what it is, and that is what it should be"),
    )
    return MappingProxyType(
        {
            word: Standing(word=word, sign=sign, tone=tone, meaning=meaning, rank=rank)
            for rank, (word, sign, tone, meaning) in enumerate(rows)
        }
    )


STANDINGS: Mapping[str, Standing] = _table()
"""Every word, the worst first."""

VERDICTS: Mapping[Verdict, Standing] = MappingProxyType(
    {
        Verdict.AFFIRMING: STANDINGS["affirming"],
        Verdict.WARNING: STANDINGS["warning"],
        Verdict.CONTRAINDICATED: STANDINGS["contraindicated"],
        Verdict.NONE: STANDINGS[NONE],
    }
)
"""Verdict of a guest, a package or an earlier result to its word."""


def is_current(host: HostInput, now_s: int) -> bool:
    """Say whether the host's last result counts now, whatever it says."""
    return (
        host.state in (FRESH, REBOOTED, FAILED)
        and host.result is not None
        and host.result.stage != UNREACHED
        and not host.result.expired(now_s)
    )


def standing_of(host: HostInput, now_s: int) -> Standing:
    """Return where ``host`` stands at ``now_s``."""
    if host.state in (FRESH, REBOOTED):
        if host.result is None:
            return STANDINGS[NONE]
        if host.result.stage == UNREACHED:
            return STANDINGS[UNREACHABLE]
        if host.result.expired(now_s):
            return STANDINGS[EXPIRED]
        if host.state == REBOOTED and host.result.verdict is Verdict.AFFIRMING:
            return STANDINGS[REBOOTED]
        return VERDICTS[host.result.verdict]
    if is_current(host, now_s) and host.result is not None and host.result.verdict is Verdict.CONTRAINDICATED:
        return STANDINGS["contraindicated"]
    return STANDINGS[host.state]


def runs_refused(host: HostInput, now_s: int) -> bool:
    """Say whether a result that counts now refuses a guest of ``host``."""
    if not is_current(host, now_s) or host.result is None:
        return False
    return any(guest.verdict is Verdict.CONTRAINDICATED for guest in host.result.guests)


def order_of(host: HostInput, now_s: int) -> tuple[int, int, str, str]:
    """Return the place of ``host``: the worst first.

    A host with a refused guest stands among those that failed, whatever its own word; and a refusal does not heal by
    getting old.
    """
    rank = standing_of(host, now_s).rank
    if runs_refused(host, now_s):
        rank = min(rank, STANDINGS[FAILED].rank)
    refused = host.result is not None and host.result.verdict is Verdict.CONTRAINDICATED
    return rank, not refused, host.name, host.host_id

# SPDX-License-Identifier: GPL-3.0-or-later
"""From a result to standings, and what a standing is worth at a moment."""

from __future__ import annotations

from typing import NamedTuple

from ..model.digest import sha256
from ..model.finding import Verdict
from ..model.standing import MAX_REASONS, PUSHED, Standing
from .result import AttestationResult

EXPIRED = "expired"
STATUSES = ("affirming", "warning", "contraindicated", EXPIRED, "none")
"""What a subject can be worth. The inventory makes a group of each."""

CLOCK_SKEW_S = 60
"""How far the clocks of appraiser and reader may be apart."""

FUTURE = "standing.future"
"""Reason of a standing that is not of this time: the reader's clock, or the writer's, jumped."""


class Worth(NamedTuple):
    """What a standing is worth now: one of ``STATUSES``, with the reasons."""

    status: str
    reasons: tuple[str, ...]


def standings_of(result: AttestationResult, name: str) -> tuple[Standing, ...]:
    """Return the standings of a host and its guests; all expire with the result.

    Args:
        result: What was appraised.
        name: The host's name in the inventory.
    """
    digest = sha256(result.to_bytes()).hex()

    def standing(guest: str, verdict: Verdict, reasons: tuple[str, ...], image: bytes | None) -> Standing:
        return Standing(
            host_id=result.host_id,
            name=name,
            guest=guest,
            verdict=verdict,
            stage=result.stage,
            reasons=reasons[:MAX_REASONS],
            image="" if image is None else image.hex(),
            issued_at_s=result.issued_at_s,
            expires_at_s=result.expires_at_s,
            result=digest,
        )

    # A host that could not be asked has no reason against it, but people want to know why there is none for it.
    reasons = result.codes or tuple(item.code for item in result.findings if result.verdict is Verdict.NONE)
    return (
        standing("", result.verdict, reasons, result.release_id),
        *(
            standing(item.guest, item.verdict, item.codes, None if item.record is None else item.record.package)
            for item in result.guests
        ),
    )


def pushed_standing(
    *, host_id: str, name: str, guest: str, reasons: tuple[str, ...], now_s: int, ttl_s: int
) -> Standing:
    """Return the standing of a guest whose host says that it broke a rule.

    Nothing signs such a message but the channel it came through, so it can only make a guest worse: who could forge it
    could stop the guest anyway.

    Args:
        host_id: Which host.
        name: The host's name in the inventory.
        guest: Id of the guest.
        reasons: Codes of the violations.
        now_s: Unix seconds.
        ttl_s: Seconds it counts.
    """
    return Standing(
        host_id=host_id,
        name=name,
        guest=guest,
        verdict=Verdict.CONTRAINDICATED,
        stage=PUSHED,
        reasons=reasons[:MAX_REASONS],
        image="",
        issued_at_s=now_s,
        expires_at_s=now_s + ttl_s,
        result="",
    )


def worth(standing: Standing | None, *, now_s: int) -> Worth:
    """Return what a standing is worth at ``now_s``: never more than its verdict, nothing when it is not of this time.

    Args:
        standing: A verified one (``check.seal``); None: the subject was never appraised.
        now_s: Unix seconds by the reader's clock.
    """
    if standing is None:
        return Worth("none", ())
    if standing.verdict is Verdict.NONE:
        return Worth("none", standing.reasons)
    if standing.issued_at_s > now_s + CLOCK_SKEW_S:
        return Worth("none", (FUTURE,))
    if now_s >= standing.expires_at_s:
        return Worth(EXPIRED, standing.reasons)
    return Worth(standing.verdict.value, standing.reasons)

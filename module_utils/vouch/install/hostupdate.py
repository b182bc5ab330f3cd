# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of a host's update, on the controller: what is recorded of the host, and the order it gets.

The record comes before what it allows, and after what it rests on:

    staged     the enrolment expects the new release for a while, then the host is told to write it
    tried      within the planned window the host is told to start it once
    confirmed  evidence of the new release was accepted, so the host is told to keep it, then the enrolment moves: the
               release before is retired

Each step asks the host and the enrolment where they are and does what is missing, so a play that was cut off goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..errors import UsageError
from ..make.order import sign_host_order
from ..make.sign import PrivateKey
from ..model.enrolment import Enrolment
from ..model.hostorder import STAGE, TRY, HostOrder
from ..model.updateplan import HostStatus, plan_update
from ..port.clock import utc_text
from ..store.enrolments import EnrolmentStore


class Host(Protocol):
    """The host's VM verifier; ``port.hostclient.HostClient`` is the real form."""

    def status(self) -> HostStatus:
        """Return which release runs, and which one waits."""
        ...

    def challenge(self) -> bytes:
        """Return what one order may carry."""
        ...

    def order(self, envelope: bytes) -> bool:
        """Give a signed order; return whether it changed anything."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateWish:
    """What is wanted of a host.

    Attributes:
        host_id: The host.
        state: ``staged``, ``tried`` or ``confirmed``.
        release: Id of the release; its signature was verified by the caller.
        store: URL of the image store, as the host reaches it.
        confirm_s: Seconds from power-on within which the release has to be confirmed.
        accept_s: Seconds for which evidence of either release is accepted, from the order on.
        begin_s: Unix seconds from which on the host may be restarted; None for now.
        end_s: Unix seconds from which on it may not; None for never.
        again: Try a release again that the host fell back from.
    """

    host_id: str
    state: str
    release: bytes
    store: str = ""
    confirm_s: int = 1800
    accept_s: int = 6 * 60 * 60
    begin_s: int | None = None
    end_s: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOutcome:
    """What was ordered (or would be), where the host was and is, and what is recorded of it."""

    order: str | None
    before: HostStatus
    after: HostStatus
    known: Enrolment
    recorded: Enrolment

    @property
    def changed(self) -> bool:
        """Whether the host or its record changed."""
        return self.order is not None or self.known != self.recorded


def update_host(
    wish: UpdateWish,
    host: Host,
    store: EnrolmentStore,
    key: Callable[[], PrivateKey],
    *,
    now_s: int,
    rehearse: bool = False,
) -> UpdateOutcome:
    """Bring a host into the wanted state.

    Args:
        wish: What is wanted.
        host: The host.
        store: What is recorded of hosts.
        key: Returns the order key; only called when there is something to order.
        now_s: Unix seconds.
        rehearse: Ask and say, change nothing.

    Raises:
        UsageError: what ``plan_update`` raises; ``update.retired``, ``update.unproven``, ``update.window``,
            ``update.unexpected``.
        UnreachableError: the host refuses, or does not answer.
    """
    known = store.get(wish.host_id)
    status = host.status()
    order = plan_update(wish.state, status, wish.release, again=wish.again)
    recorded = known.updated(wish.release) if wish.state == "confirmed" else _expecting(known, wish, now_s)
    if order == TRY:
        _require_window(wish, now_s)
    if rehearse:
        return UpdateOutcome(order=order, before=status, after=status, known=known, recorded=recorded)
    if wish.state != "confirmed" and recorded != known:
        store.update(known, recorded)
    if order is not None:
        signing = key()
        host.order(sign_host_order(_order(wish, order, host.challenge()), signing))
    after = status if order in (None, TRY) else host.status()
    if wish.state == "confirmed" and recorded != known:
        store.update(known, recorded)
    return UpdateOutcome(order=order, before=status, after=after, known=known, recorded=recorded)


def _order(wish: UpdateWish, action: str, challenge: bytes) -> HostOrder:
    return HostOrder(
        action,
        wish.host_id,
        challenge,
        wish.release,
        store=wish.store if action == STAGE else None,
        confirm_s=wish.confirm_s if action == TRY else None,
    )


def _expecting(known: Enrolment, wish: UpdateWish, now_s: int) -> Enrolment:
    """Return the enrolment that expects the release for long enough; one that does is left alone."""
    if known.release_id == wish.release:
        return known.expecting(wish.release, until_s=0)
    ahead = known.next
    if ahead is not None and ahead.release_id == wish.release and ahead.until_s >= now_s + wish.accept_s // 2:
        return known
    if wish.state == "tried" and (ahead is None or ahead.release_id != wish.release):
        raise UsageError(
            f"host {wish.host_id} is not expected to run release {wish.release.hex()}",
            code="update.unexpected",
            hint="stage it first",
        )
    return known.expecting(wish.release, until_s=now_s + wish.accept_s)


def _require_window(wish: UpdateWish, now_s: int) -> None:
    early = wish.begin_s is not None and now_s < wish.begin_s
    late = wish.end_s is not None and now_s >= wish.end_s
    if early or late:
        planned = " to ".join("any time" if at is None else utc_text(at) for at in (wish.begin_s, wish.end_s))
        raise UsageError(
            f"it is {utc_text(now_s)}, and the restart is planned for {planned}",
            code="update.window",
            hint="the release waits on the host; run this again within the window",
        )

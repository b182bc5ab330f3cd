# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes may be used: those that are accepted, not expired, and not lost or false since."""

from __future__ import annotations

import asyncio
import dataclasses

from ansible.module_utils.vouch.notary.authority import Peer
from ansible.module_utils.vouch.notary.roster import Lease, Roster

from sim.portauthority import SimGuest

NOW_S = 1_800_000_000
GUESTS = [SimGuest(f"node{number}", f"fd00::{number}", now_s=NOW_S) for number in (1, 2, 3)]


def peer(guest: SimGuest, accepted_at_s: int = NOW_S) -> Peer:
    """Return a guest as it was accepted."""
    return Peer(
        address=guest.address,
        owner=guest.owner,
        certificate=guest.certificate,
        package=guest.package,
        accepted_at_s=accepted_at_s,
        expires_at_s=accepted_at_s + 60,
    )


class At:
    """A time of day that tests set."""

    def __init__(self) -> None:
        self.now_s = NOW_S + 0.5

    def __call__(self) -> float:
        return self.now_s


async def taken(roster: Roster, count: int) -> list[Lease | None]:
    """Take slots."""
    return [await roster.acquire(limit_s=0.01) for _ in range(count)]


def test_the_node_that_does_the_least_is_next() -> None:
    async def scenario() -> None:
        roster = Roster(slots=2, now_s=At())
        await roster.update(peer(guest) for guest in GUESTS[:2])
        leases = await taken(roster, 5)
        addresses = [lease.peer.address if lease else None for lease in leases]
        assert addresses == ["fd00::1", "fd00::2", "fd00::1", "fd00::2", None]
        assert leases[1] is not None
        await roster.release(leases[1])
        (again,) = await taken(roster, 1)
        assert again is not None
        assert again.peer.address == "fd00::2"

    asyncio.run(scenario())


def test_idle_nodes_take_turns() -> None:
    async def scenario() -> None:
        roster = Roster(slots=2, now_s=At())
        await roster.update(peer(guest) for guest in GUESTS)
        used = []
        for _ in range(6):
            (lease,) = await taken(roster, 1)
            assert lease is not None
            used.append(lease.peer.address)
            await roster.release(lease)
        assert used == ["fd00::1", "fd00::2", "fd00::3"] * 2

    asyncio.run(scenario())


def test_who_waits_gets_what_comes_free() -> None:
    async def scenario() -> None:
        roster = Roster(slots=1, now_s=At())
        await roster.update([peer(GUESTS[0])])
        (lease,) = await taken(roster, 1)
        assert lease is not None
        waiting = asyncio.create_task(roster.acquire(limit_s=5))
        await asyncio.sleep(0)
        assert not waiting.done()
        await roster.release(lease)
        assert await waiting is not None

    asyncio.run(scenario())


def test_a_node_that_is_no_longer_listed_is_revoked() -> None:
    async def scenario() -> None:
        roster = Roster(slots=2, now_s=At())
        await roster.update(peer(guest) for guest in GUESTS[:2])
        first, second = await taken(roster, 2)
        assert first is not None
        assert second is not None
        await roster.update([peer(GUESTS[1])])
        assert (first.revoked.is_set(), second.revoked.is_set()) == (True, False)
        assert roster.addresses == {"fd00::2"}
        # Accepted again, it is used again; the old lease stays revoked, and gives back nothing that is not its own.
        await roster.update(peer(guest) for guest in GUESTS[:2])
        await roster.release(first)
        assert roster.addresses == {"fd00::1", "fd00::2"}

    asyncio.run(scenario())


def test_evidence_that_expires() -> None:
    async def scenario() -> None:
        at = At()
        roster = Roster(slots=1, now_s=at)
        await roster.update([peer(GUESTS[0])])
        (lease,) = await taken(roster, 1)
        assert lease is not None
        at.now_s = NOW_S + 60
        assert roster.peer("fd00::1") is None
        assert roster.addresses == frozenset()
        await roster.update([peer(GUESTS[0])])
        assert lease.revoked.is_set()
        await roster.update([peer(GUESTS[0], NOW_S + 30)])
        assert roster.peer("fd00::1") == peer(GUESTS[0], NOW_S + 30)

    asyncio.run(scenario())


def test_a_node_that_was_lost_needs_younger_evidence() -> None:
    async def scenario() -> None:
        roster = Roster(slots=2, now_s=At())
        await roster.update([peer(GUESTS[0])])
        first, second = await taken(roster, 2)
        assert first is not None
        assert second is not None
        await roster.distrust(first, false=False)
        assert second.revoked.is_set()
        await roster.update([peer(GUESTS[0])])
        assert roster.addresses == frozenset()
        await roster.update([peer(GUESTS[0], NOW_S + 1)])
        assert roster.addresses == {"fd00::1"}

    asyncio.run(scenario())


def test_a_node_that_was_false_needs_another_certificate() -> None:
    async def scenario() -> None:
        at = At()
        roster = Roster(slots=2, now_s=at)
        guest = SimGuest("node1", "fd00::1", now_s=NOW_S)
        await roster.update([peer(guest)])
        first, second = await taken(roster, 2)
        assert first is not None
        assert second is not None
        await roster.distrust(first, false=True)
        # Lost as well: that does not make it better.
        await roster.distrust(second, false=False)
        await roster.update([peer(guest, NOW_S + 30)])
        assert roster.addresses == frozenset()
        guest.renew(NOW_S)
        await roster.update([peer(guest)])
        assert roster.addresses == frozenset()
        await roster.update([peer(guest, NOW_S + 1)])
        assert roster.addresses == {"fd00::1"}

    asyncio.run(scenario())


def test_a_renewed_certificate_does_not_end_jobs() -> None:
    async def scenario() -> None:
        roster = Roster(slots=1, now_s=At())
        guest = SimGuest("node1", "fd00::1", now_s=NOW_S)
        await roster.update([peer(guest)])
        (lease,) = await taken(roster, 1)
        assert lease is not None
        guest.renew(NOW_S)
        newer = dataclasses.replace(peer(guest), accepted_at_s=NOW_S + 1)
        await roster.update([newer])
        assert not lease.revoked.is_set()
        assert roster.peer("fd00::1") == newer

    asyncio.run(scenario())

# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of peers: which events lead where, and that no channel outlives its acceptance."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.peer import AcceptedPeer
from ansible.module_utils.vouch.authority.peers import (
    ACCEPTED,
    ASKING,
    DROPPED,
    ENDED,
    EXPIRED,
    GONE,
    LIVES_UNHEARD,
    MAX_PEERS,
    MAX_REVOKED,
    MAX_STRANGERS,
    NEW_KEY,
    REFUSED,
    REVOKED,
    Action,
    Ask,
    End,
    Load,
    PeerTable,
)
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.digest import sha256
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sim.attester import SimHost

OWN, PEER, OTHER = "fd00::1", "fd00::2", "fd00::3"
TTL_S = 60
NOW_S = 1000.0


@functools.cache
def host() -> SimHost:
    return SimHost()


def accepted(
    address: str = PEER, *, certificate: bytes = b"c1", key: bytes = b"k1", at_s: float = NOW_S
) -> AcceptedPeer:
    return AcceptedPeer(
        address=address,
        guest="g1",
        host_id=host().host_id,
        certificate=certificate,
        key=key,
        channel_authority=b"a",
        package_id=bytes(32),
        package_name="node",
        accepted_at_s=int(at_s),
        expires_at_s=int(at_s) + TTL_S,
        enrolment=host().enrolment,
    )


def test_until_when_nothing_has_to_be_done() -> None:
    found = table()
    assert found.due_s() == math.inf
    found.want(PEER, NOW_S)
    # Its answer is awaited.
    assert found.due_s() == math.inf
    found.judged(accepted(), NOW_S)
    assert found.due_s() == NOW_S + TTL_S / 2
    found.tick(found.due_s())
    assert found.due_s() == NOW_S + TTL_S


def table() -> PeerTable:
    return PeerTable(OWN, ttl_s=TTL_S)


def with_peer() -> PeerTable:
    found = table()
    found.want(PEER, NOW_S)
    found.judged(accepted(), NOW_S)
    return found


def state(found: PeerTable, address: str = PEER) -> tuple[str, str]:
    peer = found.find(address)
    assert peer is not None
    return peer.state, peer.reason


def test_who_is_wanted_is_asked_and_then_loaded() -> None:
    found = table()
    assert found.want(PEER, NOW_S) == [Ask(PEER)]
    assert found.want(PEER, NOW_S) == []
    assert state(found) == (ASKING, "")
    assert found.judged(accepted(), NOW_S) == [Load(accepted())]
    assert state(found) == (ACCEPTED, "")
    assert found.accepts(PEER, sha256(b"c1"))
    assert not found.accepts(PEER, sha256(b"c2"))
    assert found.want(PEER, NOW_S) == []


def test_who_asks_is_asked_back_once() -> None:
    found = table()
    assert found.heard(PEER, NOW_S) == [Ask(PEER)]
    assert found.heard(PEER, NOW_S) == []
    found.judged(accepted(), NOW_S)
    # Otherwise two guests would ask each other for ever.
    assert found.heard(PEER, NOW_S + 1) == []


def test_nobody_asks_itself() -> None:
    found = table()
    assert found.heard(OWN, NOW_S) == []
    with pytest.raises(UnreachableError) as caught:
        found.want(OWN, NOW_S)
    assert caught.value.code == "peer.own"


def test_half_a_life_later_it_is_asked_again() -> None:
    found = with_peer()
    assert found.tick(NOW_S + TTL_S / 2 - 1) == []
    assert found.tick(NOW_S + TTL_S / 2) == [Ask(PEER)]
    assert state(found) == (ACCEPTED, "")
    later = NOW_S + TTL_S / 2
    assert found.judged(accepted(at_s=later), later) == []
    assert found.tick(NOW_S + TTL_S) == [Ask(PEER)]
    assert state(found) == (ACCEPTED, "")


def test_another_certificate_is_loaded_and_another_key_ends_the_channel_first() -> None:
    found = with_peer()
    renewed = accepted(certificate=b"c2")
    assert found.judged(renewed, NOW_S) == [Load(renewed)]
    restarted = accepted(certificate=b"c3", key=b"k2")
    assert found.judged(restarted, NOW_S) == [End(PEER, NEW_KEY), Load(restarted)]


def test_silence_is_borne_until_the_acceptance_expires() -> None:
    found = with_peer()
    now_s = NOW_S + TTL_S / 2
    asked = 0
    while now_s < NOW_S + TTL_S:
        for action in found.tick(now_s):
            assert action == Ask(PEER)
            asked += 1
            assert found.failed(PEER, "authority.connect", now_s) == []
        now_s += 0.5
    assert 3 < asked < 10
    assert state(found) == (ACCEPTED, "authority.connect")
    # It is still wanted, so it is asked again.
    assert found.tick(NOW_S + TTL_S) == [End(PEER, EXPIRED), Ask(PEER)]
    assert state(found) == (ASKING, EXPIRED)
    assert found.accepted(PEER) is None


def test_a_refusal_ends_the_channel_at_once() -> None:
    found = with_peer()
    found.tick(NOW_S + TTL_S / 2)
    assert found.refused(PEER, "peer.guest", NOW_S + TTL_S / 2) == [End(PEER, "peer.guest")]
    assert state(found) == (REFUSED, "peer.guest")


def test_a_revocation_ends_the_channel_and_evidence_from_before_does_not_bring_it_back() -> None:
    found = with_peer()
    assert found.revoked(sha256(b"other"), NOW_S) == []
    found.tick(NOW_S + TTL_S / 2)
    assert found.revoked(sha256(b"c1"), NOW_S + TTL_S / 2) == [End(PEER, REVOKED)]
    assert state(found) == (ENDED, REVOKED)
    assert found.judged(accepted(at_s=NOW_S + TTL_S / 2), NOW_S + TTL_S / 2) == []
    assert state(found) == (REFUSED, REVOKED)
    fresh = accepted(certificate=b"c2", at_s=NOW_S + TTL_S)
    assert found.judged(fresh, NOW_S + TTL_S) == [Load(fresh)]


def test_what_arrives_expired_is_not_accepted() -> None:
    found = table()
    found.want(PEER, NOW_S)
    assert found.judged(accepted(at_s=NOW_S - TTL_S), NOW_S) == []
    assert state(found) == (REFUSED, EXPIRED)


def test_the_pauses_grow_and_who_is_wanted_is_asked_for_ever() -> None:
    found = table()
    now_s, pauses, since = NOW_S, [], NOW_S
    found.want(PEER, now_s)
    found.refused(PEER, "peer.host", now_s)
    while len(pauses) < 8:
        now_s += 0.5
        if found.tick(now_s):
            pauses.append(now_s - since)
            since = now_s
            found.refused(PEER, "peer.host", now_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_stranger_that_was_refused_is_not_asked_before_its_time() -> None:
    found = table()
    found.heard(PEER, NOW_S)
    found.refused(PEER, "peer.host", NOW_S)
    assert found.heard(PEER, NOW_S + 0.5) == []
    assert found.tick(NOW_S + 600) == []
    assert found.heard(PEER, NOW_S + 2) == [Ask(PEER)]
    # A program of ours does not wait.
    found.refused(PEER, "peer.host", NOW_S + 2)
    assert found.want(PEER, NOW_S + 2) == [Ask(PEER)]


def test_a_peer_that_nobody_wants_and_that_is_silent_is_gone() -> None:
    found = table()
    found.heard(PEER, NOW_S)
    now_s = NOW_S
    found.judged(accepted(), now_s)
    while now_s < NOW_S + LIVES_UNHEARD * TTL_S:
        now_s += 10
        assert [action for action in found.tick(now_s) if not isinstance(action, Ask)] == []
        found.judged(accepted(at_s=now_s), now_s)
    assert found.tick(now_s + 1) == [End(PEER, GONE)]


def test_dropped() -> None:
    found = with_peer()
    assert found.dropped(OTHER, NOW_S) == []
    assert found.dropped(PEER, NOW_S) == [End(PEER, DROPPED)]
    assert found.tick(NOW_S + 600) == []
    assert found.heard(PEER, NOW_S + 600) == [Ask(PEER)]


def test_events_about_nobody_do_nothing() -> None:
    found = table()
    assert found.judged(accepted(), NOW_S) == []
    assert found.refused(PEER, "peer.host", NOW_S) == []
    assert found.failed(PEER, "authority.lost", NOW_S) == []
    assert found.ask_now(PEER, NOW_S) == []
    assert (found.find(PEER), found.accepted(PEER)) == (None, None)


def test_something_changed_at_a_peer() -> None:
    found = with_peer()
    assert found.ask_now(PEER, NOW_S) == [Ask(PEER)]
    assert found.ask_now(PEER, NOW_S) == []
    assert state(found) == (ACCEPTED, "")


def test_strangers_cost_so_much_and_no_more() -> None:
    found = table()
    for at in range(10 * MAX_STRANGERS):
        found.heard(f"fd01::{at:x}", NOW_S)
    # While all of them are being judged, nobody else is.
    assert len(list(found)) == MAX_STRANGERS
    assert found.heard(PEER, NOW_S) == []
    assert found.want(PEER, NOW_S) == [Ask(PEER)]
    for at in range(MAX_STRANGERS):
        found.refused(f"fd01::{at:x}", "peer.host", NOW_S)
    for at in range(10 * MAX_STRANGERS):
        found.heard(f"fd02::{at:x}", NOW_S)
        found.refused(f"fd02::{at:x}", "peer.host", NOW_S)
    assert len(list(found)) <= MAX_STRANGERS + 1
    assert found.find(PEER) is not None


def test_there_is_an_end_to_peers() -> None:
    found = table()
    for at in range(MAX_PEERS):
        found.want(f"fd01::{at:x}", NOW_S)
    with pytest.raises(UnreachableError) as caught:
        found.want(PEER, NOW_S)
    assert caught.value.code == "peer.many"
    assert found.heard(PEER, NOW_S) == []
    for at in range(2 * MAX_REVOKED):
        found.revoked(sha256(b"%d" % at), NOW_S)


class Life(RuleBasedStateMachine):
    """Any order of events: a channel that charon was told of is one of an acceptance that counts, and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table()
        self.now_s = NOW_S
        self.asking = 0
        self.loaded: AcceptedPeer | None = None
        self.revoked: set[bytes] = set()
        self.certificates = 0

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Ask):
                self.asking += 1
            elif isinstance(action, Load):
                self.loaded = action.peer
            else:
                self.loaded = None
        assert self.asking <= 1

    @rule()
    def want(self) -> None:
        self.take(self.table.want(PEER, self.now_s))

    @rule()
    def heard(self) -> None:
        self.take(self.table.heard(PEER, self.now_s))

    @rule()
    def drop(self) -> None:
        self.take(self.table.dropped(PEER, self.now_s))

    @rule(seconds=st.sampled_from([0.5, 5, 30, 90]))
    def tick(self, seconds: float) -> None:
        self.now_s += seconds
        due_s = self.table.due_s()
        actions = self.table.tick(self.now_s)
        assert not actions or due_s <= self.now_s
        self.take(actions)

    @precondition(lambda self: self.asking)
    @rule(late_s=st.sampled_from([0, 20, 70]), other=st.booleans())
    def judge(self, late_s: int, other: bool) -> None:
        self.asking = 0
        self.certificates += other
        made = accepted(
            certificate=b"c%d" % self.certificates, key=b"k%d" % (self.certificates // 2), at_s=self.now_s - late_s
        )
        self.take(self.table.judged(made, self.now_s))

    @precondition(lambda self: self.asking)
    @rule(refused=st.booleans())
    def refuse(self, refused: bool) -> None:
        self.asking = 0
        tell = self.table.refused if refused else self.table.failed
        self.take(tell(PEER, "peer.host", self.now_s))

    @rule()
    def revoke(self) -> None:
        certificate = sha256(b"c%d" % self.certificates)
        self.revoked.add(certificate)
        self.take(self.table.revoked(certificate, self.now_s))

    @invariant()
    def charon_knows_what_is_accepted_and_nothing_else(self) -> None:
        found = self.table.accepted(PEER)
        if found is None:
            assert self.loaded is None
            return
        assert self.loaded is not None
        assert (self.loaded.certificate, self.loaded.key) == (found.certificate, found.key)
        assert sha256(found.certificate) not in self.revoked

    @rule()
    def what_counts_no_more_is_over_with_the_next_tick(self) -> None:
        self.take(self.table.tick(self.now_s))
        found = self.table.accepted(PEER)
        assert found is None or self.now_s < found.expires_at_s


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


@given(st.lists(st.integers(0, 400), max_size=200))
@settings(max_examples=20, deadline=None)
def test_never_more_peers_than_there_may_be(asked: list[int]) -> None:
    found = table()
    for at in asked:
        found.heard(f"fd01::{at:x}", NOW_S)
        if at % 3 == 0:
            found.judged(replace(accepted(f"fd01::{at:x}"), certificate=b"%d" % at), NOW_S)
    assert len(list(found)) <= MAX_PEERS

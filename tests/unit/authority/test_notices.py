# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose word a notice is, notices that come too early, and papers that are kept."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.peer import AcceptedPeer, PeerAppraiser
from ansible.module_utils.vouch.authority.notices import MAX_EARLY, EarlyNotices, notice_about
from ansible.module_utils.vouch.authority.own import ChannelKey
from ansible.module_utils.vouch.authority.peering import PaperCache
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.revocation import RENEWED, STOP

from sim.attester import NONCE, NOW_S
from sim.channelhost import SimChannelHost, sim_criteria, sim_peers

ASKER = "fd00::1"


@functools.cache
def met() -> tuple[SimChannelHost, AcceptedPeer]:
    """Return a host and its guest, accepted."""
    host = SimChannelHost(now_s=NOW_S)
    address = host.start("g1", "node", sim_peers("node")).address
    host.certify("g1", ChannelKey().spki)
    peer = PeerAppraiser().accept(
        host.evidence("g1", NONCE, ASKER).to_bytes(),
        host.shown("g1"),
        criteria=sim_criteria("node"),
        nonce=NONCE,
        asker=ASKER,
        address=address,
        now_s=NOW_S,
    )
    return host, peer


def test_the_word_of_the_peers_host() -> None:
    host, peer = met()
    said = notice_about(*host.revocation("g1", STOP), peer)
    assert said is not None
    assert (said.reason, said.certificate) == (STOP, sha256(peer.certificate))


@pytest.mark.parametrize("fault", ["signature", "signer", "certificate", "nonsense", "authority"])
def test_what_is_not_its_word(fault: str) -> None:
    host, peer = met()
    notice, signature = host.revocation("g1")
    if fault == "signature":
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    elif fault == "signer":
        signature = SimChannelHost(seed=2, now_s=NOW_S).sign(notice)
    elif fault == "certificate":
        notice, signature = host.revocation("g1", certificate=bytes(32))
    elif fault == "nonsense":
        notice, signature = b"{}", host.sign(b"{}")
    else:
        peer = replace(peer, channel_authority=b"x")
    assert notice_about(notice, signature, peer) is None


def test_a_notice_that_overtook_the_evidence() -> None:
    host, peer = met()
    early = EarlyNotices()
    assert not early.end(peer)
    early.keep(*host.revocation("g1", RENEWED))
    early.keep(*host.revocation("g1", certificate=bytes(32)))
    assert not early.end(peer)
    early.keep(*host.revocation("g1"))
    assert early.end(peer)
    early.clear()
    assert not early.end(peer)


def test_only_so_many_notices_are_kept() -> None:
    host, peer = met()
    early = EarlyNotices()
    early.keep(*host.revocation("g1"))
    for at in range(MAX_EARLY):
        early.keep(b"%d" % at, b"")
    assert not early.end(peer)


def test_the_papers_used_least_lately_go_first() -> None:
    cache = PaperCache(10)
    for paper in (b"aaaa", b"bbbb"):
        cache.put(paper)
        cache.put(paper)
    assert cache.get(sha256(b"aaaa")) == b"aaaa"
    cache.put(b"cccc")
    assert [cache.get(sha256(paper)) for paper in (b"aaaa", b"bbbb", b"cccc")] == [b"aaaa", None, b"cccc"]
    # One that is larger than all is still given back, and nothing else is kept beside it.
    cache.put(b"x" * 50)
    assert cache.get(sha256(b"x" * 50)) == b"x" * 50
    assert cache.get(sha256(b"cccc")) is None

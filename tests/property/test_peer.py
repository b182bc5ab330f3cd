# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence and papers with one bit changed: nothing else is believed, and nothing but ``EvidenceError`` is raised."""

from __future__ import annotations

import functools
from dataclasses import replace

from ansible.module_utils.vouch.appraise.peer import AcceptedPeer, PeerAppraiser, PeerPapers
from ansible.module_utils.vouch.errors import EvidenceError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.attester import NONCE, NOW_S
from sim.channelhost import SimChannelHost, sim_criteria, sim_peers
from thorough import examples

ASKER = "fd00::1"
PARTS = ("evidence", "credential", "release", "manifest", "package", "certificate")
BOUND = frozenset({"release", "manifest", "package", "certificate"})
"""Named by the digest of the whole. An envelope's key id is a hint, and a firmware log describes events in words that
nothing rests on: there another byte changes nothing that is believed."""


@functools.cache
def good() -> tuple[bytes, PeerPapers, str]:
    """Return evidence, papers and address of a good peer."""
    host = SimChannelHost(now_s=NOW_S)
    guest = host.start("g1", "node", sim_peers("node"))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    host.certify("g1", key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return host.evidence("g1", NONCE, ASKER).to_bytes(), host.shown("g1"), guest.address


def accept(evidence: bytes, papers: PeerPapers) -> AcceptedPeer | None:
    """Return the peer, None when it is refused."""
    try:
        return PeerAppraiser().accept(
            evidence,
            papers,
            criteria=sim_criteria("node"),
            nonce=NONCE,
            asker=ASKER,
            address=good()[2],
            now_s=NOW_S,
        )
    except EvidenceError:
        return None


def test_unchanged() -> None:
    evidence, papers, _ = good()
    assert accept(evidence, papers) is not None


@given(part=st.sampled_from(PARTS), at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
@settings(max_examples=examples(300), deadline=None)
def test_one_bit_changed(part: str, at: int, bit: int) -> None:
    evidence, papers, _ = good()
    data = bytearray(evidence if part == "evidence" else getattr(papers, part))
    data[at % len(data)] ^= 1 << bit
    if part == "evidence":
        evidence = bytes(data)
    else:
        papers = replace(papers, **{part: bytes(data)})
    found = accept(evidence, papers)
    assert found is None or (part not in BOUND and found == accept(*good()[:2]))


@given(part=st.sampled_from(PARTS), cut=st.integers(0, 1 << 20), tail=st.binary(max_size=3))
@settings(max_examples=examples(100), deadline=None)
def test_cut_off_or_longer(part: str, cut: int, tail: bytes) -> None:
    evidence, papers, _ = good()
    whole = evidence if part == "evidence" else getattr(papers, part)
    changed = whole[: cut % len(whole)] + tail
    if part == "evidence":
        evidence = changed
    else:
        papers = replace(papers, **{part: changed})
    assert accept(evidence, papers) is None

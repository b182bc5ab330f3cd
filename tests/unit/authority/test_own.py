# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a guest is: the host's papers, the certificate for its key, and what it shows; the host is simulated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.authority.host import states
from ansible.module_utils.vouch.authority.own import RENEW_BEFORE_S, ChannelKey, Own, OwnPapers
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.channelcert import LIFE_S
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.key import ECDSA_P256, PublicKey
from ansible.module_utils.vouch.parse.fields import Fields, encode_base64
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sim.attester import NONCE, NOW_S
from sim.channelhost import SimChannelHost, sim_keys, sim_peers


@functools.cache
def host() -> SimChannelHost:
    made = SimChannelHost(now_s=NOW_S)
    made.start("g1", "node", sim_peers("node"))
    made.start("g2", "node", sim_peers("node"))
    return made


def papers(**changes: Any) -> OwnPapers:
    return OwnPapers.read(Fields({**host().papers("g1"), **changes}, "papers"))


def certified(key: ChannelKey, guest: str = "g1", **changes: Any) -> Own:
    certificate = host().certify(guest, key.spki)
    answer = {"certificate": encode_base64(certificate), "expires_at": NOW_S + LIFE_S, **changes}
    return Own.certified(papers(), key, Fields(answer, "certify"), now_s=NOW_S)


def test_the_hosts_papers() -> None:
    found = papers()
    assert (found.guest, found.address, found.name) == ("g1", host().guests["g1"].address, f"g1.{host().host_id}")
    assert found.said.name == "node"
    assert found.keys == tuple(key.spki for key in sim_keys())
    criteria = found.criteria((b"nonsense", found.keys[0]), ttl_s=7)
    assert (criteria.peers, criteria.keys, criteria.ttl_s) == (found.said.peers, sim_keys(), 7)
    assert not criteria.allow_debug


def test_a_host_that_was_given_nothing_yet() -> None:
    values = host().papers("g1")
    del values["keys"]
    found = OwnPapers.read(Fields({**values, "credential": "", "release": "", "manifest": ""}, "papers"))
    assert (found.credential, found.keys, found.former) == (b"", (), ())


@pytest.mark.parametrize(
    "changes",
    [
        {"guest": "../g1"},
        {"host_id": "1"},
        {"address": "fd00:0::1"},
        {"package": encode_base64(b"x")},
        {"package": ""},
        {"channel_authority": ""},
        {"keys": ["x"]},
        {"keys": [encode_base64(b"k")] * 17},
        {"former": [""]},
        {"more": 1},
    ],
)
def test_papers_that_cannot_be_used(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreachableError) as caught:
        papers(**changes)
    assert caught.value.code == "authority.papers"


def test_a_channel_key() -> None:
    key = ChannelKey()
    public = PublicKey.from_der(key.spki)
    assert public.scheme == ECDSA_P256
    loaded = serialization.load_der_private_key(key.private_der, password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    loaded.public_key().verify(key.sign(b"message"), b"message", ec.ECDSA(hashes.SHA256()))
    assert key.spki != ChannelKey().spki


def test_a_certificate_for_us() -> None:
    key = ChannelKey()
    own = certified(key)
    assert own.expires_at_s == NOW_S + LIFE_S
    assert not own.stale(NOW_S + LIFE_S - RENEW_BEFORE_S - 1)
    assert own.stale(NOW_S + LIFE_S - RENEW_BEFORE_S)
    shown = own.digests()
    for name, digest in shown["papers"].items():
        assert sha256(own.paper(bytes.fromhex(digest)) or b"") == bytes.fromhex(digest), name
    assert own.paper(bytes(32)) is None


FAULTS: dict[str, Callable[[ChannelKey], Own]] = {
    "another guest's": lambda key: certified(key, "g2"),
    "another key's": lambda key: certified(key, certificate=encode_base64(host().certify("g1", ChannelKey().spki))),
    "garbage": lambda key: certified(key, certificate=encode_base64(b"x")),
    "no end": lambda key: certified(key, expires_at="soon"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_certificate_that_is_none_for_us(fault: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        FAULTS[fault](ChannelKey())
    assert caught.value.code == "authority.certificate"


def test_whether_the_host_states_our_certificate() -> None:
    own = certified(ChannelKey())
    evidence = host().evidence("g1", NONCE, "fd00::1").to_json()
    assert states(evidence, own)
    assert not states(evidence, certified(ChannelKey()))
    for changed in ({}, {"statement": "eA=="}):
        with pytest.raises(UnreachableError) as caught:
            states({**{name: evidence[name] for name in evidence if name != "statement"}, **changed}, own)
        assert caught.value.code == "authority.evidence"

# SPDX-License-Identifier: GPL-3.0-or-later
"""What charon is told, held against a real one: it takes it, lists it, ends it; and it trusts nobody besides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.authority.ike import Ike, connection, connection_name
from ansible.module_utils.vouch.authority.own import ChannelKey
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.parse.vici import section_of
from ansible.module_utils.vouch.port.vici import Vici

from netns_harness import Charon, charon_in, namespace
from sim.attester import NOW_S
from sim.channelhost import SimChannelHost, sim_peers

OWN, PEER = "fd00::1", "fd00::2"


@pytest.fixture(scope="module")
def charon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Charon]:
    with namespace("ike") as space, charon_in(space, tmp_path_factory.mktemp("charon")) as daemon:
        yield daemon


def certificates() -> tuple[ChannelKey, bytes, bytes]:
    host, key = SimChannelHost(now_s=NOW_S), ChannelKey()
    for guest in ("g1", "g2"):
        host.start(guest, "node", sim_peers("node"))
    return key, host.certify("g1", key.spki), host.certify("g2", ChannelKey().spki)


def test_charon_takes_key_certificate_and_exactly_one_peer(charon: Charon) -> None:
    key, own, peer = certificates()
    ike, name = Ike(str(charon.socket)), connection_name(PEER)
    for _ in range(2):
        # A second time replaces.
        ike.load_own(key.private_der, own)
        loaded = connection(
            own_address=OWN, own_name="g1.h", own_certificate=own, address=PEER, name="g2.h", certificate=peer
        )
        ike.load_peer(name, loaded)
    with Vici(str(charon.socket)) as vici:
        listed = vici.ask("list-conns", event="list-conn").events
        (found,) = (section_of(event[name]) for event in listed)
        assert (found["local_addrs"], found["remote_addrs"]) == ([OWN.encode()], [PEER.encode()])
        remote, child = section_of(found["remote-1"]), section_of(section_of(found["children"])["esp"])
        assert (remote["class"], remote["id"]) == (b"public key", b"g2.h")
        assert len(remote["certs"]) == 1
        assert "cacerts" not in remote or remote["cacerts"] == []
        assert child["mode"] == b"TRANSPORT"
        held = vici.ask("list-certs", event="list-cert").events
        assert {(bytes(item["data"]), item["flag"]) for item in held} == {(own, b"NONE"), (peer, b"NONE")}
    assert not ike.is_up(name)
    ike.end_peer(name)
    # What is not there is ended already.
    ike.end_peer(name)
    with pytest.raises(UnreachableError) as caught:
        ike.initiate(name)
    assert caught.value.code == "vici.refused"


def test_nothing_of_an_earlier_run_is_left(charon: Charon) -> None:
    key, own, peer = certificates()
    ike = Ike(str(charon.socket))
    ike.load_own(key.private_der, own)
    for address in (PEER, "fd00::3"):
        ike.load_peer(
            connection_name(address),
            connection(
                own_address=OWN, own_name="g1.h", own_certificate=own, address=address, name="g2.h", certificate=peer
            ),
        )
    ike.forget_all()
    with Vici(str(charon.socket)) as vici:
        assert vici.ask("list-conns", event="list-conn").events == ()
    # Without a peer that was accepted, charon does not keep its certificate either.
    ike.load_own(key.private_der, own)
    with Vici(str(charon.socket)) as vici:
        assert [item["data"] for item in vici.ask("list-certs", event="list-cert").events] == [own]

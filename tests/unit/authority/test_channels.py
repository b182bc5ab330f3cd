# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels between two guests: real authorities, charon and ESP in network namespaces; the hosts are simulated.

Where the kernel has no ESP, charon does it in user space, in tunnels (``netns_harness``).
"""

from __future__ import annotations

import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.peer import PeerAppraiser, PeerPapers
from ansible.module_utils.vouch.authority.ike import Ike, connection
from ansible.module_utils.vouch.authority.own import ChannelKey
from ansible.module_utils.vouch.check.provenance import verify_work_key
from ansible.module_utils.vouch.errors import EvidenceError, UnreachableError
from ansible.module_utils.vouch.model.acceptance import PAPERS, Acceptance
from ansible.module_utils.vouch.model.channelcert import Channel, certificate
from ansible.module_utils.vouch.model.channelowner import ChannelOwner
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.revocation import RENEWED
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import decode_base64, encode_base64
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from channel_harness import Lab, LabGuest, lab
from sim.attester import SimRelease
from sim.channelhost import sim_criteria

AT_ONCE_S = 12.0
"""Long before the next question, which comes after 30 s."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("channels")) as two:
        yield two


@pytest.fixture
def two(shared: Lab) -> Iterator[Lab]:
    """The shared lab, without a channel before and after."""
    yield shared
    for guest, other in ((shared.a, shared.b), (shared.b, shared.a)):
        guest.ask("disconnect", address=other.address)
        guest.wait_for(lambda guest=guest: not guest.channels())


def connected(two: Lab) -> Lab:
    outcome = two.a.ask("connect", address=two.b.address)
    assert outcome.get("up"), (outcome, two.a.said, two.b.said)
    return two


def ended(guest: LabGuest, within_s: float) -> float:
    return guest.wait_for(lambda: not guest.channels(), within_s)


def test_a_peer_is_judged_anew_for_a_program_that_asks(two: Lab) -> None:
    connected(two)
    two.a.wait_for(lambda: two.a.peer(two.b.address)["accepted_at"] < int(time.time()))
    before = two.a.peer(two.b.address)
    assert two.a.ask("ask", address=two.b.address) == {}
    after = two.a.peer(two.b.address)
    assert (after["state"], after["certificate"]) == ("accepted", before["certificate"])
    assert after["accepted_at"] > before["accepted_at"]


def test_programs_are_told_what_changes(two: Lab) -> None:
    known = two.a.ask("changed", count=0)["count"]
    assert known > 0
    connected(two)
    accepted = two.a.ask("changed", count=known)["count"]
    assert accepted != known
    two.port.revoke("g2")
    ended(two.a, AT_ONCE_S)
    assert two.a.ask("changed", count=accepted)["count"] != accepted
    assert two.a.peer(two.b.address)["reason"] == "peer.revoked"
    # A peer that is judged once more has another expiry, if nothing else.
    two.b.stop()
    two.b.start()
    connected(two)
    known = two.a.ask("changed", count=0)["count"]
    two.a.ask("ask", address=two.b.address)
    assert two.a.ask("changed", count=known)["count"] != known


def test_both_judge_each_other_and_a_channel_carries_their_traffic(two: Lab) -> None:
    outcome = two.a.ask("connect", address=two.b.address)
    assert (outcome["up"], outcome["state"], outcome["reason"]) == (True, "accepted", "")
    assert set(outcome["steps_ms"]) == {"evidence", "papers", "appraise", "ready", "ike", "all"}
    for guest, other in ((two.a, two.b), (two.b, two.a)):
        listed = guest.peer(other.address)
        assert (listed["state"], listed["guest"]) == ("accepted", "g2" if other is two.b else "g1")
        assert listed["expires_at"] - listed["accepted_at"] in (59, 60)
        assert len(guest.channels()) == 1
        before = guest.protected_bytes()
        assert guest.reaches(other)
        assert guest.protected_bytes() > before + 64
    # Each host promised to tell the other guest.
    for guest, other in (("g1", two.b), ("g2", two.a)):
        assert two.port.host_of(guest).guests[guest].told == [other.address]


def test_a_second_wish_finds_the_channel_there(two: Lab) -> None:
    connected(two)
    again = two.a.ask("connect", address=two.b.address)
    assert (again["up"], "ike" in again["steps_ms"]) == (True, False)
    back = two.b.ask("connect", address=two.a.address)
    assert back["up"]
    assert len(two.a.channels()) == 1


def test_the_hosts_word_ends_the_channel_at_once(two: Lab) -> None:
    connected(two)
    (answer,) = two.port.revoke("g2")
    assert answer["result"] == {"ended": 1}
    ended(two.a, AT_ONCE_S)
    assert two.a.peer(two.b.address)["reason"] == "peer.revoked"
    # The peer's charon is told too; and with its old certificate nobody believes it again.
    ended(two.b, AT_ONCE_S)
    assert two.a.ask("connect", address=two.b.address)["reason"] == "peer.revoked"
    two.b.stop()
    two.b.start()
    connected(two)


def test_nobody_else_ends_it(two: Lab) -> None:
    connected(two)
    host, other = two.port.host_of("g2"), two.port.host_of("g1")
    notice, signature = host.revocation("g2")
    forged = [
        (notice, other.sign(notice)),
        (notice, signature[:-1] + bytes([signature[-1] ^ 1])),
        (notice + b" ", host.sign(notice + b" ")),
        host.revocation("g2", certificate=bytes(32)),
        host.revocation("g2", host_id=other.host_id),
    ]
    for said in forged:
        assert two.port.tell(two.a.address, *said)["result"] == {"ended": 0}
    assert two.a.reaches(two.b)
    # Another certificate for the same key: asked again, and the channel stays.
    accepted_at = two.a.peer(two.b.address)["accepted_at"]
    time.sleep(1.1)
    assert two.port.tell(two.a.address, *host.revocation("g2", reason=RENEWED))["result"] == {"ended": 1}
    two.a.wait_for(lambda: two.a.peer(two.b.address)["accepted_at"] > accepted_at)
    assert two.a.channels()


def test_charon_lets_nobody_in_who_has_another_certificate(two: Lab) -> None:
    """The right name and address, a certificate of the right form, but not the one that was judged."""
    connected(two)
    (name,) = two.a.channels()
    host, other = two.port.host_of("g1"), two.port.host_of("g2")
    key = ChannelKey()
    now_s = int(time.time())
    said = Channel(host.host_id, "g1", key.spki, now_s - 300, now_s + 300)
    forged = certificate(said, serial=bytes(range(1, 17)), sign=host.sign)
    ike = Ike(str(two.a.charon.socket), tunnel=two.a.charon.user_space)
    ike.end_peer(name)
    ended(two.b, AT_ONCE_S)
    ike.load_own(key.private_der, forged)
    loaded = connection(
        own_address=two.a.address,
        own_name=said.name,
        own_certificate=forged,
        address=two.b.address,
        name=f"g2.{other.host_id}",
        certificate=other.guests["g2"].certificate,
        tunnel=ike.tunnel,
    )
    ike.load_peer(name, loaded)
    with pytest.raises(UnreachableError) as caught:
        ike.initiate(name)
    assert caught.value.code == "vici.refused"
    assert not two.b.channels()
    assert "AUTHENTICATION_FAILED" in two.a.charon.log.read_text() or "AUTH_FAILED" in two.a.charon.log.read_text()
    two.a.stop()
    two.a.start()
    connected(two)


def test_a_host_that_booted_anew_is_asked_from_the_beginning(two: Lab) -> None:
    """We ask on from where its measurement list was judged up to; now there is another list."""
    connected(two)
    accepted_at = two.a.peer(two.b.address)["accepted_at"]
    host = two.port.host_of("g2")
    two.port.change(host.reboot)
    time.sleep(1.1)
    two.port.tell(two.a.address, *host.revocation("g2", reason=RENEWED))
    two.a.wait_for(lambda: two.a.peer(two.b.address)["accepted_at"] > accepted_at)
    assert two.a.channels()


def test_a_vm_verifier_that_started_again_certifies_again(two: Lab) -> None:
    connected(two)
    host, before = two.port.host_of("g2"), two.b.ask("identity")["certificate"]

    def restart() -> None:
        host.authority_key = ec.generate_private_key(ec.SECP256R1())
        host.guests["g2"].certificate = host.guests["g2"].key = b""

    two.port.change(restart)
    two.a.ask("accepted", address=two.b.address)
    assert two.b.ask("identity")["certificate"] != before
    assert two.a.ask("connect", address=two.b.address)["up"]


def test_an_authority_that_was_killed_leaves_nothing_to_the_next_one(two: Lab) -> None:
    connected(two)
    key = ChannelOwner.from_der(decode_base64(two.b.ask("identity")["certificate"]) or b"").key
    two.b.stop(signal.SIGKILL)
    assert two.b.channels()
    two.b.start()
    assert not two.b.channels()
    assert ChannelOwner.from_der(decode_base64(two.b.ask("identity")["certificate"]) or b"").key != key
    # The other side has accepted the key from before, and learns of the new one as soon as it is asked.
    outcome = two.b.ask("connect", address=two.a.address)
    assert outcome.get("up"), (outcome, two.a.said, two.b.said)
    assert two.b.reaches(two.a)


def test_a_charon_that_died_begins_anew_with_what_is_accepted(two: Lab) -> None:
    connected(two)
    assert "charon started anew" not in two.b.said
    two.b.charon.process.kill()
    two.b.charon.process.wait()
    two.b.charon.start()
    two.b.wait_for(lambda: "charon started anew" in two.b.said)
    # The other end speaks into the old channel until it finds it dead.
    ended(two.a, AT_ONCE_S)
    assert two.b.ask("connect", address=two.a.address).get("up"), (two.a.said, two.b.said)
    assert two.b.reaches(two.a)


def test_an_authority_that_is_told_to_stop_ends_its_channels(two: Lab) -> None:
    connected(two)
    two.b.stop()
    assert not two.b.channels()
    ended(two.a, AT_ONCE_S)
    two.b.start()


def test_what_the_notary_asks(two: Lab) -> None:
    connected(two)
    identity = two.b.ask("identity")
    host, guest = two.port.host_of("g2"), two.port.host_of("g2").guests["g2"]
    assert (identity["host_id"], identity["guest"], identity["address"]) == (host.host_id, "g2", two.b.address)
    assert identity["verity_root"] == guest.package.verity.root_hash.hex()
    assert identity["evidence"]
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    endorsement = decode_base64(two.b.ask("endorse", spki=encode_base64(spki))["endorsement"]) or b""
    owner = ChannelOwner.from_der(decode_base64(identity["certificate"]) or b"")
    assert verify_work_key(endorsement, owner).key == PublicKey.from_der(spki)
    assert two.b.ask("endorse", spki=encode_base64(b"x"))["error"] == "request.field"


@pytest.mark.parametrize("whose", ["the peer's", "its own"])
def test_an_acceptance_can_be_judged_again_by_anybody(two: Lab, whose: str) -> None:
    connected(two)
    address, name = (two.b.address, "node") if whose == "the peer's" else (two.a.address, "builder")
    assert judged_again(two.a.ask("accepted", address=address), name) == address


def test_so_can_one_on_a_host_that_was_updated(tmp_path: pathlib.Path) -> None:
    before = SimRelease()
    with lab(tmp_path, before=before) as two:
        connected(two)
        for address, name in ((two.b.address, "node"), (two.a.address, "builder")):
            found = two.a.ask("accepted", address=address)
            assert found["former"] == [encode_base64(before.envelope)]
            assert judged_again(found, name) == address
            with pytest.raises(EvidenceError, match="in stage roti"):
                judged_again({**found, "former": []}, name)


def judged_again(found: dict[str, Any], name: str) -> str:
    """Return the address of the peer in an answer to ``accepted``, judged by nothing but that answer."""
    acceptance = Acceptance.from_bytes(dump_canonical(found["acceptance"]))
    papers = {paper: decode_base64(found["papers"][paper]) or b"" for paper in PAPERS}
    certificate = decode_base64(found["certificate"]) or b""
    former = tuple(decode_base64(release) or b"" for release in found["former"])
    assert all(sha256(papers[paper]) == getattr(acceptance, paper) for paper in PAPERS)
    peer = PeerAppraiser().accept(
        papers.pop("evidence"),
        PeerPapers(certificate=certificate, former=former, **papers),
        criteria=sim_criteria(name),
        nonce=acceptance.nonce,
        asker=acceptance.asker,
        address=acceptance.address,
        now_s=acceptance.accepted_at_s,
    )
    assert sha256(peer.certificate) == acceptance.certificate
    return peer.address


def test_who_is_not_there(two: Lab) -> None:
    own = two.a.ask("connect", address=two.a.address)
    assert own["error"] == "peer.own"
    assert two.a.ask("accepted", address="fd00::9")["error"] == "peer.not-accepted"
    assert two.a.ask("connect", address="fd00:0::9")["error"] == "request.field"
    assert two.a.ask("make.coffee")["error"] == "request.unknown"


def test_a_peer_whose_package_is_another_is_refused(tmp_path: pathlib.Path) -> None:
    """It is a good guest on a good host; only its name is none that we talk to. It would take us."""
    with lab(tmp_path, names=("builder", "games"), peers=(("node",), ("builder",))) as two:
        outcome = two.a.ask("connect", address=two.b.address)
        assert (outcome["up"], outcome["state"], outcome["reason"]) == (False, "refused", "peer.package.name")
        # The other way round it is this guest that does not let itself be talked into it.
        assert two.b.ask("connect", address=two.a.address)["error"] == "peer.not-ready"
        assert not two.a.channels()
        assert not two.b.channels()


@pytest.mark.thorough
def test_a_channel_lasts_as_long_as_its_acceptance_is_renewed(tmp_path: pathlib.Path) -> None:
    """With a short life: renewed for longer than that, then refused at the next question, then never renewed."""
    # Long enough for a busy machine to ask again in time.
    ttl_s = 12
    with lab(tmp_path, ttl_s=ttl_s) as two:
        connected(two)
        time.sleep(ttl_s + 1)
        assert two.a.reaches(two.b)
        assert len(two.a.channels()) == 1
        assert "ended" not in two.a.said
        # A violation whose notice was lost.
        two.port.change(lambda: two.port.host_of("g2").violate("g2"))
        ended(two.a, 2 * ttl_s)
        assert two.a.peer(two.b.address)["reason"] == "peer.guest"
    with lab(tmp_path / "again", ttl_s=ttl_s) as two:
        connected(two)
        two.port.silent = True
        took_s = ended(two.a, 3 * ttl_s)
        assert took_s > ttl_s / 2 - 1
        assert two.a.peer(two.b.address)["reason"] in ("peer.expired", "authority.connect", "authority.lost")

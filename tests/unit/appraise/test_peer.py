# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest judges another: a good peer, and each way of not being one with its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.peer import (
    MAX_REMEMBERED,
    AcceptedPeer,
    PeerAppraiser,
    PeerCriteria,
    PeerPapers,
    offered_keys,
)
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, sign_envelope
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.model.peers import NOBODY
from ansible.module_utils.vouch.model.release import release_id
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sim.attester import NONCE, NOW_S, TTL_S, SimHost, SimRelease
from sim.channelhost import ENROLMENT_KEY, SimChannelHost, sim_criteria, sim_peers
from sim.updates import installed_with

ASKER = "fd00::1"
OTHER_NONCE = bytes(32)


def new_spki() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Meeting:
    """A peer on its host and the guest that asks; change a part, then ``accept``."""

    host: SimChannelHost = field(default_factory=lambda: SimChannelHost(now_s=NOW_S))
    criteria: PeerCriteria = field(default_factory=lambda: sim_criteria("node", ttl_s=TTL_S))
    nonce: bytes = NONCE
    asker: str = ASKER
    address: str = ""
    now_s: int = NOW_S
    papers: dict[str, bytes] = field(default_factory=dict)
    known: Enrolment | None = None
    appraiser: PeerAppraiser = field(default_factory=PeerAppraiser)

    def __post_init__(self) -> None:
        self.guest = self.host.start("g1", "node", sim_peers("node"))
        self.host.certify("g1", new_spki())

    @property
    def shown(self) -> PeerPapers:
        return replace(self.host.shown("g1"), **self.papers)

    def evidence(self) -> bytes:
        return self.host.evidence("g1", NONCE, ASKER).to_bytes()

    def accept(self, evidence: bytes | None = None) -> AcceptedPeer:
        return self.appraiser.accept(
            self.evidence() if evidence is None else evidence,
            self.shown,
            criteria=self.criteria,
            nonce=self.nonce,
            asker=self.asker,
            address=self.address or self.guest.address,
            now_s=self.now_s,
            asked_at_s=NOW_S,
            known=self.known,
        )

    def code(self, evidence: bytes | None = None) -> str:
        with pytest.raises(EvidenceError) as caught:
            self.accept(evidence)
        return caught.value.code


def test_a_good_peer() -> None:
    meeting = Meeting()
    peer = meeting.accept()
    assert (peer.address, peer.guest, peer.host_id) == (meeting.guest.address, "g1", meeting.host.host_id)
    assert (peer.package_id, peer.package_name) == (package_id(meeting.guest.signed), "node")
    assert (peer.certificate, peer.key) == (meeting.guest.certificate, meeting.guest.key)
    assert peer.channel_authority == meeting.host.authority
    assert (peer.accepted_at_s, peer.expires_at_s) == (NOW_S, NOW_S + TTL_S)
    assert peer.enrolment.accepted_at_s == NOW_S


def test_the_next_question_goes_on_where_the_last_one_ended() -> None:
    meeting = Meeting()
    first = meeting.accept()
    assert first.enrolment.ima is not None
    meeting.known = first.enrolment
    offset = first.enrolment.ima.offset_bytes
    assert offset > 0
    meeting.host.attester.measure("/usr/sbin/xenstored", b"xenstored")
    later = meeting.accept(meeting.host.evidence("g1", NONCE, ASKER, offset=offset).to_bytes())
    assert later.enrolment.ima is not None
    assert later.enrolment.ima.entries == first.enrolment.ima.entries + 1
    # Without what the first one left there is no going on.
    meeting.known = None
    assert meeting.code(meeting.host.evidence("g1", NONCE, ASKER, offset=offset).to_bytes()) == "peer.host"


def test_what_another_host_left_is_not_taken_for_this_one() -> None:
    meeting = Meeting(known=SimHost(seed=5).enrolment)
    assert meeting.accept().enrolment.host_id == meeting.host.host_id


def test_the_first_end_counts() -> None:
    meeting = Meeting()
    meeting.host.certify("g1", new_spki(), life_s=40)
    assert meeting.accept().expires_at_s == NOW_S + 40
    meeting = Meeting()
    meeting.papers["credential"] = meeting.host.credential(expires_at_s=NOW_S + 30)
    assert meeting.accept().expires_at_s == NOW_S + 30


def test_a_release_that_is_named_by_its_id_may_be_signed_by_anybody() -> None:
    stranger = generate_private_key()
    host = SimChannelHost(now_s=NOW_S)
    host.attester = SimHost(SimRelease(signing_key=stranger))
    meeting = Meeting(host=host)
    keys = (*meeting.criteria.keys, public_key(stranger))
    assert meeting.code() == "peer.host"
    pinned = replace(meeting.criteria.peers, releases=(release_id(host.attester.release.envelope),), release_keys=())
    meeting.criteria = replace(meeting.criteria, peers=pinned, keys=keys)
    assert meeting.accept().host_id == host.host_id
    # The id is of that file alone.
    other = replace(pinned, releases=(bytes(32),))
    meeting.criteria = replace(meeting.criteria, peers=other)
    assert meeting.code() == "peer.release.key"


def updated(before: SimRelease) -> tuple[Meeting, PeerPapers]:
    """Return a meeting with a guest of a host that was updated from ``before``, and the papers it shows."""
    host = SimChannelHost(now_s=NOW_S)
    host.attester = installed_with(before)
    meeting = Meeting(host=host)
    return meeting, replace(meeting.shown, former=(before.envelope,))


def test_a_host_that_was_updated_shows_what_it_was_installed_with() -> None:
    meeting, papers = updated(SimRelease())
    assert meeting.code() == "peer.host"
    meeting.papers = {"former": papers.former}  # type: ignore[dict-item]
    assert meeting.accept().guest == "g1"


def test_what_a_host_was_installed_with_meets_the_criteria_too() -> None:
    """Our package pins the release that runs; the one before is by a key that is offered, and not named."""
    stranger = generate_private_key()
    meeting, papers = updated(SimRelease(signing_key=stranger))
    meeting.papers = {"former": papers.former}  # type: ignore[dict-item]
    keys = (*meeting.criteria.keys, public_key(stranger))
    pinned = replace(meeting.criteria.peers, releases=(release_id(papers.release),))
    meeting.criteria = replace(meeting.criteria, peers=pinned, keys=keys)
    assert meeting.code() == "peer.host"
    both = replace(pinned, releases=(*pinned.releases, release_id(papers.former[0])))
    meeting.criteria = replace(meeting.criteria, peers=both)
    assert meeting.accept().guest == "g1"


Change = Callable[[Meeting], Any]


def criteria(**changes: Any) -> Change:
    def change(meeting: Meeting) -> None:
        meeting.criteria = replace(meeting.criteria, peers=replace(meeting.criteria.peers, **changes))

    return change


def paper(name: str, made: Callable[[Meeting], bytes]) -> Change:
    def change(meeting: Meeting) -> None:
        meeting.papers[name] = made(meeting)

    return change


def states(**changes: Any) -> Change:
    return lambda meeting: meeting.guest.changes.update(changes)


def channel(**changes: Any) -> Change:
    def change(meeting: Meeting) -> None:
        meeting.host.evidence("g1", NONCE, ASKER)
        record = meeting.guest.record(NOW_S)
        meeting.guest.changes["channel"] = record.channel._replace(**changes)

    return change


def another_authority(meeting: Meeting) -> None:
    """The certificate is by an authority that the host does not state."""
    own = meeting.host.authority_key
    meeting.host.authority_key = ec.generate_private_key(ec.SECP256R1())
    meeting.host.certify("g1", new_spki())
    meeting.host.authority_key = own


def another_guests_certificate(meeting: Meeting) -> None:
    """The host states the certificate of its other guest for this one."""
    meeting.host.start("g2", "node", sim_peers("node"))
    meeting.guest.certificate = meeting.host.certify("g2", new_spki())
    meeting.guest.key = meeting.host.guests["g2"].key


def another_form(meeting: Meeting) -> None:
    """A certificate by the right authority and for the right key, but written otherwise (serial of another length)."""
    from ansible.module_utils.vouch.model.channelcert import SKEW_S, Channel, certificate

    said = Channel(meeting.host.host_id, "g9", meeting.guest.key, NOW_S - SKEW_S, NOW_S + 60)
    meeting.guest.certificate = certificate(said, serial=b"\1", sign=meeting.host.sign)


def two_at_one_address(meeting: Meeting) -> None:
    meeting.host.start("g2", "node", sim_peers("node")).address = meeting.guest.address


REFUSED: dict[str, tuple[Change, str]] = {
    "we talk to nobody": (lambda m: setattr(m, "criteria", replace(m.criteria, peers=NOBODY)), "peer.nobody"),
    "no authority at hand": (criteria(enrolment_keys=(bytes(32),)), "peer.credential.key"),
    "credential is garbage": (paper("credential", lambda m: b"x"), "peer.credential.malformed"),
    "credential is missing": (paper("credential", lambda m: b""), "peer.credential.malformed"),
    "credential by a stranger": (
        paper("credential", lambda m: sign_envelope("a", b"b", generate_private_key())),
        "peer.credential.signature",
    ),
    "something else by the authority": (
        paper("credential", lambda m: sign_envelope("a", b"b", ENROLMENT_KEY)),
        "peer.credential.malformed",
    ),
    "credential of no sense": (
        paper("credential", lambda m: sign_envelope("application/vnd.vouch.host-credential+json", b"b", ENROLMENT_KEY)),
        "peer.credential.malformed",
    ),
    "credential is over": (
        paper("credential", lambda m: m.host.credential(expires_at_s=NOW_S)),
        "peer.credential.time",
    ),
    "credential of the future": (
        paper("credential", lambda m: m.host.credential(issued_at_s=NOW_S + 301)),
        "peer.credential.time",
    ),
    "credential of another host": (
        paper("credential", lambda m: SimChannelHost(seed=2, now_s=NOW_S).credential()),
        "peer.host",
    ),
    "no key of releases at hand": (criteria(release_keys=(bytes(32),)), "peer.release.key"),
    "release by a stranger": (paper("release", lambda m: m.host.attester.release.forged()), "peer.host"),
    "release is garbage": (paper("release", lambda m: b"x"), "peer.host"),
    "another manifest": (paper("manifest", lambda m: b"{}"), "peer.host"),
    "another installer": (criteria(installer_pcr4=(bytes(32),)), "peer.host"),
    "no key of packages at hand": (criteria(package_keys=(bytes(32),)), "peer.package.key"),
    "package by a stranger": (
        paper("package", lambda m: sign_envelope("a", b"b", generate_private_key())),
        "peer.package.signature",
    ),
    "package is garbage": (paper("package", lambda m: b"x"), "peer.package.signature"),
    "a package that it does not run": (
        paper("package", lambda m: m.host.start("g3", "node", NOBODY).signed),
        "peer.package.mismatch",
    ),
    "another name": (criteria(names=("builder",)), "peer.package.name"),
    "an implant on the host": (lambda m: m.host.attester.measure("/tmp/implant", b"x"), "peer.host"),
    "an older nonce": (lambda m: setattr(m, "nonce", OTHER_NONCE), "peer.host"),
    "asked too long ago": (lambda m: setattr(m, "now_s", NOW_S + TTL_S), "peer.host"),
    "violated": (lambda m: m.host.violate("g1"), "peer.guest"),
    "paused": (states(state="paused"), "peer.guest"),
    "coming up": (states(phase="booting", verdict="pending"), "peer.guest"),
    "checked long ago": (states(checked_at_s=NOW_S - 600), "peer.guest"),
    "not in the log": (states(counter=9), "peer.guest"),
    "nobody there": (lambda m: setattr(m, "address", "fd00::9"), "peer.guest.missing"),
    "two there": (two_at_one_address, "peer.guest.missing"),
    "it is not to tell us": (lambda m: setattr(m, "asker", "fd00::2"), "peer.told"),
    "no certificate stated": (channel(certificate=b""), "peer.certificate.mismatch"),
    "another certificate stated": (channel(certificate=bytes(32)), "peer.certificate.mismatch"),
    "another key stated": (channel(key=bytes(32)), "peer.certificate.mismatch"),
    "certificate is garbage": (lambda m: setattr(m.guest, "certificate", b"x"), "peer.certificate.malformed"),
    "certificate with a tail": (
        lambda m: setattr(m.guest, "certificate", m.guest.certificate + b"\0"),
        "peer.certificate.malformed",
    ),
    "certificate by another authority": (another_authority, "peer.certificate.signature"),
    "certificate of another guest": (another_guests_certificate, "peer.certificate.name"),
    "certificate of another form": (another_form, "peer.certificate.name"),
    "certificate is over": (
        lambda m: m.host.certify("g1", new_spki(), life_s=0),
        "peer.certificate.time",
    ),
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_who_is_not_accepted(fault: str) -> None:
    change, code = REFUSED[fault]
    meeting = Meeting()
    change(meeting)
    assert meeting.code() == code


def test_the_reasons_of_the_appraisal_follow() -> None:
    meeting = Meeting()
    meeting.host.attester.measure("/tmp/implant", b"x")
    with pytest.raises(EvidenceError) as caught:
        meeting.accept()
    assert [item.code for item in caught.value.findings] == ["peer.host", "ima.entry.unknown"]


def test_evidence_of_another_machine_does_not_pass_for_this_one() -> None:
    """A guest relays what a good host on another machine said, with that machine's papers or with its own."""
    good, relaying = Meeting(), Meeting(host=SimChannelHost(seed=2, now_s=NOW_S))
    evidence = good.evidence()
    assert relaying.code(evidence) == "peer.host"
    relaying.papers = {name: getattr(good.shown, name) for name in ("credential", "release", "manifest", "package")}
    assert relaying.code(evidence) == "peer.guest.missing"
    # At the good guest's own address, but with a certificate of its own: it cannot use the good guest's.
    relaying.address = good.guest.address
    assert relaying.code(evidence) == "peer.certificate.mismatch"


def test_evidence_of_another_guest_of_the_same_host_does_not_pass_for_this_one() -> None:
    meeting = Meeting()
    other = meeting.host.start("g2", "other", NOBODY)
    meeting.host.certify("g2", new_spki())
    meeting.host.evidence("g2", NONCE, ASKER)
    meeting.address = other.address
    assert meeting.code() == "peer.package.mismatch"
    meeting.papers = {"package": other.signed}
    assert meeting.code() == "peer.package.name"


def debug_host() -> SimChannelHost:
    host = SimChannelHost(now_s=NOW_S)
    host.attester = SimHost(SimRelease(variant="debug"))
    return host


def test_debug_is_for_those_who_are_it_themselves() -> None:
    assert Meeting(host=debug_host()).code() == "peer.host"
    meeting = Meeting(host=debug_host(), criteria=sim_criteria("node", ttl_s=TTL_S, allow_debug=True))
    assert meeting.accept().guest == "g1"


def test_reference_values_are_kept_for_the_same_papers_and_keys_alone() -> None:
    meeting = Meeting()
    meeting.accept()
    meeting.accept()
    assert len(meeting.appraiser.remembered) == 1
    meeting.criteria = replace(meeting.criteria, keys=meeting.criteria.keys[:2])
    assert meeting.code() == "peer.release.key"
    for at in range(2 * MAX_REMEMBERED):
        meeting = Meeting(appraiser=meeting.appraiser, papers={"manifest": b"%d" % at})
        meeting.code()
    assert len(meeting.appraiser.remembered) <= MAX_REMEMBERED


def test_criteria_of_another_guest_are_not_taken_for_ours() -> None:
    """The same papers, judged by two sets of criteria: what was verified by one is not believed by the other."""
    meeting = Meeting()
    meeting.accept()
    other = replace(meeting.criteria.peers, installer_pcr4=(bytes(32),))
    meeting.criteria = replace(meeting.criteria, peers=other)
    assert meeting.code() == "peer.host"


def test_what_is_no_key_is_left_out_of_an_offer() -> None:
    (good, *_) = sim_criteria("node").keys
    off_curve = PublicKey.p256(bytes(31) + b"\1", bytes(31) + b"\1").spki
    assert offered_keys([b"", b"x", off_curve, good.spki]) == (good,)

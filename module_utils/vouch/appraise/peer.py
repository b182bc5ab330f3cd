# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether one guest accepts another: the appraisal that both ends of a channel make, each by its own package.

 1. credential   an enrolment authority that our package names knows the peer's host
 2. release      one that our package names, or signed by a key that it names
 3. package      signed by a key that our package names
 4. host         the whole appraisal (``appraise.host``): the evidence is of that host, fresh, and affirming
 5. guest        the guest at the peer's address is affirming, and has one of the names our package lists
 6. told         the host promised to tell us the moment this guest ends
 7. certificate  the channel certificate is the one the host states, issued by the key it states, for this guest

The evidence came by the guest itself: a relay, as far as it is concerned. What ties it to the peer is step 7: only who
holds the key of the stated certificate can speak in the channel that is opened afterwards.

Keys come from anywhere, the peer included: our package names them by their digests.

Source: docs/channels.md; Schiffman et al., ACSAC 2009, V-C and VI.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..check.channelcert import SUBJECT, verify_channel_certificate
from ..check.signature import load_key, verify_envelope, verify_guest_package, verify_release
from ..errors import EvidenceError, ParseError, UsageError
from ..model.channelcert import SKEW_S, Channel
from ..model.credential import PAYLOAD_TYPE, HostCredential
from ..model.digest import sha256
from ..model.enrolment import Enrolment
from ..model.finding import Finding, Severity, Verdict, deny
from ..model.gueststate import GuestRecord
from ..model.key import PublicKey
from ..model.package import package_id
from ..model.peers import Peers
from ..model.release import release_id
from ..model.statement import HostStatement
from ..parse.canonical import dump_canonical
from ..parse.envelope import parse_envelope
from .guestresult import GuestResult
from .host import appraise_host
from .policy import AppraisalPolicy
from .references import References

TTL_S = 60
"""How long an acceptance counts; half of it later the peer is asked again."""

MAX_REMEMBERED = 16
"""Reference values kept, one for each set of papers; peers on one host differ in the package alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPapers:
    """What a peer shows besides its evidence; every one is signed by somebody.

    Attributes:
        credential: Its host's credential, envelope.
        release: Its host's release, envelope.
        manifest: The release's file list.
        package: Its own package, envelope.
        certificate: Its channel certificate, DER.
        former: Releases, envelopes, that its host was installed with and updated from.
    """

    credential: bytes
    release: bytes
    manifest: bytes
    package: bytes
    certificate: bytes
    former: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCriteria:
    """What a guest demands of a peer.

    Attributes:
        peers: From its own package.
        keys: Public keys that may be meant by the ids in ``peers``; others among them do nothing.
        allow_debug: Whether debug releases and packages will do; for a guest that is one itself.
        ttl_s: Seconds an acceptance counts.
    """

    peers: Peers
    keys: tuple[PublicKey, ...]
    allow_debug: bool = False
    ttl_s: int = TTL_S

    def named(self, ids: Sequence[bytes]) -> tuple[PublicKey, ...]:
        """Return the keys that have one of these ids."""
        wanted = {item.hex() for item in ids}
        return tuple(key for key in self.keys if key.keyid in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedPeer:
    """A guest that may be spoken to.

    Attributes:
        address: Its IPv6 address.
        guest: Its id on its host.
        host_id: UUID of its host.
        certificate: Its channel certificate, DER.
        key: SubjectPublicKeyInfo of its channel key.
        channel_authority: SubjectPublicKeyInfo of the key that its host revokes with.
        package_id: Id of its package.
        package_name: Name of its package.
        accepted_at_s: When, Unix seconds.
        expires_at_s: Until when: the result's end, the credential's, or the certificate's, whichever is first.
        enrolment: Of its host, advanced: where the next question goes on from.
    """

    address: str
    guest: str
    host_id: str
    certificate: bytes
    key: bytes
    channel_authority: bytes
    package_id: bytes
    package_name: str
    accepted_at_s: int
    expires_at_s: int
    enrolment: Enrolment


@dataclass(slots=True)
class PeerAppraiser:
    """Accepts peers by one guest's criteria, and remembers reference values that were verified.

    Attributes:
        remembered: Digest of papers, criteria and keys to the reference values made of them.
    """

    remembered: dict[bytes, References] = field(default_factory=dict)

    def accept(
        self,
        evidence: bytes,
        papers: PeerPapers,
        *,
        criteria: PeerCriteria,
        nonce: bytes,
        asker: str,
        address: str,
        now_s: int,
        asked_at_s: int | None = None,
        known: Enrolment | None = None,
    ) -> AcceptedPeer:
        """Return the peer when all seven steps hold.

        Args:
            evidence: As the peer gave it.
            papers: As the peer gave them.
            criteria: What is demanded.
            nonce: The 32 bytes that we asked with.
            asker: Our own address.
            address: The peer's address: where we asked.
            now_s: Unix seconds.
            asked_at_s: When the nonce was made; None means now.
            known: Enrolment of the peer's host as our last acceptance left it, of the same credential; None takes the
                credential's.

        Raises:
            EvidenceError: ``peer.nobody``, or the code of the step that did not hold (docs/findings.md, "peer."); what
                the appraisal of the host or the guest found follows it.

        Trust: evidence and papers are the peer's.
        """
        if criteria.peers.nobody:
            raise deny("peer.nobody", _peer(address), expected="peers in our own package", actual="none")
        credential = open_credential(papers.credential, criteria, now_s=now_s)
        enrolment = credential.enrolment
        if known is not None and known.host_id == enrolment.host_id:
            enrolment = known
        appraisal = appraise_host(
            evidence,
            host_id=enrolment.host_id,
            nonce=nonce,
            channel_key=None,
            enrolment=enrolment,
            references=self._references(papers, criteria),
            now_s=now_s,
            asked_at_s=asked_at_s,
        )
        result, statement = appraisal.result, appraisal.statement
        if statement is None or appraisal.enrolment is None or not _good(result.verdict, criteria):
            found = f"{result.verdict.value} in stage {result.stage}"
            refused = deny("peer.host", _peer(address), expected="affirming", actual=found)
            raise EvidenceError((*refused.findings, *_reasons(result.findings)))
        guest = guest_at(address, result.guests)
        record = _accepted_guest(guest, criteria, package_id(papers.package))
        if asker not in record.channel.told:
            raise deny("peer.told", _peer(address), expected=asker, actual=" ".join(record.channel.told) or "nobody")
        channel = verify_stated_certificate(papers.certificate, statement, record, now_s=now_s)
        return AcceptedPeer(
            address=address,
            guest=record.id,
            host_id=statement.host_id,
            certificate=papers.certificate,
            key=channel.spki,
            channel_authority=statement.channel_authority,
            package_id=record.package,
            package_name=record.name,
            accepted_at_s=now_s,
            expires_at_s=min(result.expires_at_s, credential.expires_at_s, channel.not_after_s),
            enrolment=appraisal.enrolment,
        )

    def _references(self, papers: PeerPapers, criteria: PeerCriteria) -> References:
        """Return the reference values of these papers under these criteria (steps 2 and 3)."""
        said = {"peers": criteria.peers.to_json(), "debug": criteria.allow_debug, "ttl_s": criteria.ttl_s}
        keys = (key.spki for key in criteria.keys)
        shown = (papers.release, papers.manifest, papers.package, *papers.former)
        parts = (dump_canonical({**said, "former": len(papers.former)}), *shown, *keys)
        name = sha256(b"".join(sha256(part) for part in parts))
        found = self.remembered.get(name)
        if found is None:
            found = peer_references(papers, criteria)
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            self.remembered[name] = found
        return found


def offered_keys(offers: Iterable[bytes]) -> tuple[PublicKey, ...]:
    """Return the keys among what a peer offers; what is none is left out: an offer decides nothing.

    Args:
        offers: SubjectPublicKeyInfo each.
    """
    found = []
    for spki in offers:
        try:
            key = PublicKey.from_der(spki)
            load_key(key)
        except (ParseError, UsageError):
            continue
        found.append(key)
    return tuple(found)


def open_credential(envelope: bytes, criteria: PeerCriteria, *, now_s: int) -> HostCredential:
    """Return what an enrolment authority says of the peer's host (step 1).

    Raises:
        EvidenceError: ``peer.credential.malformed``, ``peer.credential.key`` when no key is at hand that our package
            names, ``peer.credential.signature``, ``peer.credential.time``.
    """
    subject = "credential"
    keys = criteria.named(criteria.peers.enrolment_keys)
    if not keys:
        raise deny("peer.credential.key", subject, expected="a key of an enrolment authority", actual="none")
    try:
        parsed = parse_envelope(envelope)
    except ParseError as error:
        raise deny("peer.credential.malformed", subject, expected="a signed credential", actual=error) from None
    try:
        verified = verify_envelope(parsed, keys, subject=subject)
    except EvidenceError as error:
        raise deny("peer.credential.signature", subject, expected="an authority we know", actual=error) from None
    try:
        if verified.payload_type != PAYLOAD_TYPE:
            raise ParseError("credential.payloadType", 0, "is that of something else")
        credential = HostCredential.from_bytes(verified.payload)
    except ParseError as error:
        raise deny("peer.credential.malformed", subject, expected=PAYLOAD_TYPE, actual=error) from None
    if not credential.valid_at(now_s, skew_s=SKEW_S):
        until = f"{credential.issued_at_s} to {credential.expires_at_s}"
        raise deny("peer.credential.time", subject, expected=f"{now_s} within its time", actual=until)
    return credential


def peer_references(papers: PeerPapers, criteria: PeerCriteria) -> References:
    """Return policy and reference values for the appraisal of the peer's host (steps 2 and 3).

    A release that our package names by its id is pinned byte for byte: then any key may have signed it.

    Raises:
        EvidenceError: ``peer.release.key``, ``peer.package.key`` when no key is at hand that our package names,
            ``peer.package.signature``.
    """
    peers = criteria.peers
    pinned = release_id(papers.release) in peers.releases
    release_keys = criteria.keys if pinned else criteria.named(peers.release_keys)
    package_keys = criteria.named(peers.package_keys)
    if not release_keys:
        raise deny("peer.release.key", "release", expected="a key that our package names", actual="none")
    if not package_keys:
        raise deny("peer.package.key", "package", expected="a key that our package names", actual="none")
    try:
        verify_guest_package(papers.package, package_keys)
    except EvidenceError as error:
        found = deny("peer.package.signature", "package", expected="a package that such a key signed", actual=error)
        raise EvidenceError((*found.findings, *error.findings)) from None
    policy = AppraisalPolicy(
        name="peers of a guest",
        ttl_s=criteria.ttl_s,
        release_keys=release_keys,
        releases=peers.releases if pinned else None,
        installer_pcr4=peers.installer_pcr4,
        allow_debug=criteria.allow_debug,
        package_keys=package_keys,
    )
    # What ran before is held to the same criteria: that its keys are many does not make it anybody's.
    former = [item for item in papers.former if _named_release(item, criteria)]
    return References(policy, [(papers.release, papers.manifest)], [papers.package], former)


def _named_release(envelope: bytes, criteria: PeerCriteria) -> bool:
    """Say whether our package names a release, or a key that signed it."""
    if release_id(envelope) in criteria.peers.releases:
        return True
    keys = criteria.named(criteria.peers.release_keys)
    try:
        return bool(keys) and bool(verify_release(envelope, keys).release_id)
    except EvidenceError:
        return False


def guest_at(address: str, guests: Sequence[GuestResult]) -> GuestResult:
    """Return the one guest whose channel is at that address.

    Raises:
        EvidenceError: ``peer.guest.missing``.
    """
    found = [item for item in guests if item.record is not None and item.record.channel.address == address]
    if len(found) != 1:
        raise deny("peer.guest.missing", _peer(address), expected="one guest there", actual=f"{len(found)} guests")
    return found[0]


def verify_stated_certificate(data: bytes, statement: HostStatement, record: GuestRecord, *, now_s: int) -> Channel:
    """Return what the certificate says when it is the stated one (step 7).

    Raises:
        EvidenceError: ``peer.certificate.mismatch`` when the host states another, or another key, and as
            ``check.channelcert.verify_channel_certificate``.
    """
    found, wanted = sha256(data), record.channel.certificate
    if found != wanted:
        raise deny("peer.certificate.mismatch", SUBJECT, expected=wanted or "none stated", actual=found)
    channel = verify_channel_certificate(
        data, authority=statement.channel_authority, host_id=statement.host_id, guest=record.id, now_s=now_s
    )
    if sha256(channel.spki) != record.channel.key:
        raise deny("peer.certificate.mismatch", SUBJECT, expected=record.channel.key, actual=sha256(channel.spki))
    return channel


def _accepted_guest(guest: GuestResult, criteria: PeerCriteria, package: bytes) -> GuestRecord:
    """Return the record of a guest that our package lets in (step 5)."""
    record, subject = guest.record, f"guest:{guest.guest}"
    if record is None or record.package != package:
        stated = "no guest" if record is None else record.package
        raise deny("peer.package.mismatch", subject, expected=stated, actual=package)
    if not _good(guest.verdict, criteria):
        refused = deny("peer.guest", subject, expected="affirming", actual=guest.verdict.value)
        raise EvidenceError((*refused.findings, *_reasons(guest.findings)))
    if record.name not in criteria.peers.names:
        raise deny("peer.package.name", subject, expected=", ".join(criteria.peers.names), actual=record.name)
    return record


def _good(verdict: Verdict, criteria: PeerCriteria) -> bool:
    return verdict is Verdict.AFFIRMING or (criteria.allow_debug and verdict is Verdict.WARNING)


def _reasons(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(item for item in findings if item.severity is not Severity.NOTE)


def _peer(address: str) -> str:
    return f"peer:{address}"

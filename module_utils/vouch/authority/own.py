# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this guest is: what its host says of it, its channel key, and the certificate for that key.

The channel key is made at start and stays in this process and in charon's memory. The host may say of this guest what
it likes: it can read and write the guest's memory anyway, and what peers believe is in the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..appraise.peer import PeerCriteria, offered_keys
from ..check.channelcert import MAX_CERTIFICATE_BYTES, verify_channel_certificate
from ..check.packagerules import read_package
from ..errors import EvidenceError, ParseError, UnreachableError
from ..model.acceptance import MAX_FORMER
from ..model.channelcert import channel_name
from ..model.credential import MAX_CREDENTIAL_BYTES
from ..model.digest import sha256
from ..model.gueststate import GUEST_ID, MAX_NAME_CHARS
from ..model.ima import MAX_MANIFEST_BYTES
from ..model.image import DEBUG
from ..model.package import MAX_PACKAGE_BYTES, GuestPackage, package_id
from ..model.release import MAX_RELEASE_BYTES
from ..parse.envelope import MAX_ENVELOPE_BYTES, parse_envelope
from ..parse.fields import Fields, encode_base64
from .messages import read_address

MAX_KEYS, MAX_KEY_BYTES = 16, 1024
RENEW_BEFORE_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPapers:
    """What the host hands to its guest.

    Attributes:
        host_id, guest, mac, address: Who and where this guest is.
        package: Its own signed package; ``said`` is what that says.
        credential, release, manifest: Of the host; empty where it has none, and then no peer will accept us.
        channel_authority: SubjectPublicKeyInfo of the key that issues certificates.
        keys: SubjectPublicKeyInfo of those who signed all this, for peers that know them by digest.
        former: Releases that the host was installed with and updated from.
    """

    host_id: str
    guest: str
    mac: str
    address: str
    package: bytes
    said: GuestPackage
    credential: bytes
    release: bytes
    manifest: bytes
    channel_authority: bytes
    keys: tuple[bytes, ...] = ()
    former: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """Name in our certificate."""
        return channel_name(self.host_id, self.guest)

    @property
    def package_id(self) -> bytes:
        """Id of our package."""
        return package_id(self.package)

    def criteria(self, offers: tuple[bytes, ...], *, ttl_s: int) -> PeerCriteria:
        """Return what we demand of a peer that offers these keys; our own ones count as well."""
        keys = offered_keys(dict.fromkeys((*self.keys, *offers)))
        return PeerCriteria(peers=self.said.peers, keys=keys, allow_debug=self.said.variant == DEBUG, ttl_s=ttl_s)

    @classmethod
    def read(cls, fields: Fields) -> OwnPapers:
        """Return the papers in the host's answer.

        Raises:
            UnreachableError: ``authority.papers``: the host does not speak our protocol.
        """
        try:
            package = fields.blob("package", limit_bytes=MAX_PACKAGE_BYTES)
            parsed = parse_envelope(package)
            papers = cls(
                host_id=fields.uuid("host_id"),
                guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
                mac=fields.text("mac", maximum_chars=17),
                address=read_address(fields, "address"),
                package=package,
                said=read_package(parsed.payload_type, parsed.payload),
                credential=fields.blob("credential", limit_bytes=2 * MAX_CREDENTIAL_BYTES, empty=True),
                release=fields.blob("release", limit_bytes=2 * MAX_RELEASE_BYTES, empty=True),
                manifest=fields.blob("manifest", limit_bytes=MAX_MANIFEST_BYTES, empty=True),
                channel_authority=fields.blob("channel_authority", limit_bytes=MAX_KEY_BYTES),
                keys=read_keys(fields) if fields.has("keys") else (),
                former=_read_former(fields) if fields.has("former") else (),
            )
            fields.done()
        except (ParseError, EvidenceError) as error:
            raise UnreachableError(f"the host's papers cannot be used: {error}", code="authority.papers") from None
        return papers


def read_keys(fields: Fields) -> tuple[bytes, ...]:
    """Take ``keys``: a list of SubjectPublicKeyInfo in base64; raises ``ParseError``."""
    items = fields.array("keys", maximum=MAX_KEYS)
    return tuple(Fields({"key": item}, "keys").blob("key", limit_bytes=MAX_KEY_BYTES) for item in items)


def _read_former(fields: Fields) -> tuple[bytes, ...]:
    items = fields.array("former", maximum=MAX_FORMER)
    return tuple(Fields({"release": item}, "former").blob("release", limit_bytes=MAX_ENVELOPE_BYTES) for item in items)


class ChannelKey:
    """A P-256 key, made here."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.DER, form)

    @property
    def private_der(self) -> bytes:
        """ECPrivateKey (RFC 5915), for charon."""
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.TraditionalOpenSSL
        return self._key.private_bytes(serialization.Encoding.DER, form, plain)

    def sign(self, message: bytes) -> bytes:
        """Return the ECDSA signature with SHA-256, DER."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """This guest, able to open channels.

    Attributes:
        papers: What the host says.
        key: Our channel key.
        certificate: For that key, DER.
        expires_at_s: Its end, Unix seconds.
    """

    papers: OwnPapers
    key: ChannelKey
    certificate: bytes
    expires_at_s: int

    @classmethod
    def certified(cls, papers: OwnPapers, key: ChannelKey, answer: Fields, *, now_s: int) -> Own:
        """Return us with the certificate in the host's answer.

        Raises:
            UnreachableError: ``authority.certificate``: it is not one for us.
        """
        try:
            certificate = answer.blob("certificate", limit_bytes=MAX_CERTIFICATE_BYTES)
            answer.integer("expires_at")
            answer.done()
            channel = verify_channel_certificate(
                certificate,
                authority=papers.channel_authority,
                host_id=papers.host_id,
                guest=papers.guest,
                now_s=now_s,
            )
        except (ParseError, EvidenceError) as error:
            raise UnreachableError(f"the host's certificate: {error}", code="authority.certificate") from None
        if channel.spki != key.spki:
            raise UnreachableError("the host certified another key", code="authority.certificate")
        return cls(papers=papers, key=key, certificate=certificate, expires_at_s=channel.not_after_s)

    def stale(self, now_s: float) -> bool:
        """Say whether it is time for another certificate."""
        return now_s >= self.expires_at_s - RENEW_BEFORE_S

    @property
    def shown(self) -> Mapping[str, bytes]:
        """What peers get besides evidence, by the names in ``messages.PAPERS``."""
        papers = self.papers
        return {
            "credential": papers.credential,
            "release": papers.release,
            "manifest": papers.manifest,
            "package": papers.package,
            "certificate": self.certificate,
        }

    def paper(self, digest: bytes) -> bytes | None:
        """Return the paper of that digest, among those that are shown."""
        papers = (*self.shown.values(), *self.papers.former)
        return next((paper for paper in papers if sha256(paper) == digest), None)

    def digests(self) -> dict[str, Any]:
        """Return the digests of the papers, and the keys, as ``peer.evidence`` answers them."""
        return {
            "papers": {name: sha256(paper).hex() for name, paper in self.shown.items()},
            "former": [sha256(release).hex() for release in self.papers.former],
            "keys": [encode_base64(key) for key in self.papers.keys],
        }

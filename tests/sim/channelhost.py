# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated host whose guests have channels: what the VM verifier says and does, over a TPM with a software key.

No machine, no Xen, no hardware TPM stands behind it. What it signs is signed, what it states is under a quote; a test
reaches in and makes it lie.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible.module_utils.vouch.appraise.peer import PeerCriteria, PeerPapers
from ansible.module_utils.vouch.make.credential import sign_credential
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.channelcert import LIFE_S, SERIAL_BYTES, SKEW_S, Channel, certificate
from ansible.module_utils.vouch.model.credential import HostCredential
from ansible.module_utils.vouch.model.guestaddress import address_of, derived_mac
from ansible.module_utils.vouch.model.gueststate import GuestChannel, GuestRecord
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.package import GuestPackage, package_id
from ansible.module_utils.vouch.model.peers import Peers
from ansible.module_utils.vouch.model.revocation import VIOLATION, Revocation
from ansible.module_utils.vouch.parse.fields import encode_base64
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guestparts import Guest
from sim.attester import INSTALLER, INSTALLER_KERNEL, SimHost, release_key, sha256
from sim.firmware import SimFirmware

ENROLMENT_KEY = generate_private_key("ed25519")
PACKAGE_KEY = generate_private_key("ed25519")
CREDENTIAL_LIFE_S = 30 * 24 * 3600
IMAGE = Guest().package()
"""What every simulated guest is made of, but for its name and criteria."""


def sim_keys() -> tuple[PublicKey, ...]:
    """Return every public key that signs something here."""
    return (public_key(ENROLMENT_KEY), public_key(PACKAGE_KEY), release_key())


def sim_peers(*names: str) -> Peers:
    """Return criteria that the simulated hosts and guests of these names meet."""
    installer = SimFirmware()
    installer.boot([INSTALLER, INSTALLER_KERNEL])
    return Peers(
        installer_pcr4=(installer.bank()[4],),
        release_keys=(bytes.fromhex(release_key().keyid),),
        enrolment_keys=(bytes.fromhex(public_key(ENROLMENT_KEY).keyid),),
        names=names,
        package_keys=(bytes.fromhex(public_key(PACKAGE_KEY).keyid),),
    )


def sim_criteria(*names: str, **changes: Any) -> PeerCriteria:
    """Return the same with the keys that they name."""
    return PeerCriteria(peers=sim_peers(*names), keys=sim_keys(), **changes)


@dataclass(kw_only=True)
class SimGuest:
    """One guest of a simulated host.

    Attributes:
        guest: Its id.
        package: What it runs.
        signing_key: Whoever signed that.
        certificate, key: Of its channel; empty before it asked.
        told: Peers that are told of its end.
        changes: Members of its record that the host states otherwise.
    """

    guest: str
    package: GuestPackage
    signing_key: Any = PACKAGE_KEY
    address: str = ""
    mac: str = ""
    domain_id: int = 1
    certificate: bytes = b""
    key: bytes = b""
    told: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signed = sign_guest_package(self.package, self.signing_key)

    def record(self, now_s: int) -> GuestRecord:
        """Return what the host states of it."""
        package = self.package
        channel = GuestChannel(
            key=sha256(self.key) if self.key else b"",
            certificate=sha256(self.certificate) if self.certificate else b"",
            address=self.address,
            told=tuple(sorted(self.told)),
        )
        record = GuestRecord(
            id=self.guest,
            name=package.name,
            variant=package.variant,
            domain_id=self.domain_id,
            kind="pvh" if "pvh" in package.resources.types else "pv",
            package=package_id(self.signed),
            verity_root=package.verity.root_hash,
            policy=package.policy.sha256,
            state="running",
            phase="running",
            verdict="holds",
            checked_at_s=now_s,
            rounds=7,
            counter=self.domain_id,
            channel=channel,
        )
        return record._replace(**self.changes)


class SimChannelHost:
    """A host with guests.

    Args:
        seed: Tells hosts apart.
        now_s: Its clock, Unix seconds.
    """

    def __init__(self, *, seed: int = 1, now_s: int) -> None:
        self.attester = SimHost(seed=seed)
        self.now_s = now_s
        self.guests: dict[str, SimGuest] = {}
        self.former: tuple[bytes, ...] = ()
        self.authority_key = ec.generate_private_key(ec.SECP256R1())

    @property
    def host_id(self) -> str:
        """Its UUID."""
        return self.attester.host_id

    @property
    def authority(self) -> bytes:
        """SubjectPublicKeyInfo of the channel authority."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.authority_key.public_key().public_bytes(serialization.Encoding.DER, form)

    def sign(self, message: bytes) -> bytes:
        """Sign with the channel authority's key."""
        return self.authority_key.sign(message, ec.ECDSA(hashes.SHA256()))

    def start(self, guest: str, name: str, peers: Peers, **changes: Any) -> SimGuest:
        """Start a guest from a package of that name."""
        mac = derived_mac(self.host_id, guest)
        found = SimGuest(
            guest=guest,
            package=replace(IMAGE, name=name, peers=peers),
            address=address_of(self.host_id, mac),
            mac=mac,
            domain_id=len(self.guests) + 1,
            **changes,
        )
        self.guests[guest] = found
        self.launch(guest)
        return found

    def launch(self, guest: str) -> None:
        """Log the launch of a guest."""
        record = self.guests[guest].record(self.now_s)
        self.attester.log_event(
            {
                "event": "guest.launch",
                "guest": guest,
                "time": self.now_s - 50,
                "package": record.package.hex(),
                "kind": record.kind,
                "order": "00" * 32,
                "counter": record.counter,
            }
        )

    def reboot(self) -> None:
        """Boot anew: registers, logs and measurement list begin again, and the guests are launched again."""
        self.attester.boot()
        for guest in self.guests:
            self.launch(guest)

    def credential(self, **changes: Any) -> bytes:
        """Return the credential that an enrolment authority gave this host."""
        said = {
            "enrolment": self.attester.enrolment,
            "issued_at_s": self.now_s - 60,
            "expires_at_s": self.now_s + CREDENTIAL_LIFE_S,
        }
        return sign_credential(HostCredential(**{**said, **changes}), ENROLMENT_KEY)

    def papers(self, guest: str) -> dict[str, Any]:
        """Answer ``papers``."""
        found = self.guests[guest]
        return {
            "host_id": self.host_id,
            "guest": guest,
            "mac": found.mac,
            "address": found.address,
            "package": encode_base64(found.signed),
            "credential": encode_base64(self.credential()),
            "release": encode_base64(self.attester.release.envelope),
            "manifest": encode_base64(self.attester.release.manifest),
            "channel_authority": encode_base64(self.authority),
            "keys": [encode_base64(key.spki) for key in sim_keys()],
            "former": [encode_base64(release) for release in self.former],
        }

    def certify(self, guest: str, spki: bytes, *, life_s: int = LIFE_S) -> bytes:
        """Answer ``certify``; the certificate is the guest's current one from then on."""
        found = self.guests[guest]
        channel = Channel(
            host_id=self.host_id,
            guest=guest,
            spki=spki,
            not_before_s=self.now_s - SKEW_S,
            not_after_s=self.now_s + life_s,
        )
        found.certificate = certificate(channel, serial=secrets.token_bytes(SERIAL_BYTES), sign=self.sign)
        found.key = spki
        return found.certificate

    def evidence(self, guest: str, nonce: bytes, notify: str, *, pcrs: Sequence[int] = (), offset: int = 0) -> Any:
        """Answer ``evidence``: ``notify`` stands in the guest's record before anything is quoted."""
        told = self.guests[guest].told
        if notify and notify not in told:
            told.append(notify)
        self.attester.ima_offset = offset
        self.attester.statement_changes.update(
            time_s=self.now_s,
            guests=tuple(self.guests[name].record(self.now_s) for name in sorted(self.guests)),
            channel_authority=self.authority,
        )
        if pcrs:
            self.attester.pcrs = tuple(pcrs)
        return self.attester.evidence(nonce)

    def shown(self, guest: str) -> PeerPapers:
        """Return what that guest's authority shows to peers."""
        found = self.guests[guest]
        return PeerPapers(
            credential=self.credential(),
            release=self.attester.release.envelope,
            manifest=self.attester.release.manifest,
            package=found.signed,
            certificate=found.certificate,
            former=self.former,
        )

    def revocation(self, guest: str, reason: str = VIOLATION, **changes: Any) -> tuple[bytes, bytes]:
        """Return a notice about that guest's channel, and its signature."""
        said = Revocation(
            host_id=self.host_id,
            guest=guest,
            certificate=sha256(self.guests[guest].certificate),
            reason=reason,
            time_s=self.now_s,
        )
        notice = said._replace(**changes).to_bytes()
        return notice, self.sign(notice)

    def violate(self, guest: str) -> None:
        """Find a violation: it goes into the log and the statement."""
        found = self.guests[guest]
        found.changes = {"state": "violated", "verdict": "violated", "violations": ("guest.text",)}
        self.attester.log_event(
            {
                "event": "guest.violation",
                "guest": guest,
                "time": self.now_s,
                "package": package_id(found.signed).hex(),
                "codes": "guest.text",
                "expected": "a",
                "found": "b",
            }
        )

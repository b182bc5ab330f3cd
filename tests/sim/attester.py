# SPDX-License-Identifier: GPL-3.0-or-later
"""An attester in memory: a TPM with a software key, a host that was installed and boots, the evidence it gives.

Assign a field, or reach in between two steps, and ask for evidence again: everything derived is made anew, so one
change is one lie. Nothing of the code under test makes the TPM's structures or registers here.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ansible.module_utils.vouch.appraise.host import HostAppraisal, appraise_host
from ansible.module_utils.vouch.appraise.policy import NEEDED_PCRS, AppraisalPolicy
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, sign_envelope
from ansible.module_utils.vouch.make.statements import manifest_blob, sign_host_release
from ansible.module_utils.vouch.model.digest import PcrBank
from ansible.module_utils.vouch.model.enrolment import FIRMWARE_PCRS, FIRST_BOOT_PCRS, Enrolment
from ansible.module_utils.vouch.model.evidence import Evidence, Roti
from ansible.module_utils.vouch.model.image import Package, Verity
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.merkle import inclusion_path, leaf, root
from ansible.module_utils.vouch.model.release import HostRelease, InstallStatement, release_id
from ansible.module_utils.vouch.model.statement import HostStatement, TpmCounters
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.cel import encode_record
from ansible.module_utils.vouch.parse.imalog import encode_entry, encode_template_data
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sim.firmware import SimFirmware

NOW_S = 1_790_000_000
TTL_S = 300
NONCE = bytes(range(32))
KEY_TYPE = "ssh-ed25519 "
ROTI_PCRS = tuple(range(10))
AK_ATTRIBUTES = (1 << 1) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 16) | (1 << 18)
RELEASE_KEY = generate_private_key("ed25519")
"""Signs every release of the simulator unless told otherwise."""

INSTALLER = hashlib.sha256(b"installer UKI").digest()
INSTALLER_KERNEL = hashlib.sha256(b"installer kernel").digest()

FILES = {
    "/init": b"initrd",
    "/usr/lib/systemd/systemd": b"systemd",
    "/usr/sbin/xenstored": b"xenstored",
    "/usr/lib/vouch/verifier": b"verifier",
    "/usr/share/a name with spaces": b"spaces",
}


def sha256(data: bytes) -> bytes:
    """Return SHA-256 of ``data``."""
    return hashlib.sha256(data).digest()


def tpm2b(data: bytes) -> bytes:
    """Return a TPM2B of ``data``."""
    return struct.pack(">H", len(data)) + data


def ssh_key(seed: int) -> str:
    """Return an Ed25519 SSH public key line; the seeds below 256 give 32 bytes of that value."""
    blob = (
        struct.pack(">I", 11)
        + b"ssh-ed25519"
        + struct.pack(">I", 32)
        + (bytes([seed]) * 32 if seed < 256 else seed.to_bytes(32, "big"))
    )
    return KEY_TYPE + base64.b64encode(blob).decode()


class SimTpm:
    """A TPM 2.0 with one attestation key: registers, clock, counters, quotes."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.clock_ms = 10_000
        self.reset_count = 3
        self.restart_count = 1
        self.obfuscation = 0xFFFF_FF00
        """What a key of the owner hierarchy adds to both counters."""
        self.safe = True
        self.magic = 0xFF544347
        self.kind = 0x8018
        self.registers: dict[int, bytes] = {index: bytes(32) for index in range(24)}

    @property
    def public(self) -> bytes:
        """TPMT_PUBLIC of the attestation key."""
        point = self.key.public_key().public_numbers()
        head = struct.pack(">HHI", 0x0023, 0x000B, AK_ATTRIBUTES) + tpm2b(b"")
        parms = struct.pack(">HHHHH", 0x0010, 0x0018, 0x000B, 0x0003, 0x0010)
        return head + parms + tpm2b(point.x.to_bytes(32, "big")) + tpm2b(point.y.to_bytes(32, "big"))

    @property
    def name(self) -> bytes:
        """TPM name of the attestation key."""
        return b"\x00\x0b" + sha256(self.public)

    @property
    def counters(self) -> TpmCounters:
        """Clock and counters as TPM2_ReadClock gives them."""
        return TpmCounters(clock_ms=self.clock_ms, reset_count=self.reset_count, restart_count=self.restart_count)

    @property
    def quoted_counters(self) -> TpmCounters:
        """Clock and counters as a quote gives them."""
        return TpmCounters(
            clock_ms=self.clock_ms,
            reset_count=(self.reset_count + self.obfuscation) % 2**32,
            restart_count=(self.restart_count + self.obfuscation) % 2**32,
        )

    def extend(self, index: int, digest: bytes) -> None:
        """Extend a register."""
        self.registers[index] = sha256(self.registers[index] + digest)

    def reset(self) -> None:
        """Power-cycle: registers to zero, one boot more."""
        self.registers = {index: bytes(32) for index in range(24)}
        self.reset_count += 1
        self.clock_ms += 1000

    def bank(self, indices: Sequence[int]) -> PcrBank:
        """Return some registers."""
        return PcrBank("sha256", {index: self.registers[index] for index in indices})

    def quote(self, extra: bytes, indices: Sequence[int]) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE."""
        select = bytearray(3)
        for index in indices:
            select[index // 8] |= 1 << (index % 8)
        counters = self.quoted_counters
        attest = struct.pack(">IH", self.magic, self.kind)
        attest += tpm2b(b"\x00\x0b" + sha256(struct.pack(">I", 0x40000001) + self.name)) + tpm2b(extra)
        attest += struct.pack(">QIIB", counters.clock_ms, counters.reset_count, counters.restart_count, self.safe)
        attest += struct.pack(">Q", 0x20240125_00120000) + struct.pack(">IHB", 1, 0x000B, 3) + bytes(select)
        attest += tpm2b(sha256(b"".join(self.registers[index] for index in sorted(indices))))
        return attest, self.sign(attest)

    def sign(self, attest: bytes) -> bytes:
        """Return TPMT_SIGNATURE over ``attest``."""
        r, s = decode_dss_signature(self.key.sign(attest, ec.ECDSA(hashes.SHA256())))
        return struct.pack(">HH", 0x0018, 0x000B) + tpm2b(r.to_bytes(32, "big")) + tpm2b(s.to_bytes(32, "big"))


@dataclass(kw_only=True)
class SimRelease:
    """A host image as its build describes it."""

    name: str = "dom0-1"
    variant: str = "production"
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    xen_efi: bytes = b"unified xen.efi"
    root_img: bytes = b"root image"
    signing_key: object = RELEASE_KEY

    @property
    def authenticode(self) -> bytes:
        """What the firmware measures (any digest of the file will do here)."""
        return sha256(b"authenticode" + self.xen_efi)

    @property
    def manifest(self) -> bytes:
        """The manifest blob."""
        return manifest_blob({path: sha256(data) for path, data in self.files.items()})

    @property
    def release(self) -> HostRelease:
        """The release document."""
        machine = SimFirmware()
        machine.boot([self.authenticode])
        return HostRelease(
            subjects={"xen.efi": sha256(self.xen_efi), "root.img": sha256(self.root_img)},
            name=self.name,
            variant=self.variant,
            authenticode_sha256=self.authenticode,
            pcr4=machine.bank()[4],
            verity=Verity(root_hash=sha256(b"verity"), salt=b"salt", data_blocks=7),
            manifest_sha256=sha256(self.manifest),
            manifest_files=len(self.files),
            ssh_user="vouch",
            packages=(Package(name="xen-hypervisor", version="4.20"),),
            xen="4.20.4",
            kernel="6.12",
            source_date_epoch=NOW_S - 1000,
        )

    @property
    def envelope(self) -> bytes:
        """The signed release file."""
        return sign_host_release(self.release, self.signing_key)  # type: ignore[arg-type]

    def forged(self) -> bytes:
        """Return a release file of this content signed by nobody we know."""
        return sign_envelope("application/vnd.in-toto+json", self.release.to_bytes(), generate_private_key())


class SimHost:
    """A machine that was installed by the trusted installer and booted its release.

    Args:
        release: What gets installed.
        seed: Tells hosts apart: id, SSH host key.
    """

    def __init__(self, release: SimRelease | None = None, *, seed: int = 1) -> None:
        self.release = release or SimRelease()
        self.installed = self.release.envelope
        self.release_id = release_id(self.installed)
        self.host_id = str(uuid.UUID(int=(4 << 76) | (2 << 62) | seed))
        self.ssh_host_key = ssh_key(seed)
        self.ek_sha256 = sha256(b"ek%d" % seed)
        self.tpm = SimTpm()
        self.statement_changes: dict[str, object] = {}
        self.pcrs: tuple[int, ...] = NEEDED_PCRS
        self.ima_offset = 0
        self.firmware = b"firmware 1.0"
        self.failed_attempts = 0
        self.install()
        self.boot()

    def install(self, installer: Sequence[bytes] = (INSTALLER, INSTALLER_KERNEL)) -> None:
        """Boot the installer, write the release, make the ROTI proof, enrol."""
        log = self.power_on(installer, boot_entry=b"installer")
        statement = InstallStatement(
            host_id=self.host_id,
            release_id=self.release_id,
            slot="a",
            disk_id="virtio-1",
            disk_bytes=8 << 30,
            xen_efi_sha256=sha256(self.release.xen_efi),
            root_img_sha256=sha256(self.release.root_img),
            boot_entry="vouch",
            ssh_host_key=self.ssh_host_key,
            ak_name=self.tpm.name,
            installer_pcr4=self.tpm.registers[4],
            time_s=NOW_S - 600,
        ).to_bytes()
        attest, signature = self.tpm.quote(sha256(statement), ROTI_PCRS)
        self.roti: Roti | None = Roti(
            statement=statement,
            attest=attest,
            signature=signature,
            pcrs=self.tpm.bank(ROTI_PCRS),
            event_log=log,
        )
        pinned = [index for index in FIRMWARE_PCRS if index not in FIRST_BOOT_PCRS]
        self.enrolment = Enrolment(
            host_id=self.host_id,
            ek_sha256=self.ek_sha256,
            ak_public=self.tpm.public,
            ssh_host_key=self.ssh_host_key,
            release_id=self.release_id,
            baseline={index: self.tpm.registers[index] for index in pinned},
            counters=self.tpm.quoted_counters,
            ima=None,
            enrolled_at_s=NOW_S - 600,
        )

    def power_on(self, applications: Sequence[bytes], *, boot_entry: bytes) -> bytes:
        """Reset, run the firmware, start ``applications``; return the firmware's log."""
        self.tpm.reset()
        firmware = SimFirmware()
        firmware.measure(0, 0x80000008, self.firmware)
        firmware.measure(1, 0x80000002, boot_entry, measured=boot_entry)
        firmware.boot(applications, failed_attempts=self.failed_attempts)
        self.tpm.registers.update(firmware.bank().values)
        return firmware.log

    def boot(self, authenticode: bytes | None = None) -> None:
        """Boot what is on the disk: the release, unless another image is given; start the VM verifier."""
        self.power_on([authenticode or self.release.authenticode], boot_entry=b"vouch")
        self.ima_log = b""
        self.event_log = b""
        self.events = 0
        self.measure_boot_aggregate()
        for path, data in self.release.files.items():
            self.measure(path, data)
        self.log_event(
            {
                "event": "verifier.start",
                "version": "0.1.0",
                "time": NOW_S - 100,
                "reset_count": self.tpm.reset_count,
                "restart_count": self.tpm.restart_count,
            }
        )

    def measure_boot_aggregate(self, digest: bytes | None = None) -> None:
        """Add the first entry of the measurement list."""
        aggregate = sha256(b"".join(self.tpm.registers[index] for index in range(10)))
        self.measure_raw(encode_template_data("ima-sig", "sha256", digest or aggregate, b"boot_aggregate"))

    def measure(self, path: str, content: bytes, *, extended: bool = True) -> None:
        """Measure a file as IMA does."""
        data = encode_template_data("ima-sig", "sha256", sha256(content), path.encode())
        self.measure_raw(data, extended=extended)

    def measure_raw(
        self, data: bytes, *, template: str = "ima-sig", violation: bool = False, pcr: int = 10, extended: bool = True
    ) -> None:
        """Add any entry to the list, and extend the register unless told otherwise."""
        self.ima_log += encode_entry(pcr, template, data, violation=violation)
        if extended:
            self.tpm.extend(pcr, b"\xff" * 32 if violation else sha256(data))

    def log_event(self, content: dict[str, object]) -> None:
        """Add an event to the VM verifier's log and extend PCR 14."""
        digest = sha256(dump_canonical(content))
        self.event_log += encode_record(self.events, 14, digest, content)
        self.events += 1
        self.tpm.extend(14, digest)

    def statement(self) -> bytes:
        """Return the statement, with ``statement_changes`` applied."""
        statement = HostStatement(
            host_id=self.host_id,
            release_id=self.release_id,
            ssh_host_key=self.ssh_host_key,
            time_s=NOW_S,
            tpm=self.tpm.counters,
            event_log_count=self.events,
            event_log_head=self.tpm.registers[14],
            ima_bytes=len(self.ima_log),
        )
        return replace(statement, **self.statement_changes).to_bytes()  # type: ignore[arg-type]

    def evidence(self, nonce: bytes = NONCE, *, others: Sequence[bytes] = (), place: int = 0) -> Evidence:
        """Return evidence for ``nonce``; ``others`` ask at the same time, we are number ``place``."""
        self.tpm.clock_ms += 5
        statement = self.statement()
        nonces = list(others)
        nonces.insert(place, nonce)
        leaves = [leaf(item, sha256(statement)) for item in nonces]
        attest, signature = self.tpm.quote(root(leaves), self.pcrs)
        return Evidence(
            nonce=nonce,
            statement=statement,
            attest=attest,
            signature=signature,
            pcrs=self.tpm.bank(self.pcrs),
            leaf_index=place,
            leaf_count=len(leaves),
            path=inclusion_path(leaves, place),
            ima_offset=self.ima_offset,
            ima_log=self.ima_log[self.ima_offset :],
            event_log=self.event_log,
            roti=self.roti,
        )


@dataclass(kw_only=True)
class SimAppraiser:
    """The asking side: policy, references, enrolment, the channel it sees."""

    host: SimHost
    releases: list[SimRelease] = field(default_factory=list)
    policy_changes: dict[str, object] = field(default_factory=dict)
    nonce: bytes = NONCE
    channel_key: str = ""
    now_s: int = NOW_S
    enrolment: Enrolment | None = None

    def __post_init__(self) -> None:
        self.releases = self.releases or [self.host.release]
        self.channel_key = self.channel_key or self.host.ssh_host_key
        self.enrolment = self.host.enrolment

    @property
    def policy(self) -> AppraisalPolicy:
        """The policy, with ``policy_changes`` applied."""
        installer = SimFirmware()
        installer.boot([INSTALLER, INSTALLER_KERNEL])
        policy = AppraisalPolicy(
            name="simulation",
            ttl_s=TTL_S,
            release_keys=(release_key(),),
            installer_pcr4=(installer.bank()[4],),
        )
        return replace(policy, **self.policy_changes)  # type: ignore[arg-type]

    @property
    def references(self) -> References:
        """Policy and releases."""
        return References(self.policy, [(item.envelope, item.manifest) for item in self.releases])

    def appraise(self, evidence: Evidence | bytes | None = None) -> HostAppraisal:
        """Appraise ``evidence`` (asked for with our nonce when None)."""
        given = self.host.evidence(self.nonce) if evidence is None else evidence
        return appraise_host(
            given if isinstance(given, bytes) else given.to_bytes(),
            host_id=self.host.host_id,
            nonce=self.nonce,
            channel_key=self.channel_key,
            enrolment=self.enrolment,
            references=self.references,
            now_s=self.now_s,
        )

    def accept(self) -> HostAppraisal:
        """Appraise and store the advanced enrolment, as the controller does."""
        appraisal = self.appraise()
        assert appraisal.enrolment is not None, appraisal.result.codes
        self.enrolment = appraisal.enrolment
        return appraisal


def release_key() -> PublicKey:
    """Return the public half of the key the simulator's releases are signed with."""
    return public_key(RELEASE_KEY)

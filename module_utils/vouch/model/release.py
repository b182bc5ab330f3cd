# SPDX-License-Identifier: GPL-3.0-or-later
"""Host releases and install statements: what was built, and what was written to one machine.

A host release is the predicate of an in-toto Statement in a DSSE envelope. An install statement is what the installer
has the TPM sign (the ROTI proof).

Source: in-toto attestation framework v1.0, statement.md; docs/proof.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError
from ..parse.canonical import dump_canonical, load_canonical, load_json
from ..parse.fields import Fields
from .digest import sha256
from .image import (
    DEBUG,
    NAME,
    PRODUCTION,
    ROOT_IMAGE,
    Package,
    Verity,
    packages_json,
    read_packages,
    read_statement,
    statement,
)
from .key import check_ssh_host_key

HOST_RELEASE_TYPE = "urn:vouch:host-release:1"
INSTALL_STATEMENT_TYPE = "urn:vouch:install-statement:1"

HYPERVISOR = "xen.efi"

MAX_RELEASE_BYTES = 8 * 1024 * 1024
MAX_INSTALL_STATEMENT_BYTES = 64 * 1024
NAME_BYTES = 34
"""A TPM name under SHA-256: algorithm and digest."""

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRelease:
    """One host image and what a machine that runs it measures to.

    Attributes:
        subjects: Artifact name to SHA-256; ``xen.efi`` and ``root.img`` are always there.
        name: Release name, also the file name in the image store.
        variant: ``production`` or ``debug`` (a shell exists: never affirming).
        authenticode_sha256: What the firmware extends for ``xen.efi``.
        pcr4: PCR 4 after booting it at the first attempt.
        verity: The root file system's tree.
        manifest_sha256: Digest of the manifest blob (``sha256  /path`` lines).
        manifest_files: Its number of lines.
        ssh_user: Who the evidence subsystem is offered to.
        packages: What the image is made of.
        xen: Version of the hypervisor.
        kernel: Version of the dom0 kernel.
        source_date_epoch: Unix seconds of the build's clock.
    """

    subjects: Mapping[str, bytes]
    name: str
    variant: str
    authenticode_sha256: bytes
    pcr4: bytes
    verity: Verity
    manifest_sha256: bytes
    manifest_files: int
    ssh_user: str
    packages: tuple[Package, ...]
    xen: str
    kernel: str
    source_date_epoch: int

    def __post_init__(self) -> None:
        for needed in (HYPERVISOR, ROOT_IMAGE):
            if needed not in self.subjects:
                raise ParseError("host-release.subject", 0, f"{needed} is missing", code="parse.field.missing")
        object.__setattr__(self, "subjects", MappingProxyType(dict(sorted(self.subjects.items()))))

    def to_json(self) -> dict[str, Any]:
        """Return the in-toto Statement."""
        return statement(
            self.subjects,
            HOST_RELEASE_TYPE,
            {
                "name": self.name,
                "variant": self.variant,
                "authenticode_sha256": self.authenticode_sha256.hex(),
                "pcr4": self.pcr4.hex(),
                "verity": self.verity.to_json(),
                "manifest": {"sha256": self.manifest_sha256.hex(), "files": self.manifest_files},
                "ssh_user": self.ssh_user,
                "packages": packages_json(self.packages),
                "xen": self.xen,
                "kernel": self.kernel,
                "source_date_epoch": self.source_date_epoch,
            },
        )

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, payload: bytes) -> HostRelease:
        """Return the release of a DSSE payload.

        Raises:
            ParseError: for an unknown, missing or malformed member.

        Trust: verify the envelope first (``check.signature.verify_release``).
        """
        fields = Fields(load_json(payload, limit_bytes=MAX_RELEASE_BYTES), "host-release")
        subjects, predicate = read_statement(fields, HOST_RELEASE_TYPE, "host-release")
        manifest = predicate.object("manifest")
        release = cls(
            subjects=subjects,
            name=predicate.text("name", pattern=NAME),
            variant=predicate.choice("variant", PRODUCTION, DEBUG),
            authenticode_sha256=predicate.hex("authenticode_sha256", 32),
            pcr4=predicate.hex("pcr4", 32),
            verity=Verity.read(predicate.object("verity")),
            manifest_sha256=manifest.hex("sha256", 32),
            manifest_files=manifest.integer("files", minimum=1),
            ssh_user=predicate.text("ssh_user", pattern=_USER),
            packages=read_packages(predicate, "host-release"),
            xen=predicate.text("xen", maximum_chars=128),
            kernel=predicate.text("kernel", maximum_chars=128),
            source_date_epoch=predicate.integer("source_date_epoch"),
        )
        manifest.done()
        predicate.done()
        return release


def release_id(envelope: bytes) -> bytes:
    """Return the id of a release: SHA-256 of the signed file, byte for byte."""
    return sha256(envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallStatement:
    """What the trusted installer wrote to one machine; the TPM signs its digest.

    Attributes:
        host_id: UUID given to the host.
        release_id: SHA-256 of the signed release file that was installed.
        slot: ``a`` or ``b``.
        disk_id: Serial or path of the disk.
        disk_bytes: Its size.
        xen_efi_sha256: File read back from the disk.
        root_img_sha256: Partition content read back from the disk.
        boot_entry: Name of the UEFI boot entry.
        ssh_host_key: Key generated for the host.
        ak_name: TPM name of the attestation key made on this machine.
        installer_pcr4: What the installer itself measured to.
        time_s: Unix seconds.
    """

    host_id: str
    release_id: bytes
    slot: str
    disk_id: str
    disk_bytes: int
    xen_efi_sha256: bytes
    root_img_sha256: bytes
    boot_entry: str
    ssh_host_key: str
    ak_name: bytes
    installer_pcr4: bytes
    time_s: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": INSTALL_STATEMENT_TYPE,
            "host_id": self.host_id,
            "release_id": self.release_id.hex(),
            "slot": self.slot,
            "disk": {"id": self.disk_id, "size_bytes": self.disk_bytes},
            "written": {
                HYPERVISOR: self.xen_efi_sha256.hex(),
                ROOT_IMAGE: self.root_img_sha256.hex(),
                "boot_entry": self.boot_entry,
            },
            "ssh_host_key": self.ssh_host_key,
            "ak_name": self.ak_name.hex(),
            "installer": {"pcr4": self.installer_pcr4.hex()},
            "time": self.time_s,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON whose SHA-256 the quote carries."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> InstallStatement:
        """Return the statement of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.

        Trust: verify the quote over ``sha256(data)`` first.
        """
        fields = Fields(load_canonical(data, limit_bytes=MAX_INSTALL_STATEMENT_BYTES), "install-statement")
        fields.literal("type", INSTALL_STATEMENT_TYPE)
        disk, written, installer = (fields.object(name) for name in ("disk", "written", "installer"))
        statement = cls(
            host_id=fields.uuid("host_id"),
            release_id=fields.hex("release_id", 32),
            slot=fields.choice("slot", "a", "b"),
            disk_id=disk.text("id", maximum_chars=256),
            disk_bytes=disk.integer("size_bytes", minimum=1),
            xen_efi_sha256=written.hex(HYPERVISOR, 32),
            root_img_sha256=written.hex(ROOT_IMAGE, 32),
            boot_entry=written.text("boot_entry", maximum_chars=256),
            ssh_host_key=check_ssh_host_key(fields.text("ssh_host_key")),
            ak_name=fields.hex("ak_name", NAME_BYTES),
            installer_pcr4=installer.hex("pcr4", 32),
            time_s=fields.integer("time"),
        )
        for part in (disk, written, installer, fields):
            part.done()
        return statement

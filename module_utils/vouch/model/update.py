# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates of a measured host: where a release waits for its turn, and the statement about who wrote it.

An *update statement* is what a host that runs one release has its TPM sign after it wrote another one and read it back:

    type         "urn:vouch:update-statement:1"
    host_id      uuid of the host
    before       hex, id of the release that ran and wrote
    after        hex, id of the release that was written
    authenticode_sha256  hex, what the firmware extends for its xen.efi
    slot         "a" or "b": where its root image is
    written      {"xen.efi":hex,"root.img":hex,   as read back from the disk
                  "root_bytes":int}               length of the root image
    order        hex, SHA-256 of the signed order
    time         Unix seconds

The AK quotes PCRs 0 to 9 with the digest of the statement, so PCR 4 says which release made it. From the install proof
on, these make a chain up to the release that runs. dom0 writes and reads them, so this is a plain tuple.

Source: docs/proof.md, "Update proof"; docs/adr/0008-updates-by-boot-next.md.
"""

from __future__ import annotations

from typing import NamedTuple

from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields

UPDATE_STATEMENT_TYPE = "urn:vouch:update-statement:1"
MAX_UPDATE_STATEMENT_BYTES = 8 * 1024

MAX_UPDATES = 128
"""Steps from the installation to the release that runs. A host that has more is installed again."""

CURRENT_EFI, NEXT_EFI = "EFI/vouch/current.efi", "EFI/vouch/next.efi"
"""What the firmware starts, and what it starts once when BootNext says so; on the EFI system partition."""

ENTRY, NEXT_ENTRY = "Vouch", "Vouch next"
"""Descriptions of the two boot entries; only the first one is in BootOrder."""

UPDATES_FILE, TRIAL_FILE = "updates.json", "trial"
"""On the data partition: the chain of update proofs; PCR 4 of the release before, and how long it is away."""

CURRENT, STAGED, TRIAL, FALLEN_BACK, OTHER = "current", "staged", "trial", "fallen-back", "other"
"""What a host can be in: nothing waits; a release waits; it runs and is not confirmed; it was to run, and does not;
what runs is not what is meant to."""

SLOTS = ("a", "b")
HYPERVISOR, ROOT_IMAGE = "xen.efi", "root.img"
"""Names of the two files in a release (``model.release`` has them too, at the cost of ``dataclasses``)."""


class UpdateStatement(NamedTuple):
    """What one release wrote of the next one.

    Attributes:
        host_id: The host.
        before: Id of the release that ran.
        release_id: Id of the release that was written.
        authenticode_sha256: What the firmware extends for its xen.efi: by PCR 4 a host knows whether it runs. A root
            image may be the same in two releases.
        slot: Where its root image is.
        xen_efi_sha256: File read back from the disk.
        root_img_sha256: Partition content read back from the disk.
        root_bytes: Its length.
        order: SHA-256 of the signed order.
        time_s: Unix seconds, by the host's clock.
    """

    host_id: str
    before: bytes
    release_id: bytes
    authenticode_sha256: bytes
    slot: str
    xen_efi_sha256: bytes
    root_img_sha256: bytes
    root_bytes: int
    order: bytes
    time_s: int

    def to_bytes(self) -> bytes:
        """Return the canonical JSON whose SHA-256 the quote carries."""
        return dump_canonical(
            {
                "type": UPDATE_STATEMENT_TYPE,
                "host_id": self.host_id,
                "before": self.before.hex(),
                "after": self.release_id.hex(),
                "authenticode_sha256": self.authenticode_sha256.hex(),
                "slot": self.slot,
                "written": {
                    HYPERVISOR: self.xen_efi_sha256.hex(),
                    ROOT_IMAGE: self.root_img_sha256.hex(),
                    "root_bytes": self.root_bytes,
                },
                "order": self.order.hex(),
                "time": self.time_s,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> UpdateStatement:
        """Return the statement of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.

        Trust: verify the quote over its SHA-256 first.
        """
        fields = Fields(load_canonical(data, limit_bytes=MAX_UPDATE_STATEMENT_BYTES), "update-statement")
        fields.literal("type", UPDATE_STATEMENT_TYPE)
        written = fields.object("written")
        statement = cls(
            host_id=fields.uuid("host_id"),
            before=fields.hex("before", 32),
            release_id=fields.hex("after", 32),
            authenticode_sha256=fields.hex("authenticode_sha256", 32),
            slot=fields.choice("slot", *SLOTS),
            xen_efi_sha256=written.hex(HYPERVISOR, 32),
            root_img_sha256=written.hex(ROOT_IMAGE, 32),
            root_bytes=written.integer("root_bytes", minimum=1),
            order=fields.hex("order", 32),
            time_s=fields.integer("time"),
        )
        written.done()
        fields.done()
        return statement

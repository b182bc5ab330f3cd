# SPDX-License-Identifier: GPL-3.0-or-later
"""The partition table of a measured host: planned, and held against what a disk shows.

=====  ==========  ========  ===================================================================
number name        size      content
=====  ==========  ========  ===================================================================
1      vouch-esp   256 MiB   FAT32: ``/EFI/vouch/current.efi``, ``/EFI/vouch/next.efi``
2      vouch-a     512 MiB   root image of slot A (erofs, then its dm-verity hash tree)
3      vouch-b     512 MiB   root image of slot B
4      vouch-data  the rest  ext4: identity, SSH host key, install proof, update proofs
=====  ==========  ========  ===================================================================

The disk GUID *is* the host id, so "this disk is already ours" can be read without mounting anything. A slot's
partition GUID is the head of the verity root hash once its content was written and read back, and a
neutral value before: an interrupted write can therefore never be found by an initrd.

Source: UEFI 2.10, 5.3 (GPT).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UnreachableError, UsageError
from ..model.disktable import DiskTable, Partition, describe, line_of

MIB = 1 << 20
ESP_BYTES = 256 * MIB
SLOT_BYTES = 512 * MIB
DATA_MIN_BYTES = 64 * MIB
ALIGN_BYTES = MIB
TAIL_BYTES = MIB
"""Room for the backup GPT (33 sectors), rounded up to the alignment."""

MIN_DISK_BYTES = ALIGN_BYTES + ESP_BYTES + 2 * SLOT_BYTES + DATA_MIN_BYTES + TAIL_BYTES

TYPE_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
TYPE_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

SLOTS = ("a", "b")
SLOT_NUMBER: Mapping[str, int] = {"a": 2, "b": 3}
ESP_NUMBER = 1
DATA_NUMBER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One way in which the machine is not yet as it should be."""

    name: str
    current: str | None
    desired: str

    def as_dict(self) -> dict[str, str | None]:
        """Return the JSON form."""
        return {"name": self.name, "current": self.current, "desired": self.desired}


def derived_guid(host_id: uuid.UUID, name: str) -> uuid.UUID:
    """Return the GUID of the part ``name`` of the host, the same at every installation."""
    return uuid.uuid5(host_id, name)


def slot_guid(verity_root: bytes) -> uuid.UUID:
    """Return the partition GUID of a slot that holds the image with ``verity_root``.

    The first 16 bytes in reading order, so that ``PARTUUID=`` is the head of the root hash in hex.

    Raises:
        UsageError: when the root hash is shorter than 32 bytes.
    """
    if len(verity_root) < 32:
        raise UsageError(f"a verity root hash has 32 bytes or more, not {len(verity_root)}")
    return uuid.UUID(bytes=verity_root[:16])


def plan_table(*, host_id: uuid.UUID, disk_bytes: int, sector_bytes: int) -> DiskTable:
    """Return the table of a fresh disk: both slots under their neutral GUIDs.

    Raises:
        UnreachableError: when the disk is too small (``disk.too-small``).
        UsageError: for a sector size that does not divide the alignment.
    """
    if sector_bytes <= 0 or ALIGN_BYTES % sector_bytes:
        raise UsageError(f"sector size {sector_bytes} does not divide 1 MiB")
    if disk_bytes < MIN_DISK_BYTES:
        raise UnreachableError(
            f"the disk has {disk_bytes // MIB} MiB, a measured host needs {MIN_DISK_BYTES // MIB} MiB",
            code="disk.too-small",
            hint="Give a larger disk.",
        )
    data_bytes = (disk_bytes - TAIL_BYTES) // ALIGN_BYTES * ALIGN_BYTES - (ALIGN_BYTES + ESP_BYTES + 2 * SLOT_BYTES)
    sizes = (
        ("vouch-esp", TYPE_ESP, ESP_BYTES),
        ("vouch-a", TYPE_LINUX, SLOT_BYTES),
        ("vouch-b", TYPE_LINUX, SLOT_BYTES),
        ("vouch-data", TYPE_LINUX, data_bytes),
    )
    entries: list[Partition] = []
    start = ALIGN_BYTES
    for number, (name, type_guid, size) in enumerate(sizes, start=1):
        entries.append(
            Partition(
                number=number,
                name=name,
                type_guid=type_guid,
                guid=derived_guid(host_id, name),
                start=start // sector_bytes,
                size=size // sector_bytes,
            )
        )
        start += size
    return DiskTable(guid=host_id, sector_bytes=sector_bytes, partitions=tuple(entries))


def find_deltas(wanted: DiskTable, found: DiskTable | None) -> tuple[Delta, ...]:
    """Return what must change for ``found`` to be ``wanted``; slot GUIDs aside, which belong to the content.

    An empty answer means: the disk carries our table for this very host.
    """
    if found is None:
        return (Delta(name="partition table", current=None, desired=describe(wanted)),)
    deltas: list[Delta] = []
    if found.guid != wanted.guid:
        deltas.append(Delta(name="disk GUID", current=str(found.guid), desired=str(wanted.guid)))
    by_number = {entry.number: entry for entry in found.partitions}
    for entry in wanted.partitions:
        current = by_number.pop(entry.number, None)
        if current is None or _shape(current) != _shape(entry):
            deltas.append(
                Delta(
                    name=f"partition {entry.number}",
                    current=None if current is None else line_of(current),
                    desired=line_of(entry),
                )
            )
    deltas += [Delta(name=f"partition {n}", current=line_of(p), desired="absent") for n, p in sorted(by_number.items())]
    return tuple(deltas)


def refuse_foreign_content(
    disk: str, *, ours: bool, signatures: Sequence[str], mounted: Sequence[str], wipe: bool
) -> None:
    """Return when the installation may write to the disk.

    Args:
        disk: Its stable name, for the message.
        ours: Its GUID is this host's id.
        signatures: What is on it, each as a short text (``gpt``, ``ext4 on partition 1``).
        mounted: Mount points and other holders that use it now.
        wipe: The operator said that data on it may go.

    Raises:
        UnreachableError: ``disk.in-use`` or ``disk.not-empty``.
    """
    if mounted:
        raise UnreachableError(
            f"disk {disk} is in use: {', '.join(mounted)}",
            code="disk.in-use",
            hint="Boot the machine from the installer, which runs from memory, and unmount what is mounted by hand.",
        )
    if signatures and not ours and not wipe:
        raise UnreachableError(
            f"disk {disk} is not empty: {', '.join(signatures)}",
            code="disk.not-empty",
            hint="Check that it is the right disk; set measured_host_wipe=true to destroy what is on it.",
        )


def _shape(entry: Partition) -> tuple[object, ...]:
    guid = None if entry.number in SLOT_NUMBER.values() else entry.guid
    return (entry.name, entry.type_guid, entry.start, entry.size, guid)

# SPDX-License-Identifier: GPL-3.0-or-later
"""One slot of a measured host, from an empty disk to the boot entry.

    1. partition table       4. xen.efi on the EFI system partition
    2. root image            5. identity and SSH host key on the data partition
    3. partition GUID        6. boot entries, then boot order

Each step looks at the real machine and does what is missing, so a run that was cut off can be run again, and a second
run does nothing. Nothing starts the slot before step 6, and no initrd finds it before step 3, which
follows a read-back of step 2 from the medium.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import UnreachableError, UsageError
from ..make.bootentry import VARIABLE_ATTRIBUTES, BootTarget, plan_boot, plan_spare
from ..make.disklayout import (
    DATA_NUMBER,
    ESP_BYTES,
    ESP_NUMBER,
    SLOT_BYTES,
    SLOT_NUMBER,
    Delta,
    derived_guid,
    find_deltas,
    plan_table,
    refuse_foreign_content,
    slot_guid,
)
from ..model.disktable import DiskTable, describe
from ..model.image import ROOT_IMAGE
from ..model.release import HYPERVISOR, HostRelease
from ..model.update import CURRENT_EFI, ENTRY, NEXT_EFI, NEXT_ENTRY, TRIAL_FILE, UPDATES_FILE
from ..parse.canonical import dump_canonical
from ..port.disk import DiskReport, FileSystem, TargetDisk, digest_of, erase_head, write_prefix
from ..port.efi import EfiVariables
from ..port.files import PUBLIC_MODE, read_bounded, write_atomic
from .hostkey import ensure_host_key, read_host_key

MAX_XEN_EFI_BYTES = 100 << 20
"""Two of them and a third being written fit the ESP."""

MAX_IDENTITY_BYTES = 4096
ESP_RESERVE_BYTES = 1 << 20
_DIGESTS_PER_BLOCK = 128

Fetch = Callable[[bytes, int], Iterator[bytes]]
"""Digest and size limit to the blob's chunks, as ``port.imagestore.stream_blob`` yields them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotWish:
    """What the slot shall hold. ``release`` was verified by the caller."""

    host_id: uuid.UUID
    slot: str
    release: HostRelease
    release_id: bytes
    wipe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOutcome:
    """What was missing (and, unless this was a rehearsal, is now done), and what the slot is."""

    deltas: tuple[Delta, ...]
    disk_bytes: int
    boot_entry: str
    boot_variable: str
    ssh_host_key: str


class SlotInstaller:
    """Brings one slot of one disk to the wanted state.

    Args:
        disk: The disk.
        efi: The firmware's variables.
        fetch: Where blobs come from.
        wish: The wanted state.
        rehearse: Look and say what would be done, change nothing (``--check``).
        say: Told the name of each step that has something to do.
    """

    def __init__(
        self,
        disk: TargetDisk,
        efi: EfiVariables,
        fetch: Fetch,
        wish: SlotWish,
        *,
        rehearse: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if wish.slot not in SLOT_NUMBER:
            raise UsageError(f"slots are {', '.join(SLOT_NUMBER)}, not {wish.slot!r}")
        self._disk = disk
        self._efi = efi
        self._fetch = fetch
        self._wish = wish
        self._rehearse = rehearse
        self._say = say
        self._number = SLOT_NUMBER[wish.slot]
        self._guid = slot_guid(wish.release.verity.root_hash)
        self._deltas: list[Delta] = []

    def run(self) -> SlotOutcome:
        """Do all steps and return what was done.

        Raises:
            UnreachableError: the disk is foreign, in use, too small or broken; the store, the firmware or a tool
                refuses. What was done until then stays, and the next run continues from there.
        """
        report = self._disk.report()
        table, fresh = self._table(report)
        self._root_image(table, fresh)
        self._hypervisor(fresh)
        ssh_host_key = self._data(fresh)
        target = boot_target(table)
        variable = self._boot_entries(table, target)
        return SlotOutcome(
            deltas=tuple(self._deltas),
            disk_bytes=report.size_bytes,
            boot_entry=target.text(),
            boot_variable=variable,
            ssh_host_key=ssh_host_key,
        )

    def _todo(self, name: str, current: str | None, desired: str) -> bool:
        """Note a difference; return whether it is to be removed now."""
        self._deltas.append(Delta(name=name, current=current, desired=desired))
        if not self._rehearse:
            self._say(name)
        return not self._rehearse

    # Step 1

    def _table(self, report: DiskReport) -> tuple[DiskTable, bool]:
        """Return the table of the disk, and whether its partitions are still to be made (rehearsal only)."""
        wish = self._wish
        wanted = plan_table(host_id=wish.host_id, disk_bytes=report.size_bytes, sector_bytes=report.sector_bytes)
        ours = report.table is not None and report.table.guid == wish.host_id
        deltas = find_deltas(wanted, report.table)
        if deltas or report.mounted:
            refuse_foreign_content(
                report.path, ours=ours, signatures=report.signatures, mounted=report.mounted, wipe=wish.wipe
            )
        if not deltas:
            assert report.table is not None
            self._refuse_other_slot(report.table)
            return report.table, False
        if self._todo("partition table", describe(report.table), describe(wanted)):
            self._disk.write_table(wanted)
            after = self._disk.report().table
            if find_deltas(wanted, after):
                raise UnreachableError(
                    f"the partition table of {report.path} reads back differently", code="disk.table.readback"
                )
        return wanted, self._rehearse

    def _refuse_other_slot(self, table: DiskTable) -> None:
        for slot, number in SLOT_NUMBER.items():
            if number != self._number and table.partition(number).guid == self._guid:
                raise UnreachableError(
                    f"slot {slot} already holds this release; two partitions cannot bear its GUID",
                    code="slot.duplicate",
                    hint=f"Nothing to install in slot {self._wish.slot}.",
                )

    # Steps 2 and 3

    def _root_image(self, table: DiskTable, fresh: bool) -> None:
        digest = self._wish.release.subjects[ROOT_IMAGE]
        size = image_bytes(self._wish.release.verity.data_blocks)
        marked = table.partition(self._number).guid == self._guid
        path = None if fresh else self._disk.partition(self._number)
        # Content is only worth reading where the GUID promises it: elsewhere a run was cut off, or none was yet.
        found = digest_of(path, size) if path is not None and marked else None
        name = f"slot {self._wish.slot}"
        if found != digest:
            current = "other content" if marked else "no complete image"
            if self._todo(f"{name} root image", current, f"sha256:{digest.hex()}"):
                assert path is not None
                self._write_image(table, path, digest, size, marked)
                marked = False
        if not marked:
            current = str(table.partition(self._number).guid)
            if self._todo(f"{name} partition GUID", current, str(self._guid)):
                self._disk.set_partition_guid(self._number, self._guid)

    def _write_image(self, table: DiskTable, path: pathlib.Path, digest: bytes, size: int, marked: bool) -> None:
        if marked:
            # The GUID promises whole content; take the promise back before touching the content.
            neutral = derived_guid(self._wish.host_id, table.partition(self._number).name)
            self._disk.set_partition_guid(self._number, neutral)
        try:
            written = write_prefix(path, self._fetch(digest, SLOT_BYTES), limit_bytes=SLOT_BYTES)
            if written != size:
                raise UnreachableError(
                    f"{ROOT_IMAGE} has {written} bytes, its verity tree says {size}", code="slot.image.size"
                )
            if digest_of(path, size, uncached=True) != digest:
                raise UnreachableError(
                    f"slot {self._wish.slot} reads back differently from what was written",
                    code="slot.readback",
                    hint="The disk is faulty; replace it.",
                )
        except BaseException:
            with contextlib.suppress(OSError, UnreachableError):
                erase_head(path)
            raise

    # Step 4

    def _hypervisor(self, fresh: bool) -> None:
        digest = self._wish.release.subjects[HYPERVISOR]
        usable = self._file_system(ESP_NUMBER, esp_file_system(self._wish.host_id), fresh)
        name = CURRENT_EFI
        if usable:
            with self._disk.mounted(ESP_NUMBER, writable=False) as root:
                found = file_digest(root / name)
            if found == digest:
                return
            current = None if found is None else f"sha256:{found.hex()}"
        else:
            current = None
        if self._todo(name, current, f"sha256:{digest.hex()}"):
            with self._disk.mounted(ESP_NUMBER, writable=True) as root:
                self._write_hypervisor(root / name, digest)
            with self._disk.mounted(ESP_NUMBER, writable=False) as root:
                if file_digest(root / name) != digest:
                    raise UnreachableError(f"{name} reads back differently from what was written", code="slot.readback")

    def _write_hypervisor(self, path: pathlib.Path, digest: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(".*"):
            leftover.unlink()
        content = b"".join(self._fetch(digest, MAX_XEN_EFI_BYTES))
        room = os.statvfs(path.parent)
        if room.f_bavail * room.f_frsize < len(content) + ESP_RESERVE_BYTES:
            raise UnreachableError(
                f"the EFI system partition ({ESP_BYTES >> 20} MiB) has no room for {len(content)} bytes",
                code="disk.full",
                hint="Remove files that are not ours from it.",
            )
        write_atomic(path, content)

    # Step 5

    def _data(self, fresh: bool) -> str:
        """Return the SSH host key, empty where a rehearsal would still make it."""
        usable = self._file_system(DATA_NUMBER, data_file_system(self._wish.host_id), fresh)
        wanted = identity_bytes(self._wish.host_id, self._wish.release_id)
        identity, key, former = None, None, []
        if usable:
            with self._disk.mounted(DATA_NUMBER, writable=False) as root:
                identity = _read_optional(root / "identity.json")
                key = read_host_key(root / "ssh")
                former = [name for name in (UPDATES_FILE, TRIAL_FILE) if (root / name).exists()]
        # An installation is a new beginning: what led to the release before it proves nothing about this one.
        missing = [self._todo(name, "of the installation before", "absent") for name in former]
        if identity != wanted:
            current = None if identity is None else identity.decode("utf-8", "replace")
            missing.append(self._todo("identity.json", current, wanted.decode()))
        if key is None:
            missing.append(self._todo("ssh/ssh_host_ed25519_key", None, "a new key"))
        if any(missing):
            with self._disk.mounted(DATA_NUMBER, writable=True) as root:
                for name in former:
                    (root / name).unlink()
                key = ensure_host_key(root / "ssh")
                # Readable: the VM verifier may run without root's rights, and nothing in it is secret.
                write_atomic(root / "identity.json", wanted, mode=PUBLIC_MODE)
        return key or ""

    # Step 6

    def _boot_entries(self, table: DiskTable, target: BootTarget) -> str:
        """Have the release started first, and an entry ready that starts another one when BootNext says so."""
        # The order last: from then on the firmware starts what is on the disk.
        for wanted, plan_for in ((next_target(table), plan_spare), (target, plan_boot)):
            entries, order = self._efi.boot_entries(), self._efi.read("BootOrder") or b""
            plan = plan_for(wanted, entries, order)
            self._write_variables(plan.variables, entries.get(plan.number), order, wanted)
        return f"Boot{plan.number:04X}"

    def _write_variables(
        self, variables: Mapping[str, bytes], entry: bytes | None, order: bytes, target: BootTarget
    ) -> None:
        for name, value in variables.items():
            before = order if name == "BootOrder" else entry
            shown = target.text() if name != "BootOrder" else _order_text(value)
            current = None if before is None else (_order_text(before) if name == "BootOrder" else "another entry")
            if self._todo(f"boot variable {name}", current, shown):
                self._efi.write(name, value, VARIABLE_ATTRIBUTES)

    def _file_system(self, number: int, wanted: FileSystem, fresh: bool) -> bool:
        """Return whether partition ``number`` can be mounted: it has our file system, or was given it now."""
        found = None if fresh else self._disk.file_system(number)
        if found == wanted:
            return True
        current = None if found is None else f"{found.kind} {found.label} {found.uuid}"
        if not self._todo(f"file system of partition {number}", current, f"{wanted.kind} {wanted.label} {wanted.uuid}"):
            return False
        self._disk.make_file_system(number, wanted)
        return True


def image_bytes(data_blocks: int) -> int:
    """Return the size of a root image: its data blocks and the dm-verity tree right behind them.

    >>> image_bytes(1), image_bytes(128), image_bytes(129)
    (8192, 528384, 540672)
    """
    total, level = data_blocks, data_blocks
    while True:
        level = -(-level // _DIGESTS_PER_BLOCK)
        total += level
        if level == 1:
            return total * 4096


def boot_target(table: DiskTable) -> BootTarget:
    """Return what the firmware shall start, whichever slot the release is in (ADR 8)."""
    return _target(table, ENTRY, CURRENT_EFI)


def next_target(table: DiskTable) -> BootTarget:
    """Return what the firmware shall start once, when an update is tried."""
    return _target(table, NEXT_ENTRY, NEXT_EFI)


def _target(table: DiskTable, description: str, path: str) -> BootTarget:
    esp = table.partition(ESP_NUMBER)
    return BootTarget(
        description=description,
        partition_number=esp.number,
        partition_guid=esp.guid,
        start=esp.start,
        size=esp.size,
        path="\\" + path.replace("/", "\\"),
    )


def identity_bytes(host_id: uuid.UUID, release_id: bytes) -> bytes:
    """Return ``identity.json`` of the host."""
    return dump_canonical({"host_id": str(host_id), "release_id": release_id.hex(), "version": 1})


def esp_file_system(host_id: uuid.UUID) -> FileSystem:
    """Return the file system of the ESP; its volume number comes from the host id."""
    number = derived_guid(host_id, "vouch-esp").hex[:8].upper()
    return FileSystem(kind="vfat", label="VOUCH", uuid=f"{number[:4]}-{number[4:]}")


def data_file_system(host_id: uuid.UUID) -> FileSystem:
    """Return the file system of the data partition."""
    return FileSystem(kind="ext4", label="vouch-data", uuid=str(derived_guid(host_id, "vouch-data")))


def file_digest(path: pathlib.Path) -> bytes | None:
    """Return the SHA-256 of a regular file; None where there is none."""
    if not path.is_file():
        return None
    return digest_of(path, path.stat().st_size)


def _read_optional(path: pathlib.Path) -> bytes | None:
    return read_bounded(path, limit_bytes=MAX_IDENTITY_BYTES) if path.is_file() else None


def _order_text(value: bytes) -> str:
    return ",".join(value[i : i + 2][::-1].hex().upper() for i in range(0, len(value), 2)) or "empty"

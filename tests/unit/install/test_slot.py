# SPDX-License-Identifier: GPL-3.0-or-later
"""A slot installed on a machine in memory: complete, idempotent, and whole again after a power cut anywhere."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.install.slot import (
    SlotInstaller,
    SlotOutcome,
    SlotWish,
    data_file_system,
    esp_file_system,
    identity_bytes,
)
from ansible.module_utils.vouch.model.disktable import DiskTable
from ansible.module_utils.vouch.model.image import Verity
from ansible.module_utils.vouch.model.update import TRIAL_FILE, UPDATES_FILE

from hostparts import BLOCKS, HOST, ROOT, WISH, XEN, fetch, release
from sim.machine import PowerCut, SimDisk, SimEfi

SPARE = "Boot1FFF"


class Machine:
    def __init__(self, folder: pathlib.Path) -> None:
        self.disk = SimDisk(folder)
        self.efi = SimEfi(self.disk)

    def install(self, wish: SlotWish = WISH, *, rehearse: bool = False) -> SlotOutcome:
        return SlotInstaller(self.disk, self.efi, fetch, wish, rehearse=rehearse).run()

    def assert_installed(self) -> None:
        table = self.disk.table
        assert table is not None
        assert table.guid == HOST
        assert table.partition(2).guid.bytes == bytes(range(16))
        assert self.disk.head(2, len(ROOT)) == ROOT
        assert (self.disk.folder / "fs1/EFI/vouch/current.efi").read_bytes() == XEN
        assert (self.disk.folder / "fs4/identity.json").read_bytes() == identity_bytes(HOST, bytes(32))
        assert self.efi.variables["BootOrder"] == b"\x01\0\0\0"
        assert "\\current.efi\0".encode("utf-16-le") in self.efi.variables["Boot0001"]
        assert "\\next.efi\0".encode("utf-16-le") in self.efi.variables[SPARE]


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path)


def test_an_empty_disk_becomes_a_host(machine: Machine) -> None:
    outcome = machine.install()
    machine.assert_installed()
    assert outcome.ssh_host_key.startswith("ssh-ed25519 AAAA")
    assert outcome.boot_variable == "Boot0001"
    assert [delta.name for delta in outcome.deltas] == [
        "partition table",
        "slot a root image",
        "slot a partition GUID",
        "file system of partition 1",
        "EFI/vouch/current.efi",
        "file system of partition 4",
        "identity.json",
        "ssh/ssh_host_ed25519_key",
        f"boot variable {SPARE}",
        "boot variable Boot0001",
        "boot variable BootOrder",
    ]
    assert machine.disk.file_systems == {1: esp_file_system(HOST), 4: data_file_system(HOST)}


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    first = machine.install()
    machine.disk.cut_after = len(machine.disk.writes)
    second = machine.install()
    assert second.deltas == ()
    assert replace(second, deltas=first.deltas) == first


def test_a_rehearsal_writes_nothing_and_foretells_the_run(machine: Machine) -> None:
    machine.disk.cut_after = 0
    foretold = machine.install(rehearse=True)
    assert machine.disk.writes == []
    machine.disk.cut_after = None
    done = machine.install()
    assert [d.name for d in foretold.deltas] == [d.name for d in done.deltas]
    assert foretold.ssh_host_key == ""
    assert machine.install(rehearse=True).deltas == ()


def test_after_a_power_cut_at_any_write_the_next_run_completes(tmp_path: pathlib.Path) -> None:
    whole = Machine(tmp_path)
    whole.install()
    total = len(whole.disk.writes)
    assert total >= 8
    for cut in range(total):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        machine = Machine(folder)
        machine.disk.cut_after = cut
        with pytest.raises(PowerCut):
            machine.install()
        # What is not yet complete is not startable: the order names our entry only at the very end.
        assert machine.efi.variables["BootOrder"] == b"\0\0"
        machine.disk.cut_after = None
        machine.install()
        machine.assert_installed()


def test_a_damaged_image_is_written_again(machine: Machine) -> None:
    machine.install()
    with machine.disk.partition(2).open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"X")
    outcome = machine.install()
    assert [d.name for d in outcome.deltas] == ["slot a root image", "slot a partition GUID"]
    machine.assert_installed()


def test_a_failed_download_leaves_nothing_to_find(machine: Machine) -> None:
    def broken(digest: bytes, limit_bytes: int) -> Iterator[bytes]:
        yield ROOT[:4096]
        raise UnreachableError("store gone", code="store.unreachable")

    with pytest.raises(UnreachableError):
        SlotInstaller(machine.disk, machine.efi, broken, WISH).run()
    assert machine.disk.head(2, 4096) == bytes(4096)
    table = machine.disk.table
    assert table is not None
    assert table.partition(2).guid.bytes != bytes(range(16))
    machine.install()
    machine.assert_installed()


def test_an_image_of_another_size_than_its_tree_is_refused(machine: Machine) -> None:
    odd = replace(release(), verity=Verity(root_hash=bytes(range(32)), salt=b"s", data_blocks=BLOCKS + 1))
    with pytest.raises(UnreachableError) as caught:
        machine.install(replace(WISH, release=odd))
    assert caught.value.code == "slot.image.size"


@pytest.mark.parametrize(("wipe", "code"), [(False, "disk.not-empty"), (True, None)])
def test_a_disk_with_data(machine: Machine, wipe: bool, code: str | None) -> None:
    machine.disk.signatures = ("dos", "ntfs 'Windows' on partition 1")
    if code is None:
        machine.install(replace(WISH, wipe=wipe))
        machine.assert_installed()
        return
    with pytest.raises(UnreachableError) as caught:
        machine.install(replace(WISH, wipe=wipe))
    assert caught.value.code == code
    assert "Windows" in str(caught.value)
    assert machine.disk.writes == []


def test_another_hosts_disk_is_foreign(machine: Machine) -> None:
    machine.install(replace(WISH, host_id=uuid.uuid4()))
    with pytest.raises(UnreachableError) as caught:
        machine.install()
    assert caught.value.code == "disk.not-empty"


def test_a_mounted_disk_is_refused_even_with_wipe(machine: Machine) -> None:
    machine.disk.mounts = ("vda4 mounted on /mnt",)
    with pytest.raises(UnreachableError) as caught:
        machine.install(replace(WISH, wipe=True))
    assert caught.value.code == "disk.in-use"


def test_the_other_slot_takes_another_release_only(machine: Machine) -> None:
    machine.install()
    with pytest.raises(UnreachableError) as caught:
        machine.install(replace(WISH, slot="b"))
    assert caught.value.code == "slot.duplicate"
    machine.install(replace(WISH, slot="b", release=release(bytes(reversed(range(32))))))
    table = machine.disk.table
    assert isinstance(table, DiskTable)
    # The same entry and file, whichever slot holds the release.
    assert machine.efi.variables["BootOrder"] == b"\x01\0\0\0"


def test_what_an_update_left_goes_with_the_next_installation(machine: Machine) -> None:
    machine.install()
    for name in (UPDATES_FILE, TRIAL_FILE):
        (machine.disk.folder / "fs4" / name).write_text("x")
    assert [delta.name for delta in machine.install(rehearse=True).deltas] == [UPDATES_FILE, TRIAL_FILE]
    assert [delta.name for delta in machine.install().deltas] == [UPDATES_FILE, TRIAL_FILE]
    assert not (machine.disk.folder / "fs4" / UPDATES_FILE).exists()
    assert machine.install().deltas == ()


def test_the_host_key_is_kept_and_a_broken_one_replaced(machine: Machine) -> None:
    first = machine.install().ssh_host_key
    (machine.disk.folder / "fs4/ssh/ssh_host_ed25519_key.pub").unlink()
    assert machine.install().ssh_host_key != first

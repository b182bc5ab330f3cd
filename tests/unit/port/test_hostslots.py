# SPDX-License-Identifier: GPL-3.0-or-later
"""The running host's disk: which slot is the other one, what is written where, and what the firmware is told."""

from __future__ import annotations

import hashlib
import os
import pathlib
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.install.slot import boot_target, next_target
from ansible.module_utils.vouch.make.bootentry import encode_load_option
from ansible.module_utils.vouch.make.disklayout import plan_table
from ansible.module_utils.vouch.port.efi import GLOBAL_GUID
from ansible.module_utils.vouch.port.hostslots import Dom0Slots

TABLE = plan_table(host_id=uuid.UUID(int=7), disk_bytes=8 << 30, sector_bytes=512)
NEXT = encode_load_option(next_target(TABLE))
NAMES = ("vouch-esp", "vouch-a", "vouch-b", "vouch-data")


class Dom0:
    """sysfs, device nodes, an EFI system partition and UEFI variables as folders and files."""

    def __init__(self, folder: pathlib.Path, *, running: str = "vda2") -> None:
        self.folder = folder
        self.dev, self.esp = folder / "dev", folder / "esp"
        self.efivars = folder / "efi" / "efivars"
        for place in (self.dev, self.esp / "EFI/vouch", self.efivars):
            place.mkdir(parents=True)
        for number, name in enumerate(NAMES, 1):
            entry = folder / f"sys/devices/vda/vda{number}"
            entry.mkdir(parents=True)
            (entry / "uevent").write_text(f"DEVTYPE=partition\nPARTN={number}\nPARTNAME={name}\n")
            (self.dev / f"vda{number}").write_bytes(name.encode() * 1000)
        (folder / "sys/devices/vda/uevent").write_text("DEVTYPE=disk\n")
        self.commands: list[tuple[str, ...]] = []
        self.hold(running)
        self.esp_file("current.efi").write_bytes(b"current")
        self.variable("BootOrder", b"\0\0")
        self.variable("Boot0000", encode_load_option(boot_target(TABLE)))
        self.variable("Boot1FFF", NEXT)

    def hold(self, *names: str) -> None:
        number = os.stat(self.folder).st_dev
        slaves = self.folder / f"sys/dev/block/{os.major(number)}:{os.minor(number)}/slaves"
        slaves.mkdir(parents=True, exist_ok=True)
        for path in slaves.iterdir():
            path.unlink()
        for name in names:
            (slaves / name).symlink_to(self.folder / "sys/devices/vda" / name)

    def esp_file(self, name: str) -> pathlib.Path:
        return self.esp / "EFI/vouch" / name

    def variable(self, name: str, value: bytes) -> None:
        (self.efivars / f"{name}-{GLOBAL_GUID}").write_bytes(struct.pack("<I", 7) + value)

    def run(self, argv: Sequence[str]) -> None:
        self.commands.append(tuple(argv)[1:])

    @property
    def slots(self) -> Dom0Slots:
        return Dom0Slots(
            sysfs=str(self.folder / "sys"),
            dev=str(self.dev),
            root=str(self.folder),
            esp=str(self.esp),
            efivars=self.efivars,
            run=self.run,
        )


@pytest.fixture
def dom0(tmp_path: pathlib.Path) -> Dom0:
    return Dom0(tmp_path)


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(UnreachableError) as caught:
        act()
    return caught.value.code


@pytest.mark.parametrize(("running", "other", "device"), [("vda2", "b", "vda3"), ("vda3", "a", "vda2")])
def test_the_slot_that_does_not_run_is_written(dom0: Dom0, running: str, other: str, device: str) -> None:
    dom0.hold(running)
    before = (dom0.dev / running).read_bytes()
    source = dom0.folder / "image"
    source.write_bytes(b"image")
    assert dom0.slots.inactive() == (other, 7000)
    dom0.slots.write_root(str(source))
    assert (dom0.dev / device).read_bytes() == b"image" + (f"vouch-{other}".encode() * 1000)[5:]
    assert (dom0.dev / running).read_bytes() == before
    assert dom0.slots.root_digest(5) == hashlib.sha256(b"image").digest()
    assert dom0.slots.root_digest(7001) is None


FOREIGN: dict[str, Callable[[Dom0], object]] = {
    "the root on no slot": lambda d: d.hold("vda4"),
    "the root on two": lambda d: d.hold("vda2", "vda3"),
    "the root on nothing": lambda d: d.hold(),
    "no other slot": lambda d: (d.folder / "sys/devices/vda/vda3/uevent").write_text("PARTNAME=swap\n"),
    "two other slots": lambda d: (d.folder / "sys/devices/vda/vda4/uevent").write_text("PARTNAME=vouch-b\n"),
    "no sysfs": lambda d: (d.folder / "sys/dev").rename(d.folder / "sys/gone"),
}


@pytest.mark.parametrize("fault", FOREIGN)
def test_a_disk_that_is_none_of_ours_is_not_written(dom0: Dom0, fault: str) -> None:
    FOREIGN[fault](dom0)
    before = {path.name: path.read_bytes() for path in dom0.dev.iterdir()}
    source = dom0.folder / "image"
    source.write_bytes(b"image")
    assert refused(lambda: dom0.slots.write_root(str(source))) == "update.disk"
    assert {path.name: path.read_bytes() for path in dom0.dev.iterdir()} == before


def test_what_waits_is_written_and_changes_places(dom0: Dom0) -> None:
    source = dom0.folder / "xen"
    source.write_bytes(b"next")
    current, waiting = (hashlib.sha256(data).digest() for data in (b"current", b"next"))
    assert dom0.slots.esp_digests() == (current, None)
    dom0.slots.write_next(str(source))
    assert dom0.slots.esp_digests() == (current, waiting)
    dom0.slots.exchange()
    assert dom0.slots.esp_digests() == (waiting, current)
    assert (dom0.esp_file("current.efi").read_bytes(), dom0.esp_file("next.efi").read_bytes()) == (b"next", b"current")
    # Mounted anew for each of them, so that the medium answers, and let go of afterwards.
    assert dom0.commands == [("restart", "vouch-esp.service"), ("stop", "vouch-esp.service")] * 5


def test_there_is_nothing_to_change_places_with(dom0: Dom0) -> None:
    assert refused(dom0.slots.exchange) == "update.disk"
    assert dom0.esp_file("current.efi").read_bytes() == b"current"


def test_a_full_partition_is_not_begun_to_be_written(dom0: Dom0, monkeypatch: pytest.MonkeyPatch) -> None:
    source = dom0.folder / "xen"
    source.write_bytes(b"next")
    state = os.statvfs(dom0.esp)
    full = os.statvfs_result((state.f_bsize, state.f_frsize, *([0] * 8)))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert refused(lambda: dom0.slots.write_next(str(source))) == "update.esp"
    assert not dom0.esp_file("next.efi").exists()
    assert dom0.commands[-1] == ("stop", "vouch-esp.service")


def test_the_firmware_is_told_once(dom0: Dom0) -> None:
    dom0.slots.boot_next()
    written = (dom0.efivars / f"BootNext-{GLOBAL_GUID}").read_bytes()
    assert written == struct.pack("<IH", 7, 0x1FFF)


ENTRIES: dict[str, bytes | None] = {
    "none": None,
    "of another name": encode_load_option(boot_target(TABLE)),
    "of another file": NEXT.replace("next.efi".encode("utf-16-le"), "evil.efi".encode("utf-16-le")),
    "with words for Xen behind it": NEXT + "noreboot".encode("utf-16-le"),
    "with the right end inside those words": encode_load_option(replace(boot_target(TABLE), description="Vouch next"))
    + NEXT[6 + 22 :],
    "cut": NEXT[:20],
    "empty": b"",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_that_is_not_the_installers_is_not_started(dom0: Dom0, entry: str) -> None:
    value = ENTRIES[entry]
    if value is None:
        (dom0.efivars / f"Boot1FFF-{GLOBAL_GUID}").unlink()
    else:
        dom0.variable("Boot1FFF", value)
    assert refused(dom0.slots.boot_next) == "update.boot-entry"
    assert not (dom0.efivars / f"BootNext-{GLOBAL_GUID}").exists()


def test_the_restart_goes_through_the_service_manager(dom0: Dom0) -> None:
    dom0.slots.restart()
    assert dom0.commands == [("start", "--no-block", "--job-mode=replace-irreversibly", "reboot.target")]

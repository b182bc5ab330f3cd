# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at a machine: every obstacle by its code, and when the attestation key is made."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.install import machine as subject
from ansible.module_utils.vouch.install.machine import TOOLS, MachineLook, MachineReport
from ansible.module_utils.vouch.model.disktable import DiskTable
from ansible.module_utils.vouch.port.disk import DiskReport
from ansible.module_utils.vouch.port.tpm import Tpm

from sim.machine import SimDisk
from swtpm_fixture import SoftwareTpm

HOST = uuid.UUID("3d9a6f5e-0c0e-4c53-9d0e-0c1d5f5c8a11")
pytestmark = pytest.mark.swtpm


class Fake:
    """A machine in a folder that is as it should be; a test takes one thing away."""

    def __init__(self, folder: pathlib.Path, tcti: str) -> None:
        self.folder = folder
        for name in ("efi/efivars", "tpm0", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "efi/efivars/x").touch()
        (folder / "log").write_bytes(b"log")
        (folder / "tpm0/tpm_version_major").write_text("2\n")
        for name in TOOLS:
            (folder / "bin" / name).touch(mode=0o755)
        self.options: dict[str, Any] = {
            "open_tpm": lambda: Tpm(tcti),
            "efivarfs": folder / "efi/efivars",
            "event_log": folder / "log",
            "tpm_class": folder / "tpm0",
            "python": (3, 13),
            "path": [str(folder / "bin")],
        }

    def look(self, *, make_key: bool = False, wipe: bool = False) -> MachineReport:
        return MachineLook(**self.options).run(disk="sim", host_id=HOST, wipe=wipe, make_key=make_key)


class Disk:
    """Stands for ``BlockDisk``."""

    report_now: DiskReport

    def __init__(self, path: str) -> None:
        self.path = path

    def report(self) -> DiskReport:
        return self.report_now


@pytest.fixture
def fake(tmp_path: pathlib.Path, software_tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch) -> Fake:
    Disk.report_now = SimDisk(tmp_path).report()
    monkeypatch.setattr(subject, "BlockDisk", Disk)
    return Fake(tmp_path, software_tpm.tcti)


def codes(report: MachineReport) -> list[str]:
    return [problem.code for problem in report.problems]


def test_the_key_is_made_once_and_only_when_allowed(fake: Fake) -> None:
    foretold = fake.look()
    assert (codes(foretold), foretold.ak_missing, foretold.ak_public) == ([], True, None)
    assert foretold.pcrs is not None
    assert len(foretold.pcrs) == 10
    assert foretold.ek_certificates
    made = fake.look(make_key=True)
    assert made.ak_missing
    assert check_ak_public(made.ak_public or b"").name
    again = fake.look(make_key=True)
    assert not again.ak_missing
    assert again.ak_public == made.ak_public


def without(fake: Fake, what: str) -> None:
    if what == "efi":
        fake.options["efivarfs"] = fake.folder / "no/efivars"
    elif what == "log":
        (fake.folder / "log").unlink()
    elif what == "empty log":
        (fake.folder / "log").write_bytes(b"")
    elif what == "tpm":
        fake.options["tpm_class"] = fake.folder / "no"
    elif what == "tpm 1.2":
        (fake.folder / "tpm0/tpm_version_major").write_text("1\n")
    elif what == "tool":
        (fake.folder / "bin/sfdisk").unlink()
    elif what == "python":
        fake.options["python"] = (3, 9)
    elif what == "disk in use":
        Disk.report_now = SimDisk(fake.folder).report()
        disk = SimDisk(fake.folder)
        disk.mounts = ("vda1 mounted on /",)
        Disk.report_now = disk.report()
    elif what == "disk with data":
        disk = SimDisk(fake.folder)
        disk.table = DiskTable(guid=uuid.uuid4(), sector_bytes=512, partitions=())
        Disk.report_now = disk.report()
    elif what == "small disk":
        Disk.report_now = SimDisk(fake.folder, size_bytes=1 << 30).report()


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("efi", "efi.absent"),
        ("log", "eventlog.unreadable"),
        ("empty log", "eventlog.unreadable"),
        ("tpm", "tpm.absent"),
        ("tpm 1.2", "tpm.version"),
        ("tool", "tools.missing"),
        ("python", "python.version"),
        ("disk in use", "disk.in-use"),
        ("disk with data", "disk.not-empty"),
        ("small disk", "disk.too-small"),
    ],
)
def test_each_obstacle(fake: Fake, what: str, code: str) -> None:
    without(fake, what)
    report = fake.look(make_key=True)
    assert codes(report) == [code]
    assert "." in report.problems[0].message


def test_all_obstacles_at_once_and_no_key(fake: Fake) -> None:
    with fake.options["open_tpm"]() as tpm:
        before = tpm.create_ak()
    for what in ("efi", "log", "tool", "python", "small disk"):
        without(fake, what)
    report = fake.look(make_key=True)
    assert len(report.problems) == 5
    assert report.ak_public == before


def test_a_locked_out_tpm(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tpm, "locked_out", lambda _: True)
    assert codes(fake.look(make_key=True)) == ["tpm.lockout"]

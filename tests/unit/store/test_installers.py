# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer in its folder: made from its inputs, the same twice, and recognised."""

from __future__ import annotations

import io
import json
import pathlib
import shutil
import struct
import tarfile
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.make.predict import predict_uki_pcr4
from ansible.module_utils.vouch.parse.pe import authenticode_digest
from ansible.module_utils.vouch.store.installers import InstallerInputs, find_installer, make_installer

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is not installed")

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPc0Zl2PfHbM0K3wR6m8yJ0bV1gq1u0r6D2t6WJ0Yp3Q somebody"
RELEASE = "6.12.0-amd64"


def pe_image(text: bytes) -> bytes:
    """Return a small x86-64 PE image with one section and room for more headers."""
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        0x20B,
        0,
        0,
        512,
        0,
        0,
        0x1000,
        0x1000,
        0x400000,
        0x1000,
        512,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x2000,
        1024,
        0,
        10,
        0,
        0,
        0,
        0,
        0,
        0,
        16,
    ) + bytes(128)
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x22)
    section = struct.pack("<8sIIIIIIHHI", b".text", len(text), 0x1000, 512, 1024, 0, 0, 0, 0, 0x60000020)
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + coff + optional + section
    return head.ljust(1024, b"\0") + text.ljust(512, b"\0")


TREE = {
    f"boot/vmlinuz-{RELEASE}": pe_image(b"kernel"),
    "usr/lib/systemd/boot/efi/linuxx64.efi.stub": pe_image(b"stub"),
    "usr/lib/os-release": b"ID=debian\n",
    f"usr/lib/modules/{RELEASE}/modules.dep": b"kernel/ext4.ko:\n",
    f"usr/lib/modules/{RELEASE}/kernel/ext4.ko": b"module",
    "usr/bin/busybox": b"busybox",
    "var/lib/dpkg/status": b"Package: busybox\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.37\n",
}


@pytest.fixture
def inputs(tmp_path: pathlib.Path) -> InstallerInputs:
    with tarfile.open(tmp_path / "tree.tar", "w") as archive:
        for path, data in TREE.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/init").write_text("#!/bin/sh\n")
    return InstallerInputs(
        tree=tmp_path / "tree.tar",
        overlay=tmp_path / "overlay",
        authorized_keys=(KEY,),
        modules=("ext4", "absent"),
        cmdline="console=ttyS0",
        compression_level=3,
        source_date_epoch=1_750_000_000,
    )


def test_made_and_found(inputs: InstallerInputs, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "out"
    assert find_installer(folder, inputs.digest()) is None
    made = make_installer(inputs, folder)
    assert find_installer(folder, inputs.digest()) == made
    assert sorted(path.name for path in folder.iterdir()) == ["installer.efi", "installer.img", "installer.json"]
    image = (folder / "installer.efi").read_bytes()
    kernel = TREE[f"boot/vmlinuz-{RELEASE}"]
    assert made["pcr4"] == predict_uki_pcr4(authenticode_digest(image), authenticode_digest(kernel)).hex()
    assert made["packages"] == [{"name": "busybox", "version": "1.37", "architecture": "amd64"}]
    assert (made["kernel"], made["missing_modules"]) == (RELEASE, ["absent"])
    assert image in (folder / "installer.img").read_bytes()


def test_same_inputs_same_bytes(inputs: InstallerInputs, tmp_path: pathlib.Path) -> None:
    first, second = (make_installer(inputs, tmp_path / name) for name in ("one", "two"))
    assert first == second
    assert first["files"] == second["files"]


@pytest.mark.parametrize(
    "change",
    [
        {"authorized_keys": (KEY + " else",)},
        {"modules": ("ext4",)},
        {"cmdline": "quiet"},
        {"compression_level": 4},
        {"source_date_epoch": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_option_counts(inputs: InstallerInputs, change: dict[str, Any]) -> None:
    assert replace(inputs, **change).digest() != inputs.digest()


def test_each_file_counts(inputs: InstallerInputs) -> None:
    before = inputs.digest()
    (inputs.overlay / "init").write_text("#!/bin/false\n")
    changed = inputs.digest()
    (inputs.overlay / "init").chmod(0o755)
    executable = inputs.digest()
    inputs.tree.write_bytes(inputs.tree.read_bytes() + b"x")
    assert len({before, changed, executable, inputs.digest()}) == 4


@pytest.mark.parametrize("name", ["installer.efi", "installer.img", "installer.json"])
def test_damaged_files_are_noticed(inputs: InstallerInputs, tmp_path: pathlib.Path, name: str) -> None:
    make_installer(inputs, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-1])
    if name == "installer.json":
        path.write_text(json.dumps({"inputs": inputs.digest()}))
    assert find_installer(tmp_path / "out", inputs.digest()) is None


def test_failure_leaves_nothing_half_written(inputs: InstallerInputs, tmp_path: pathlib.Path) -> None:
    inputs.tree.write_bytes(b"no tar")
    with pytest.raises(VouchError) as failed:
        make_installer(inputs, tmp_path / "out")
    assert failed.value.code == "installer.tree"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"authorized_keys": ()}, "installer.keys"),
        ({"compression_level": 0}, "installer.compression"),
        ({"tree": pathlib.Path("/no/such.tar")}, "installer.tree"),
        ({"overlay": pathlib.Path("/no/such")}, "installer.overlay"),
    ],
)
def test_refused_inputs(inputs: InstallerInputs, change: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        replace(inputs, **change)
    assert refused.value.code == code

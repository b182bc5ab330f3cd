# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a Debian tree becomes the installer, on a tree of a few files."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.cpio import CpioEntry, directory, regular, symlink, write_newc
from ansible.module_utils.vouch.make.installer import STUB, InstallerParts, check_keys, installer_parts

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPc0Zl2PfHbM0K3wR6m8yJ0bV1gq1u0r6D2t6WJ0Yp3Q somebody"
RELEASE = "6.12.0-amd64"
MODULES = f"usr/lib/modules/{RELEASE}"
TREE = (
    regular(f"boot/vmlinuz-{RELEASE}", b"kernel"),
    regular(f"boot/System.map-{RELEASE}", b"map"),
    regular(STUB, b"stub"),
    regular("usr/lib/os-release", b"ID=debian\n"),
    regular(f"{MODULES}/modules.dep", b"kernel/a.ko.xz: kernel/b.ko.xz\nkernel/b.ko.xz:\nkernel/c.ko.xz:\n"),
    regular(f"{MODULES}/modules.dep.bin", b"index"),
    regular(f"{MODULES}/kernel/a.ko.xz", b"module a"),
    regular(f"{MODULES}/kernel/b.ko.xz", b"module b"),
    regular(f"{MODULES}/kernel/c.ko.xz", b"module c"),
    regular("usr/bin/busybox", b"busybox", 0o755),
    regular("usr/bin/perl", b"perl", 0o755),
    regular("usr/sbin/sshd", b"sshd", 0o4755),
    regular("etc/shadow", b"root:secret:1::::::\n", 0o640),
    regular("usr/lib/python3.13/json/__init__.py", b"source"),
    regular("usr/lib/python3.13/json/__pycache__/__init__.cpython-313.pyc", b"compiled"),
    regular("usr/lib/python3.13/only.py", b"source only"),
    regular("usr/lib/python3.13/idlelib/run.py", b"editor"),
    regular("usr/lib/udev/rules.d/60-persistent-storage.rules", b"rules"),
    regular("usr/lib/udev/rules.d/90-alsa-restore.rules", b"sound"),
)
OVERLAY = (directory("etc"), regular("init", b"#!/bin/sh\n", 0o700), regular("etc/inittab", b"x", 0o664))


def make(
    tree: Iterable[CpioEntry] = TREE, overlay: Iterable[CpioEntry] = OVERLAY, keys: Iterable[str] = (KEY,)
) -> InstallerParts:
    return installer_parts(tree, overlay=overlay, authorized_keys=keys, modules=["a", "nothere"], mtime_s=7)


def files(parts: InstallerParts) -> dict[str, CpioEntry]:
    return {entry.path: entry for entry in parts.entries}


def test_parts() -> None:
    parts = make()
    assert (parts.kernel, parts.stub, parts.os_release, parts.release) == (b"kernel", b"stub", b"ID=debian\n", RELEASE)
    assert parts.missing_modules == ("nothere",)


def test_only_what_is_named_is_kept() -> None:
    kept = files(make())
    assert {"usr/bin/busybox", "usr/sbin/sshd", f"{MODULES}/modules.dep.bin"} <= set(kept)
    gone = {"usr/bin/perl", f"boot/System.map-{RELEASE}", f"{MODULES}/kernel/c.ko.xz", f"{MODULES}/modules.dep"}
    assert not gone & set(kept)
    assert "usr/lib/udev/rules.d/60-persistent-storage.rules" in kept
    assert "usr/lib/udev/rules.d/90-alsa-restore.rules" not in kept


def test_modules_come_with_their_dependencies() -> None:
    assert {f"{MODULES}/kernel/a.ko.xz", f"{MODULES}/kernel/b.ko.xz"} <= set(files(make()))


def test_python_is_compiled() -> None:
    kept = files(make())
    assert kept["usr/lib/python3.13/json/__init__.pyc"].data == b"compiled"
    assert "usr/lib/python3.13/json/__init__.py" not in kept
    assert "usr/lib/python3.13/only.py" in kept
    assert "usr/lib/python3.13/idlelib/run.py" not in kept


def test_nobody_has_a_password_and_one_key_opens() -> None:
    kept = files(make())
    assert kept["etc/shadow"].data == b"root:*:20000:0:99999:7:::\n"
    assert kept["etc/ssh/authorized_keys/root"].data == f"{KEY}\n".encode()


def test_modes_do_not_depend_on_the_checkout() -> None:
    other = [replace(entry, mode=entry.mode | 0o020) for entry in OVERLAY]
    assert write_newc(make().entries) == write_newc(make(overlay=other).entries)
    kept = files(make())
    assert stat.S_IMODE(kept["init"].mode) == 0o755
    assert stat.S_IMODE(kept["etc/inittab"].mode) == 0o644


def test_one_time_one_owner_and_every_folder() -> None:
    entries = make(tree=[replace(entry, uid=1000, mtime_s=99) for entry in TREE]).entries
    assert {(entry.uid, entry.gid, entry.mtime_s) for entry in entries} == {(0, 0, 7)}
    paths = {entry.path for entry in entries}
    assert all(path.rpartition("/")[0] in paths for path in paths if "/" in path)


def test_links_to_libraries_come_along() -> None:
    tree = [
        *TREE,
        regular("usr/lib/x86_64-linux-gnu/libacl.so.1.1", b"acl"),
        symlink("usr/lib/x86_64-linux-gnu/libacl.so.1", "libacl.so.1.1"),
        regular("usr/lib/x86_64-linux-gnu/libunused.so.1", b"no"),
    ]
    kept = files(make(tree=tree))
    assert kept["usr/lib/x86_64-linux-gnu/libacl.so.1"].data == b"libacl.so.1.1"
    assert "usr/lib/x86_64-linux-gnu/libacl.so.1.1" in kept
    assert "usr/lib/x86_64-linux-gnu/libunused.so.1" not in kept


@pytest.mark.parametrize(
    "keys",
    [[], ["", "  "], ["not a key"], ['command="x" ' + KEY], [KEY + "\nssh-ed25519 AAAA"], ["ssh-ed25519 %%%"]],
    ids=["none", "blank", "text", "options", "two lines", "no base64"],
)
def test_refused_keys(keys: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        check_keys(keys)
    assert refused.value.code == "installer.keys"


def test_refused_trees() -> None:
    for missing in (f"boot/vmlinuz-{RELEASE}", STUB, f"{MODULES}/modules.dep"):
        with pytest.raises(UsageError) as refused:
            make(tree=[entry for entry in TREE if entry.path != missing])
        assert refused.value.code == "installer.tree"
    with pytest.raises(UsageError) as refused:
        make(tree=[*TREE, regular("boot/vmlinuz-7.0", b"second")])
    assert refused.value.code == "installer.tree"
    with pytest.raises(UsageError) as refused:
        make(overlay=[])
    assert refused.value.code == "installer.overlay"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's own spelling of a SELinux policy, from a boot of that kernel.

The kernel writes a loaded policy back (``/sys/fs/selinux/policy``) in the order of its hash tables, and IMA measures
that form, not the file. Loading the form gives the same form again. So a guest that ships it has one digest for the
file, for the kernel and for IMA.

The boot is small: the guest's kernel in QEMU with an initrd of busybox. It loads the policy, reads it back, loads what
it read, reads again, and writes the second reading to a disk; QEMU's user sees no network and no other device.

==================== =============================================================================================
sector 0             ``vouch-policy LENGTH`` and a line feed: the last thing that is written
from sector 1        the policy
==================== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import ParseError, UnreachableError, UsageError
from ..make.cpio import CpioEntry, directory, regular, with_parents, write_newc
from ..model.policydigest import semantic_digest
from ..parse.sepolicy import MAX_POLICY_BYTES, parse_policy
from ..port.command import CommandError, Runner

QEMU = "qemu-system-x86_64"
BOOT_TIMEOUT_S = 240.0
MEMORY_MB = 512
SECTOR_BYTES = 512
DISK_MODULES = ("virtio_blk",)
MARK = b"vouch-policy "
CONSOLE_TAIL_BYTES = 2000
KERNEL_OPTIONS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 security=selinux selinux=1 enforcing=0 audit=0 nokaslr tsc=reliable"
)
"""Permissive until the machine is off: its init has no rules in the guest's policy. Nothing else runs there."""

_INIT = """#!/bin/busybox sh
b=/bin/busybox
say() { echo "vouch-normal-form: $*" > /dev/console; }
stop() { say "$*"; $b poweroff -f; $b sleep 60; }
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t selinuxfs selinuxfs /sys/fs/selinux || stop "the kernel has no SELinux"
for module in $($b cat /modules); do $b insmod "/$module" || stop "module $module"; done
load() { $b dd "if=$1" of=/sys/fs/selinux/load bs=64M iflag=fullblock 2> /dev/null || stop "the kernel refused $1"; }
$b mkdir /tmp
load /policy
$b cat /sys/fs/selinux/policy > /tmp/first || stop "the policy cannot be read back"
load /tmp/first
$b cat /sys/fs/selinux/policy > /tmp/second || stop "the policy cannot be read back"
$b cmp /tmp/first /tmp/second || stop "the kernel's form is not stable"
size=$($b stat -c %s /tmp/second)
tries=0
until [ -b /dev/vda ]; do tries=$((tries + 1)); [ $tries -lt 100 ] || stop "no disk"; $b usleep 100000; done
$b dd if=/tmp/second of=/dev/vda bs=512 seek=1 2> /dev/null || stop "the disk cannot be written"
$b sync
printf 'vouch-policy %s\\n' "$size" | $b dd of=/dev/vda bs=512 conv=sync,notrunc 2> /dev/null
$b sync
stop done
"""


def normal_form(
    policy: bytes,
    *,
    kernel: Path,
    busybox: bytes,
    modules: Mapping[str, bytes],
    place: Path,
    runner: Runner,
) -> bytes:
    """Return the form in which this kernel writes ``policy`` back.

    Args:
        policy: A binary policy, as ``secilc`` writes it.
        kernel: The guest's ``vmlinuz``.
        busybox: A static busybox.
        modules: The disk's modules, file name to content (not compressed), in the order of loading.
        place: A private folder for the boot's files.
        runner: Runs QEMU.

    Raises:
        UnreachableError: ``guest.normal-form``: no QEMU, no answer in time, the kernel refused the policy.
        UsageError: ``guest.policy.changed``: the kernel's form means something else.
    """
    place.mkdir()
    initrd, disk, console = place / "initrd", place / "disk", place / "console"
    initrd.write_bytes(write_newc(_entries(policy, busybox, modules)))
    with disk.open("wb") as stream:
        # The kernel's form is a little larger or smaller; twice the size is plenty.
        stream.truncate((2 * len(policy) // SECTOR_BYTES + 64) * SECTOR_BYTES)
    argv = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35,accel=tcg"]
    argv += ["-cpu", "max", "-m", str(MEMORY_MB), "-nic", "none", "-serial", f"file:{console}"]
    argv += ["-drive", f"file={disk},format=raw,if=virtio,cache=writeback"]
    argv += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", KERNEL_OPTIONS]
    try:
        runner(argv, timeout_s=BOOT_TIMEOUT_S)
    except CommandError as error:
        raise UnreachableError(
            f"the boot for the kernel's form of the policy failed: {error.message}{_tail(console)}",
            code="guest.normal-form",
            hint="Install qemu-system-x86 on the builder." if error.code == "command.missing" else "",
        ) from None
    form = _read(disk, console)
    if _meaning(form) != _meaning(policy):
        raise UsageError("the kernel's form of the policy means something else", code="guest.policy.changed")
    return form


def _entries(policy: bytes, busybox: bytes, modules: Mapping[str, bytes]) -> list[CpioEntry]:
    entries = [directory(name) for name in ("dev", "proc", "sys")]
    entries += [regular("init", _INIT.encode(), 0o755), regular("bin/busybox", busybox, 0o755)]
    entries += [regular("policy", policy), *(regular(name, data) for name, data in modules.items())]
    entries.append(regular("modules", "".join(f"{name}\n" for name in modules).encode()))
    return with_parents(entries)


def _read(disk: Path, console: Path) -> bytes:
    with disk.open("rb") as stream:
        head, _, _ = stream.read(SECTOR_BYTES).partition(b"\n")
        number = head.removeprefix(MARK)
        if not head.startswith(MARK) or not number.isdigit() or not 0 < int(number) <= MAX_POLICY_BYTES:
            raise UnreachableError(
                f"the boot for the kernel's form of the policy wrote none{_tail(console)}", code="guest.normal-form"
            )
        form = stream.read(int(number))
    if len(form) != int(number):
        raise UnreachableError("the kernel's form of the policy was cut off", code="guest.normal-form")
    return form


def _meaning(policy: bytes) -> bytes:
    try:
        return semantic_digest(parse_policy(policy))
    except ParseError as error:
        raise UsageError(f"this is no policy: {error.message}", code="guest.policy") from None


def _tail(console: Path) -> str:
    if not console.is_file():
        return ""
    text = console.read_bytes()[-CONSOLE_TAIL_BYTES:].decode("utf-8", "replace").strip()
    return f"; its console ended with:\n{text}" if text else "; its console is empty"

# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary Debian dom0 on a machine of the lab: what our image's boot is compared with.

Debian's packages as they come, its own initrd, systemd with everything a minimal installation starts, the kernel's
built-in IMA policy; only the way it is started, one unified xen.efi, is the same as ours.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from .harness import NotMeasuredError

SUITE = "trixie"
PACKAGES = (
    *("linux-image-amd64", "xen-system-amd64", "systemd-sysv", "udev", "dbus", "openssh-server", "python3", "iproute2"),
    *("kmod", "tpm2-tools", "xenstore-utils", "ifupdown", "procps", "initramfs-tools", "zstd"),
)
PROGRAMS = ("mmdebstrap", "mkfs.vfat", "mmd", "mcopy", "mkfs.ext4", "swtpm_setup", "qemu-system-x86_64")
XEN_CONFIG = """[global]
default=dom0
[dom0]
options=console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=2
kernel=vmlinuz root=LABEL=dom0root rw console=hvc0 ima_policy=tcb ima_hash=sha256 net.ifnames=0
ramdisk=initrd.img
"""
BOOTSTRAP_LIMIT_S = 1800
BOOT_LIMIT_S = 600
LOGIN_PROMPT = " login:"
DISK_MB, ESP_MB, MEMORY_MB = 3072, 128, 2048


def power_on_to_login() -> float:
    """Return the seconds from power-on to the login prompt.

    Raises:
        NotMeasuredError: when a program of the lab is missing, this is not root, or Debian's archive is out of reach.
    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise NotMeasuredError(f"not installed: {', '.join(missing)}; `make lab-up` installs them")
    if os.geteuid() != 0:
        raise NotMeasuredError("making a root file system with its owners needs root")
    esp, root = images()
    with machine(esp, root) as (control, console):
        began = time.monotonic()
        control.start()
        until = began + BOOT_LIMIT_S
        while time.monotonic() < until:
            if console.is_file() and LOGIN_PROMPT in console.read_text(errors="replace"):
                return time.monotonic() - began
            if not control.is_on():
                raise RuntimeError(f"the machine went off: {console.read_text(errors='replace')[-400:]}")
            time.sleep(0.25)
    raise RuntimeError(f"no login prompt within {BOOT_LIMIT_S} s")


@contextlib.contextmanager
def machine(esp: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[object, pathlib.Path]]:
    """Make a machine of the lab's kind in a lab of its own; it is gone afterwards."""
    from vouch.lab.control import Machine
    from vouch.lab.machine import MachinePaths, MachineSpec

    with tempfile.TemporaryDirectory(prefix="vouch-") as name:
        paths = MachinePaths(directory=pathlib.Path(name), name="untrimmed")
        spec = MachineSpec(name="untrimmed", disk_mb=DISK_MB, memory_mb=MEMORY_MB, medium=str(esp))
        control = Machine(paths)
        with control.locked():
            control.make(spec)
        subprocess.run(["cp", "--sparse=always", str(root), str(paths.disk)], check=True)
        try:
            yield control, paths.console
        finally:
            control.remove()


def images() -> tuple[pathlib.Path, pathlib.Path]:
    """Return EFI system partition and root file system, made once and kept in the user's cache."""
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = base / "vouch" / "bench" / f"untrimmed-{SUITE}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            fresh = pathlib.Path(name) / "new"
            fresh.mkdir()
            make_images(fresh, pathlib.Path(name))
            fresh.rename(folder)
    return folder / "esp.img", folder / "root.img"


def make_images(folder: pathlib.Path, work: pathlib.Path) -> None:
    """Write ``esp.img`` and ``root.img`` into ``folder``."""
    from vouch.make.xenefi import unified_xen_efi

    tree = work / "tree.tar"
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=minbase", "--components=main", f"--include={','.join(PACKAGES)}"),
            *('--customize-hook=echo dom0 > "$1/etc/hostname"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
            *("--dpkgopt=path-exclude=/usr/share/man/*", SUITE, str(tree)),
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=BOOTSTRAP_LIMIT_S,
    )
    if done.returncode != 0:
        raise NotMeasuredError(f"mmdebstrap failed: {done.stderr.strip().splitlines()[-1][:200]}")
    unpacked = work / "root"
    unpacked.mkdir()
    subprocess.run(["tar", "--extract", "--numeric-owner", f"--directory={unpacked}", f"--file={tree}"], check=True)
    boot = unpacked / "boot"
    efi = unified_xen_efi(
        one(boot, "xen-*-amd64.efi").read_bytes(),
        XEN_CONFIG.encode(),
        one(boot, "vmlinuz-*").read_bytes(),
        one(boot, "initrd.img-*").read_bytes(),
    )
    (work / "xen.efi").write_bytes(efi)
    for path, megabytes in ((folder / "esp.img", ESP_MB), (folder / "root.img", DISK_MB)):
        with path.open("wb") as stream:
            stream.truncate(megabytes << 20)
    esp = str(folder / "esp.img")
    run("mkfs.vfat", "-F", "32", esp)
    run("mmd", "-i", esp, "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", esp, str(work / "xen.efi"), "::EFI/BOOT/BOOTX64.EFI")
    run("mkfs.ext4", "-q", "-L", "dom0root", "-d", str(unpacked), str(folder / "root.img"))


def one(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    """Return the one file of ``folder`` that matches."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise RuntimeError(f"the tree has no {pattern}")
    return found[-1]


def run(*command: str) -> None:
    """Run ``command`` or raise."""
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)

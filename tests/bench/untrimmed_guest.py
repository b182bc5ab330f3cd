# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary Debian guest with SELinux: what the start of ours is compared with.

Debian's packages as they come, its own initrd, its default policy, enforcing, with labels laid at build time; a
writable ext4 for a root, and systemd with everything a minimal installation starts.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile

from .harness import NotMeasuredError
from .untrimmed import BOOTSTRAP_LIMIT_S, SUITE, one, run

PACKAGES = (
    *("linux-image-amd64", "systemd-sysv", "udev", "dbus", "openssh-server", "iproute2", "kmod", "procps"),
    *("initramfs-tools", "zstd", "selinux-policy-default", "selinux-basics", "policycoreutils"),
    *("distcc", "gcc", "libc6-dev"),
)
CMDLINE = (
    "root=/dev/xvda ro console=hvc0 security=selinux selinux=1 enforcing=1 ima_policy=critical_data ima_hash=sha256"
)
LABEL = 'chroot "$1" setfiles -F -m /etc/selinux/default/contexts/files/file_contexts /'
MEMORY_MB = 1024
DISK_MB = 2500
LOGIN_PROMPT = " login:"


def files() -> pathlib.Path:
    """Return a folder with ``vmlinuz``, ``initrd.img`` and ``root.img``, made once and kept in the user's cache.

    Raises:
        NotMeasuredError: this is not root, or Debian's archive is out of reach.
    """
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = base / "vouch" / "bench" / f"untrimmed-guest-{SUITE}"
    if folder.is_dir():
        return folder
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise NotMeasuredError("making a root file system with its owners and labels needs root and mmdebstrap")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        tree, fresh = pathlib.Path(name) / "tree", pathlib.Path(name) / "new"
        fresh.mkdir()
        bootstrap(tree)
        shutil.copyfile(one(tree / "boot", "vmlinuz-*"), fresh / "vmlinuz")
        shutil.copyfile(one(tree / "boot", "initrd.img-*"), fresh / "initrd.img")
        with (fresh / "root.img").open("wb") as stream:
            stream.truncate(DISK_MB << 20)
        run("mkfs.ext4", "-q", "-L", "guestroot", "-d", str(tree), str(fresh / "root.img"))
        fresh.rename(folder)
    return folder


def bootstrap(tree: pathlib.Path) -> None:
    """Unpack Debian into ``tree``."""
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=minbase", "--components=main", f"--include={','.join(PACKAGES)}"),
            *('--customize-hook=echo guest > "$1/etc/hostname"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
            *("--dpkgopt=path-exclude=/usr/share/man/*", f"--customize-hook={LABEL}", SUITE, str(tree)),
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=BOOTSTRAP_LIMIT_S,
    )
    if done.returncode != 0:
        raise NotMeasuredError(f"mmdebstrap failed: {done.stderr.strip().splitlines()[-1][:200]}")

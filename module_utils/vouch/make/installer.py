# SPDX-License-Identifier: GPL-3.0-or-later
"""The trusted installer: a Debian tree cut down to a system that runs from RAM and waits for a playbook.

Kept are named programs, the libraries they load, Python with its packages, udev with its rules, and named kernel
modules. Everything else of the tree stays out, so what can be called in the installer is what is written here.
"""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..errors import UsageError
from .cpio import CpioEntry, character_device, directory, merge, regular, symlink, with_parents
from .elfneeds import closure, is_elf
from .kmods import choose_modules, parse_modules_dep


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

PROGRAMS = _words(
    """
    bin/blkid bin/busybox bin/findmnt bin/kmod bin/lsblk bin/mount bin/python3.13 bin/ssh-keygen bin/udevadm
    bin/umount lib/openssh/sftp-server lib/openssh/sshd-auth lib/openssh/sshd-session sbin/blkid sbin/blockdev
    sbin/e2fsck bin/efibootmgr sbin/fsck.fat sbin/mke2fs sbin/mkfs.fat sbin/sfdisk sbin/sshd sbin/tune2fs
    sbin/wipefs
    """
)
"""Programs taken from Debian, below ``usr/``. Those that a tree does not have are left out."""

LINKS: Mapping[str, str] = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "sbin": "usr/sbin",
    "var/run": "/run",
    "etc/mtab": "/proc/self/mounts",
    "usr/bin/python3": "python3.13",
    "usr/lib/systemd/systemd-udevd": "../../bin/udevadm",
    "usr/sbin/depmod": "../bin/kmod",
    "usr/sbin/fsck.ext4": "e2fsck",
    "usr/sbin/fsck.vfat": "fsck.fat",
    "usr/sbin/insmod": "../bin/kmod",
    "usr/sbin/lsmod": "../bin/kmod",
    "usr/sbin/mkfs.ext4": "mke2fs",
    "usr/sbin/mkfs.vfat": "mkfs.fat",
    "usr/sbin/modprobe": "../bin/kmod",
    "usr/sbin/rmmod": "../bin/kmod",
}

APPLETS = _words(
    """
    [ ash awk base64 basename cat chgrp chmod chown cmp cp cut date dd df dirname dmesg du echo env expr false
    find free getopt grep gunzip gzip head hexdump hostname id kill less ln logger ls md5sum mkdir mkfifo mknod mktemp
    mv nc nproc od pgrep pidof ping pkill printf ps pwd readlink realpath rm rmdir sed seq setsid sh sha256sum
    sha512sum sleep sort stat stty sync tail tar tee test time timeout top touch tr true truncate tty uname uniq
    uptime vi wc wget which who whoami xargs xxd yes zcat
    """
)
SYSTEM_APPLETS = _words("chroot init ip losetup pivot_root route switch_root sysctl udhcpc")
"""Names that busybox answers to, in ``usr/bin`` and ``usr/sbin``."""

LOADED_BY_NAME = _words(
    """
    libacl.so.1 libblkid.so.1 libcap.so.2 libgcc_s.so.1 libkmod.so.2 liblzma.so.5 libmount.so.1
    libtss2-tcti-device.so.0 libzstd.so.1
    """
)
"""Libraries that no file names as needed, because a program loads them when it wants them (dlopen)."""

DEFAULT_CMDLINE = "console=tty0 console=ttyS0,115200 net.ifnames=0 cryptomgr.notests quiet"
"""Self tests of the kernel's ciphers are off: nothing in the installer uses them, and they take seconds."""

UDEV_RULES = _words("50-udev-default 60-block 60-persistent-storage 60-persistent-storage-dm 80-drivers 90-vouch")
"""Rules that make device nodes, their stable names, and load drivers."""

KEPT_FILES = re.compile(
    "|".join(
        (
            r"etc/(group|nsswitch\.conf|mke2fs\.conf|host\.conf|gai\.conf|ssl/openssl\.cnf|modprobe\.d/.*)",
            rf"usr/lib/(os-release|udev/(rules\.d/({'|'.join(UDEV_RULES)})\.rules|[a-z]+_id)|systemd/network/99-default\.link|modprobe\.d/.*)",
            r"usr/lib/modules/[^/]+/modules\.[a-z.]+",
            r"usr/lib/python3/dist-packages/.*",
            r"usr/lib/python3\.13/.*",
            r"usr/lib/x86_64-linux-gnu/ossl-modules/legacy\.so",
            r"usr/lib64/ld-linux-x86-64\.so\.2",
            r"usr/share/zoneinfo/(Etc/)?UTC",
        )
    )
)
DROPPED_FILES = re.compile(
    "|".join(
        (
            r".*/(ply|pycparser|.*\.(pyi|exe|h)|.*\.(egg|dist)-info|tests?|idlelib|ensurepip|pydoc_data|turtledemo|tkinter|lib2to3|bcrypt|_yaml)(/.*)?",
            r"usr/lib/python3\.13/(config-.*|pydoc\.py|turtle\.py|venv|_pyrepl|dbm|sqlite3|curses|asyncio|unittest|xmlrpc|wsgiref)(/.*)?",
            r"usr/lib/python3\.13/lib-dynload/(_(test|xxtest|ctypes_test|dbm|gdbm|sqlite3|curses|codecs_|tkinter)|xx|readline).*",
            r"usr/lib/udev/(hwdb\.d|hwdb\.bin).*",
            r"usr/lib/modules/[^/]+/modules\.(symbols.*|alias|dep|softdep\.bin)",
        )
    )
)

DEFAULT_MODULES = _words(
    """
    ahci nvme sd_mod virtio_blk virtio_scsi virtio_net
    virtio_rng megaraid_sas mpt3sas e1000 e1000e igb igc ixgbe i40e r8169 tg3 bnxt_en
    atlantic vmxnet3 vfat fat ext4 crc32c_generic crc32c_intel erofs dm_mod dm_verity loop overlay
    efivarfs tpm_tis_spi mlx5_core nls_ascii nls_cp437 nls_iso8859_1
    """
)
"""What is needed to reach disks, networks and TPMs of common machines. No USB: a running installer needs no medium."""

_PYCACHE = re.compile(r"(?P<folder>.*)/__pycache__/(?P<stem>[^/]+)\.cpython-\d+\.pyc")
_SSH_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,2}( [ -~]*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallerParts:
    """What a unified kernel image is made of.

    Attributes:
        kernel: The kernel, an EFI application itself.
        stub: systemd's EFI stub.
        os_release: Content of ``/usr/lib/os-release``.
        release: Kernel version, as ``uname -r`` says.
        entries: The root file system.
        missing_modules: Wanted modules that the kernel has built in or does not know.
    """

    kernel: bytes
    stub: bytes
    os_release: bytes
    release: str
    entries: tuple[CpioEntry, ...]
    missing_modules: tuple[str, ...]


def installer_parts(
    tree: Iterable[CpioEntry],
    *,
    overlay: Iterable[CpioEntry],
    authorized_keys: Iterable[str],
    modules: Iterable[str] = DEFAULT_MODULES,
    mtime_s: int = 0,
) -> InstallerParts:
    """Return the parts of an installer made from a Debian tree.

    Args:
        tree: Entries of the whole tree, contents in memory.
        overlay: Own files that are laid over it; ``init`` is one of them.
        authorized_keys: Public keys that may log in as root, one line each.
        modules: Kernel modules, see ``kmods.choose_modules``.
        mtime_s: Time of all files.

    Raises:
        UsageError: no keys or a malformed one (``installer.keys``), no kernel or stub (``installer.tree``), no
            ``init`` (``installer.overlay``).
    """
    keys = check_keys(authorized_keys)
    files = {entry.path: entry for entry in tree}
    release = _release(files)
    own = [_plain(entry, mtime_s) for entry in overlay]
    if "init" not in {entry.path for entry in own}:
        raise UsageError("the overlay has no init", code="installer.overlay")
    folder = f"usr/lib/modules/{release}"
    choice = choose_modules(parse_modules_dep(content(files, f"{folder}/modules.dep").decode()), modules)
    kept = [
        entry
        for path, entry in files.items()
        if stat.S_ISREG(entry.mode) and KEPT_FILES.fullmatch(path) and not DROPPED_FILES.fullmatch(path)
    ]
    kept += [files[f"{folder}/{path}"] for path in sorted(choice.paths)]
    kept = _without_sources(kept)
    kept += _programs(files, [entry.path for entry in kept])
    layers = merge(
        (replace(entry, mtime_s=mtime_s, uid=0, gid=0, link="") for entry in kept),
        _skeleton(mtime_s),
        own,
        [_keys_file(keys, mtime_s), regular("etc/shadow", b"root:*:20000:0:99999:7:::\n", 0o600, mtime_s=mtime_s)],
    )
    return InstallerParts(
        kernel=content(files, f"boot/vmlinuz-{release}"),
        stub=content(files, STUB),
        os_release=content(files, "usr/lib/os-release"),
        release=release,
        entries=tuple(with_parents(layers, mtime_s=mtime_s)),
        missing_modules=choice.missing,
    )


def check_keys(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the public keys, each held against the form ``type base64 [comment]``.

    Options before a key are refused: whoever may install may do all.
    """
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise UsageError(
            "an installer without authorized keys could not be reached by anyone",
            code="installer.keys",
            hint="Give at least one public SSH key",
        )
    for key in keys:
        if not _SSH_KEY.fullmatch(key):
            raise UsageError(f"{key[:60]!r} is no public SSH key", code="installer.keys")
    return keys


def content(files: Mapping[str, CpioEntry], path: str) -> bytes:
    """Return the content of ``path``.

    Raises:
        UsageError: the tree does not have it.
    """
    entry = files.get(path)
    if entry is None or not isinstance(entry.data, bytes):
        raise UsageError(f"the tree has no {path}", code="installer.tree")
    return entry.data


def _plain(entry: CpioEntry, mtime_s: int) -> CpioEntry:
    """Return an own file with one of two modes, since a checkout's modes depend on somebody's umask."""
    kind = stat.S_IFMT(entry.mode)
    runs = stat.S_ISDIR(entry.mode) or bool(entry.mode & 0o100)
    mode = entry.mode if kind == stat.S_IFLNK else kind | (0o755 if runs else 0o644)
    return replace(entry, mode=mode, mtime_s=mtime_s, uid=0, gid=0, link="")


def _release(files: Mapping[str, CpioEntry]) -> str:
    found = [path.removeprefix("boot/vmlinuz-") for path in files if path.startswith("boot/vmlinuz-")]
    if len(found) != 1:
        raise UsageError(f"the tree has {len(found)} kernels; one is needed", code="installer.tree")
    return found[0]


def _programs(files: Mapping[str, CpioEntry], others: Iterable[str]) -> list[CpioEntry]:
    """Return the programs and all shared libraries that they, and ``others``, need."""
    libraries: dict[str, str] = {}
    for path, entry in files.items():
        name = path.rsplit("/", 1)[-1]
        if ".so" in name and path.startswith(("usr/lib/x86_64-linux-gnu/", "usr/lib64/")):
            libraries.setdefault(name, _target(path, entry))
    roots = [f"usr/{program}" for program in PROGRAMS if f"usr/{program}" in files]
    roots += [libraries[name] for name in LOADED_BY_NAME if name in libraries]
    roots += [path for path in others if path in files and is_elf(_bytes(files, path))]
    wanted = closure(roots, read=lambda path: _bytes(files, path), libraries=libraries)
    links = [
        symlink(path, path_target)
        for path, path_target in (
            (path, _bytes(files, path).decode())
            for path, entry in files.items()
            if stat.S_ISLNK(entry.mode) and path.startswith(("usr/lib/", "usr/lib64/")) and ".so" in path
        )
        if _target(path, files[path]) in wanted
    ]
    return [files[path] for path in sorted(wanted) if path in files] + links


def _target(path: str, entry: CpioEntry) -> str:
    """Return where a library's link leads, one step."""
    if not stat.S_ISLNK(entry.mode) or not isinstance(entry.data, bytes):
        return path
    target = entry.data.decode()
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")


def _bytes(files: Mapping[str, CpioEntry], path: str) -> bytes:
    entry = files.get(path)
    return entry.data if entry is not None and isinstance(entry.data, bytes) else b""


def _without_sources(entries: Iterable[CpioEntry]) -> list[CpioEntry]:
    """Return ``entries`` with compiled Python modules in the place of their sources.

    A compiled module beside its source is only used when the source's time is the recorded one, and ours are not.
    """
    by_path = {entry.path: entry for entry in entries}
    for path in tuple(by_path):
        match = _PYCACHE.fullmatch(path)
        if match is None:
            continue
        compiled = by_path.pop(path)
        source = f"{match['folder']}/{match['stem']}.py"
        if source in by_path:
            del by_path[source]
            target = f"{match['folder']}/{match['stem']}.pyc"
            by_path[target] = replace(compiled, path=target)
    return list(by_path.values())


def _skeleton(mtime_s: int) -> list[CpioEntry]:
    folders = "dev etc/ssh/authorized_keys mnt proc root run sys usr/bin usr/lib usr/lib64 usr/sbin var/lib var/log"
    entries = [directory(path, mtime_s=mtime_s) for path in folders.split()]
    entries += [directory("tmp", 0o1777, mtime_s=mtime_s), directory("var/tmp", 0o1777, mtime_s=mtime_s)]
    entries += [replace(directory("root", 0o700), mtime_s=mtime_s)]
    entries += [character_device("dev/console", 5, 1, mtime_s=mtime_s)]
    entries += [character_device("dev/null", 1, 3, 0o666, mtime_s=mtime_s)]
    entries += [symlink(path, target, mtime_s=mtime_s) for path, target in LINKS.items()]
    entries += [symlink(f"usr/bin/{name}", "busybox", mtime_s=mtime_s) for name in APPLETS]
    entries += [symlink(f"usr/sbin/{name}", "../bin/busybox", mtime_s=mtime_s) for name in SYSTEM_APPLETS]
    entries += [regular("etc/hostname", b"vouch-installer\n", mtime_s=mtime_s)]
    entries += [regular("etc/hosts", b"127.0.0.1 localhost vouch-installer\n", mtime_s=mtime_s)]
    return merge(entries)


def _keys_file(keys: Iterable[str], mtime_s: int) -> CpioEntry:
    return regular("etc/ssh/authorized_keys/root", "".join(f"{key}\n" for key in keys).encode(), mtime_s=mtime_s)

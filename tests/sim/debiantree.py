# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian tree of a few small files, and stand-ins for the tools that an image build runs inside it."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.vouch.imaging.spec import ImageFile, ImageSpec
from ansible.module_utils.vouch.port.command import CommandError, CommandResult, run

from sim.image import SimImage, SimSection

KERNEL = "6.12.1-amd64"
MODULES = f"usr/lib/modules/{KERNEL}"
LIBS = "usr/lib/x86_64-linux-gnu"
INIT = "#!/bin/busybox sh\nexit 0\n"
KEY = "ssh-ed25519 AAAA test\n"


def elf(*needed: str) -> bytes:
    """Return a shared object that needs ``needed`` and does nothing."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    offsets, at = [], 1
    for name in needed:
        offsets.append(at)
        at += len(name) + 1
    strings = 64 + 2 * 56
    dynamic = strings + len(names)
    entries = b"".join(struct.pack("<QQ", 1, offset) for offset in offsets)
    entries += struct.pack("<QQ", 5, strings) + struct.pack("<QQ", 0, 0)
    size = dynamic + len(entries)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 4096)
    table = struct.pack("<IIQQQQQQ", 2, 6, dynamic, dynamic, dynamic, len(entries), len(entries), 8)
    return header + load + table + names + entries


def xen() -> bytes:
    """Return a hypervisor that no machine would run."""
    sections = [SimSection(".text", b"\x90" * 512, 0x60000020), SimSection(".reloc", bytes(64), 0x42000040)]
    return SimImage(sections=sections, file_alignment=32, section_alignment=1 << 21).to_bytes()


FILES: Mapping[str, tuple[str, bytes | str]] = {
    # Path: package, and content or (text) target of a link.
    "usr/bin/busybox": ("busybox-static", b"busybox"),
    "usr/bin/tool": ("tool", elf("libneeded.so.1")),
    "usr/bin/unwanted": ("tool", b"unwanted"),
    "usr/bin/mount": ("mount", b"set-user-id"),
    "usr/sbin/dmsetup": ("dmsetup", elf("libc.so.6")),
    "usr/lib64/ld-linux-x86-64.so.2": ("libc6", b"loader"),
    f"{LIBS}/libc.so.6": ("libc6", elf()),
    f"{LIBS}/libneeded.so.1": ("libneeded1", "libneeded.so.1.2"),
    f"{LIBS}/libneeded.so.1.2": ("libneeded1", elf("libc.so.6")),
    f"{LIBS}/libother.so.1": ("libother1", elf()),
    f"{MODULES}/kernel/erofs.ko.xz": (f"linux-image-{KERNEL}", lzma.compress(b"erofs module")),
    f"{MODULES}/kernel/disk.ko.xz": (f"linux-image-{KERNEL}", lzma.compress(b"disk module")),
    f"{MODULES}/kernel/net.ko.xz": (f"linux-image-{KERNEL}", lzma.compress(b"net module")),
    f"{MODULES}/modules.order": (f"linux-image-{KERNEL}", b""),
    f"{MODULES}/modules.builtin": (f"linux-image-{KERNEL}", b""),
    f"{MODULES}/modules.builtin.modinfo": (f"linux-image-{KERNEL}", b""),
    f"boot/vmlinuz-{KERNEL}": (f"linux-image-{KERNEL}", b"kernel" * 100),
    f"{MODULES}/kernel/virtio_ring.ko.xz": (f"linux-image-{KERNEL}", lzma.compress(b"ring module")),
    f"{MODULES}/kernel/virtio_blk.ko.xz": (f"linux-image-{KERNEL}", lzma.compress(b"virtio disk module")),
    "boot/xen-4.20-amd64.efi": ("xen-hypervisor-4.20-amd64", b""),
}


def make_tree(folder: Path) -> Path:
    """Write the tree below ``folder`` and return its tar file."""
    root = folder / "tree"
    lists: dict[str, list[str]] = {}
    for path, (package, content) in FILES.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.symlink_to(content)
        else:
            target.write_bytes(xen() if path.endswith(".efi") else content)
            target.chmod(0o4755 if "mount" in path else 0o755)
        # dpkg's lists know the names from before /usr was merged.
        old_name = path.removeprefix("usr/") if path.startswith("usr/lib64") else path
        lists.setdefault(package, []).append(f"/{old_name}")
    (root / MODULES / "modules.dep").write_text(
        "kernel/erofs.ko.xz:\nkernel/disk.ko.xz:\nkernel/net.ko.xz: kernel/disk.ko.xz\n"
        "kernel/virtio_ring.ko.xz:\nkernel/virtio_blk.ko.xz: kernel/virtio_ring.ko.xz\n"
    )
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    status = ""
    for package, paths in lists.items():
        (info / f"{package}:amd64.list").write_text("/.\n" + "\n".join(paths) + "\n")
        status += f"Package: {package}\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\n\n"
    (root / "var/lib/dpkg/status").write_text(status)
    (root / "usr/src/hello").mkdir(parents=True)
    (root / "usr/src/hello/hello.c").write_text("int hello;\n")
    (root / "usr/src/hello.dsc").write_text("Format: 3.0 (quilt)\nSource: hello\nVersion: 2.10-5\n")
    archive = folder / "tree.tar"
    with tarfile.open(archive, "w") as stream:
        stream.add(root, arcname=".")
    shutil.rmtree(root)
    return archive


def image_spec(**changes: object) -> ImageSpec:
    """Return a specification that fits the tree."""
    values: dict[str, object] = {
        "variant": "production",
        "packages": {"tool": ["/usr/bin/tool"], "mount": ["/usr/bin/mount"], "busybox-static": ["/usr/bin/busybox"]},
        "modules": ["net"],
        "initrd_script": INIT,
        "initrd_modules": ["disk"],
        "initrd_load": ["erofs"],
        "files": [
            ImageFile(path="/etc/ssh/authorized_keys/vouch", content=KEY),
            ImageFile(path="/usr/lib/vouch/relay", content="#!relay\n", mode=0o755),
            ImageFile(path="/etc/mtab", content="../proc/self/mounts", mode=0),
        ],
        "xen_options": ["console=com1"],
        "kernel_options": ["console=hvc0"],
        "source_date_epoch": 1700000000,
        **changes,
    }
    return ImageSpec(**values)  # type: ignore[arg-type]


class Tools:
    """Runs ``tar`` for real and plays the programs of the tree.

    Attributes:
        ran: Every command, program and arguments, without ``chroot`` and its folder.
        broken: Programs that fail.
    """

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.broken: set[str] = set()

    def __call__(self, argv: Sequence[str], **options: object) -> CommandResult:
        if argv[0] == "tar":
            self.ran.append(list(argv))
            return run(argv)
        assert argv[0] == "chroot"
        root, program, arguments = Path(argv[1]), argv[2], list(argv[3:])
        self.ran.append([program, *arguments])
        if program in self.broken:
            raise CommandError(program, "exit code 28", returncode=28, stderr_tail="No space left on device")
        act: Callable[[Path, list[str]], None] = getattr(self, "_" + program.replace(".", "_"))
        act(root, arguments)
        return CommandResult(returncode=0, stdout=b"", stderr=b"")

    def _depmod(self, root: Path, arguments: list[str]) -> None:
        inside = next(iter((root / arguments[1].lstrip("/")).rglob(arguments[2])))
        for name in ("modules.dep", "modules.alias"):
            (inside / name).write_text(f"{name}\n")

    def _ldconfig(self, root: Path, arguments: list[str]) -> None:
        (root / arguments[1].lstrip("/") / "etc/ld.so.cache").write_bytes(b"cache")

    def _python3_13(self, root: Path, arguments: list[str]) -> None:
        assert "unchecked-hash" in arguments
        assert (root / arguments[-1].lstrip("/")).is_dir()

    def _mkfs_erofs(self, root: Path, arguments: list[str]) -> None:
        image, folder = (root / argument.lstrip("/") for argument in arguments[-2:])
        lines = []
        for path in sorted(folder.rglob("*")):
            kind = os.readlink(path) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else "/"
            lines.append(f"{path.relative_to(folder)} {path.lstat().st_mode:o} {kind}\n")
        image.write_text("".join(lines))

    def _zstd(self, root: Path, arguments: list[str]) -> None:
        source, target = (root / a.lstrip("/") for a in (arguments[-3], arguments[-1]))
        target.write_bytes(b"zstd" + source.read_bytes())

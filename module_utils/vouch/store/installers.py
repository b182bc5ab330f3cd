# SPDX-License-Identifier: GPL-3.0-or-later
"""The trusted installer in a folder: made from its inputs, and recognised when it is already there.

================== =====================================================================
``installer.efi``  the unified kernel image
``installer.img``  the same on a bootable medium
``installer.json`` what they are: digests, predicted PCR 4, packages; written last
================== =====================================================================
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UnreachableError, UsageError
from ..make.cpio import CpioEntry, entries_from_tar, entries_from_tree, iter_newc
from ..make.installer import InstallerParts, check_keys, content, installer_parts
from ..make.medium import boot_medium
from ..make.predict import predict_uki_pcr4
from ..make.tree import parse_dpkg_status
from ..make.xenefi import uki
from ..parse.pe import authenticode_digest
from ..port.command import Runner, run
from ..port.files import PUBLIC_MODE, make_private_folder, read_bounded, write_atomic
from ..port.progress import report

VERSION = 1
COMPRESS_TIMEOUT_S = 900.0
MAX_DESCRIPTION_BYTES = 4 << 20
IMAGE = "installer.efi"
MEDIUM = "installer.img"
DESCRIPTION = "installer.json"
_STATUS = "var/lib/dpkg/status"
_MAKERS = ("cpio.py", "elfneeds.py", "fat.py", "installer.py", "kmods.py", "medium.py", "xenefi.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallerInputs:
    """All that an installer is made from.

    Attributes:
        tree: Tar file of the Debian tree.
        overlay: Folder of own files.
        authorized_keys: Public keys that may log in.
        modules: Kernel modules.
        cmdline: Kernel command line.
        compression_level: Of zstd, 1 to 19.
        source_date_epoch: Time of all files.
    """

    tree: Path
    overlay: Path
    authorized_keys: tuple[str, ...]
    modules: tuple[str, ...]
    cmdline: str
    compression_level: int
    source_date_epoch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "authorized_keys", check_keys(self.authorized_keys))
        if not 1 <= self.compression_level <= 19:
            raise UsageError(f"compression level {self.compression_level}: 1 to 19", code="installer.compression")
        if not self.tree.is_file():
            raise UsageError(f"tree {self.tree} does not exist", code="installer.tree")
        if not (self.overlay / "init").is_file():
            raise UsageError(f"overlay {self.overlay} has no init", code="installer.overlay")

    def digest(self) -> str:
        """Return a SHA-256 over all inputs, the programs that put them together among them."""
        total = hashlib.sha256()
        with self.tree.open("rb") as stream:
            parts = [hashlib.file_digest(stream, "sha256").digest()]
        for entry in entries_from_tree(self.overlay):
            body = entry.data.read_bytes() if isinstance(entry.data, Path) else entry.data or b""
            parts += [f"{entry.path} {entry.mode & 0o170100:o}".encode(), hashlib.sha256(body).digest()]
        options = [self.authorized_keys, sorted(self.modules), self.cmdline, self.compression_level]
        parts.append(json.dumps([VERSION, *options, self.source_date_epoch]).encode())
        package = f"{(__package__ or '').rpartition('.')[0]}.make"
        parts += [pkgutil.get_data(package, name) or b"" for name in _MAKERS]
        for part in parts:
            total.update(hashlib.sha256(part).digest())
        return total.hexdigest()


def find_installer(folder: Path, inputs: str) -> Mapping[str, Any] | None:
    """Return the description of the installer in ``folder`` when it is whole and made from ``inputs``, else None."""
    try:
        found = json.loads(read_bounded(folder / DESCRIPTION, limit_bytes=MAX_DESCRIPTION_BYTES))
        if found["inputs"] != inputs:
            return None
        for name, digest in found["files"].items():
            with (folder / name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                    return None
    except (UnreachableError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return dict(found)


def make_installer(inputs: InstallerInputs, folder: Path, *, runner: Runner = run) -> Mapping[str, Any]:
    """Write the installer into ``folder`` and return its description.

    Raises:
        UsageError: the tree lacks something.
        UnreachableError: zstd is missing or failed, or the folder cannot be written.
    """
    make_private_folder(folder)
    report("installer: reading the tree")
    try:
        with tarfile.open(inputs.tree) as archive:
            tree = list(entries_from_tar(archive))
    except (tarfile.TarError, OSError) as exc:
        raise UnreachableError(f"tree {inputs.tree}: {exc}", code="installer.tree") from exc
    parts = installer_parts(
        tree,
        overlay=entries_from_tree(inputs.overlay),
        authorized_keys=inputs.authorized_keys,
        modules=inputs.modules,
        mtime_s=inputs.source_date_epoch,
    )
    initrd = _compressed(parts, folder, inputs.compression_level, runner)
    image = uki(parts.stub, parts.kernel, initrd, inputs.cmdline, parts.os_release, uname=parts.release)
    files = {IMAGE: image, MEDIUM: boot_medium(image, time_s=inputs.source_date_epoch)}
    described = _description(inputs, parts, tree, files)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for name, data in files.items():
        write_atomic(folder / name, data, mode=PUBLIC_MODE)
    write_atomic(
        folder / DESCRIPTION, json.dumps(described, indent=1, sort_keys=True).encode() + b"\n", mode=PUBLIC_MODE
    )
    report(f"installer: {len(image) >> 20} MiB, kernel {parts.release}")
    return described


def _compressed(parts: InstallerParts, folder: Path, level: int, runner: Runner) -> bytes:
    plain, packed = folder / ".initrd.cpio", folder / ".initrd.zst"
    report(f"installer: compressing {len(parts.entries)} files")
    try:
        with plain.open("wb") as stream:
            stream.writelines(iter_newc(parts.entries))
        # One thread: with more, the result would depend on their number.
        argv = ["zstd", f"-{level}", "--single-thread", "--no-progress", "-q", "-f", "-o", str(packed), str(plain)]
        runner(argv, timeout_s=COMPRESS_TIMEOUT_S)
        return packed.read_bytes()
    except OSError as exc:
        raise UnreachableError(f"{folder}: {exc.strerror}", code="installer.folder") from exc
    finally:
        plain.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)


def _description(
    inputs: InstallerInputs, parts: InstallerParts, tree: list[CpioEntry], files: Mapping[str, bytes]
) -> dict[str, Any]:
    image, kernel = authenticode_digest(files[IMAGE]), authenticode_digest(parts.kernel)
    status = content({entry.path: entry for entry in tree}, _STATUS)
    return {
        "version": VERSION,
        "inputs": inputs.digest(),
        "authenticode_sha256": image.hex(),
        "kernel_authenticode_sha256": kernel.hex(),
        "pcr4": predict_uki_pcr4(image, kernel).hex(),
        "kernel": parts.release,
        "cmdline": inputs.cmdline,
        "source_date_epoch": inputs.source_date_epoch,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "size_bytes": {name: len(data) for name, data in files.items()},
        "missing_modules": list(parts.missing_modules),
        "packages": [asdict(package) for package in parse_dpkg_status(status)],
    }

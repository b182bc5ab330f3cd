# SPDX-License-Identifier: GPL-3.0-or-later
"""What one host image is made of, and what became of it: two records that survive as JSON."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UsageError
from ..make.accounts import Account, host_accounts
from ..model.image import DEBUG, PRODUCTION, Package, Verity
from ..model.release import HostRelease
from ..parse.fields import Fields

FORMAT = 1
"""Part of every key: raised when the same inputs begin to mean another image."""

VARIANTS = (PRODUCTION, DEBUG)


def build_key(inputs: Mapping[str, Any], code: Mapping[str, bytes]) -> str:
    """Return the name of a build in its cache: SHA-256 over all that decides its bytes.

    Args:
        inputs: What survives as JSON.
        code: Name to source of what goes into the image, and of what builds it.
    """
    everything = {**inputs, "code": {name: hashlib.sha256(text).hexdigest() for name, text in code.items()}}
    return hashlib.sha256(json.dumps(everything, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def refuse_doubles(files: Sequence[ImageFile]) -> None:
    """Raise UsageError when a path is given twice."""
    names = [entry.path for entry in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"given twice: {', '.join(twice)}", code="image.file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One file of ours in the image.

    Attributes:
        path: Absolute.
        content: Text; of a symbolic link its target.
        mode: Permissions; 0 for a symbolic link.
    """

    path: str
    content: str
    mode: int = 0o644

    @classmethod
    def of(cls, *, path: str, content: str, mode: str) -> ImageFile:
        """Return the file of a module's option: ``mode`` is octal, or ``link``."""
        try:
            return cls(path=path, content=content, mode=0 if mode == "link" else int(mode, 8))
        except ValueError:
            raise UsageError(f"{path}: mode {mode!r} is neither octal nor link", code="image.file") from None

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or posixpath.normpath(self.path) != self.path or self.path == "/":
            raise UsageError(f"{self.path!r} is no absolute path of a file", code="image.file")
        if self.mode & ~0o777:
            raise UsageError(f"{self.path}: mode {self.mode:o} has more than permissions", code="image.file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """All inputs of a build but the tree, the program code and the tools (which come from the tree).

    Attributes:
        variant: ``production`` or ``debug``.
        packages: Package to patterns of its paths (``make.rootplan``).
        libraries: Library names that are loaded at run time by name, so no program lists them.
        modules: Kernel modules of the root: names, or patterns with a ``/``.
        initrd_script: Content of the initrd's ``/init``.
        initrd_modules: Drivers that may be needed to reach the disk; loaded when their hardware is there.
        initrd_load: Modules that the initrd always loads.
        files: Our own files.
        services: Unit names that the boot target wants are in the files; these are only masked: none may start.
        ssh_user: Who the subsystem is offered to.
        ssh_shell: Login shell of that user.
        xen_options: Words of the hypervisor's command line.
        kernel_options: Words of dom0's command line, without ``vouch.verity``.
        erofs_options: Arguments of mkfs.erofs.
        source_date_epoch: Time of every file.
    """

    variant: str
    packages: Mapping[str, Sequence[str]]
    modules: Sequence[str]
    initrd_script: str
    initrd_modules: Sequence[str]
    initrd_load: Sequence[str]
    files: Sequence[ImageFile]
    xen_options: Sequence[str]
    kernel_options: Sequence[str]
    libraries: Sequence[str] = ()
    erofs_options: Sequence[str] = ()
    ssh_user: str = "vouch"
    ssh_shell: str = "/usr/lib/vouch/relay"
    source_date_epoch: int = 0
    python_roots: Sequence[str] = field(default=("daemon.__main__", "daemon.relay"))

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(f"variant {self.variant!r} is none of {', '.join(VARIANTS)}", code="image.variant")
        if any(option.startswith("vouch.verity=") for option in self.kernel_options):
            raise UsageError("vouch.verity is set by the build", code="image.option")
        refuse_doubles(self.files)
        keys = [entry for entry in self.files if entry.path.startswith("/etc/ssh/authorized_keys/")]
        if not keys or not all(entry.content.strip() for entry in keys):
            raise UsageError(
                "no SSH key may ask this host for evidence", code="image.keys", hint="Set host_image_authorized_keys."
            )

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts of this variant."""
        return host_accounts(debug=self.variant == DEBUG, ssh_user=self.ssh_user, ssh_shell=self.ssh_shell)

    def key(self, *, tree_sha256: str, code: Mapping[str, bytes]) -> str:
        """Return the name of the built image in the cache: SHA-256 over all that decides its bytes.

        Args:
            tree_sha256: Digest of the tree's tar file.
            code: Name to source of what goes into the image, and of what builds it.
        """
        return build_key({"format": FORMAT, "spec": asdict(self), "tree": tree_sha256}, code)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """One image, as the release will describe it."""

    variant: str
    files: Mapping[str, str]
    authenticode_sha256: str
    pcr4: str
    verity: Verity
    manifest_files: int
    ssh_user: str
    packages: tuple[Package, ...]
    xen: str
    kernel: str
    source_date_epoch: int
    statistics: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "version": FORMAT,
            "variant": self.variant,
            "files": dict(self.files),
            "authenticode_sha256": self.authenticode_sha256,
            "pcr4": self.pcr4,
            "verity": self.verity.to_json(),
            "manifest_files": self.manifest_files,
            "ssh_user": self.ssh_user,
            "packages": [{"name": package.name, "version": package.version} for package in self.packages],
            "xen": self.xen,
            "kernel": self.kernel,
            "source_date_epoch": self.source_date_epoch,
            "statistics": dict(self.statistics),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BuiltImage:
        """Return the image that ``to_json`` described.

        Raises:
            UsageError: something is missing or of another format.
        """
        try:
            if value["version"] != FORMAT:
                raise UsageError(f"image description of format {value['version']!r}", code="image.description")
            return cls(
                variant=value["variant"],
                files=dict(value["files"]),
                authenticode_sha256=value["authenticode_sha256"],
                pcr4=value["pcr4"],
                verity=Verity.read(Fields(value["verity"], "image.verity")),
                manifest_files=int(value["manifest_files"]),
                ssh_user=value["ssh_user"],
                packages=tuple(Package(**package) for package in value["packages"]),
                xen=value["xen"],
                kernel=value["kernel"],
                source_date_epoch=int(value["source_date_epoch"]),
                statistics={name: int(number) for name, number in value["statistics"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"this is no description of a host image: {error}", code="image.description") from None

    def release(self, name: str) -> HostRelease:
        """Return the release statement of this image under ``name``, ready to sign."""
        return HostRelease(
            subjects={subject: bytes.fromhex(self.files[subject]) for subject in ("xen.efi", "root.img")},
            name=name,
            variant=self.variant,
            authenticode_sha256=bytes.fromhex(self.authenticode_sha256),
            pcr4=bytes.fromhex(self.pcr4),
            verity=self.verity,
            manifest_sha256=bytes.fromhex(self.files["manifest"]),
            manifest_files=self.manifest_files,
            ssh_user=self.ssh_user,
            packages=self.packages,
            xen=self.xen,
            kernel=self.kernel,
            source_date_epoch=self.source_date_epoch,
        )

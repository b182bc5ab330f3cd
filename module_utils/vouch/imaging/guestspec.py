# SPDX-License-Identifier: GPL-3.0-or-later
"""What one guest image is made of. What becomes of it is ``make.guestpackage.GuestImage``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ParseError, UsageError
from ..make.accounts import Account
from ..model.image import DEBUG, PRODUCTION
from ..model.integrity import Intent
from ..model.package import GUEST_NAME
from .spec import ImageFile, build_key, refuse_doubles

FORMAT = 1
"""Part of every key: raised when the same inputs begin to mean another image."""

VARIANTS = (PRODUCTION, DEBUG)
POLICY_NAME = "vouch"
"""Folder of the policy below ``/etc/selinux``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """All inputs of a build but the tree, the program code and the tools (which come from the tree).

    Attributes:
        name: What the guest is called.
        variant: ``production`` or ``debug`` (a shell on its console).
        packages: Package to patterns of its paths (``make.rootplan``).
        libraries: Library names that are loaded at run time by name, so no program lists them.
        files: Our own files.
        users: Accounts beside root and nobody: name to number.
        python_roots: Our own modules that programs of the guest start with; what they import comes along.
        sources: Source packages of the tree whose files are in the image too, at ``/usr/src/NAME``.
        initrd_script: Content of the initrd's ``/init``.
        initrd_modules: Drivers that are loaded when their hardware is there.
        initrd_load: Modules that the initrd always loads; it is the last to load any.
        kernel_options: Words of the command line, without ``vouch.verity``.
        erofs_options: Arguments of mkfs.erofs.
        policy: The SELinux policy as CIL text.
        file_contexts: Which file gets which label.
        intent: What the policy is checked for (``model.integrity``), as parsed YAML.
        source_date_epoch: Time of every file.
    """

    name: str
    variant: str
    packages: Mapping[str, Sequence[str]]
    files: Sequence[ImageFile]
    users: Mapping[str, int]
    initrd_script: str
    initrd_modules: Sequence[str]
    initrd_load: Sequence[str]
    kernel_options: Sequence[str]
    policy: str
    file_contexts: str
    intent: Mapping[str, Any]
    libraries: Sequence[str] = ()
    python_roots: Sequence[str] = ()
    sources: Sequence[str] = ()
    erofs_options: Sequence[str] = ()
    source_date_epoch: int = 0

    def __post_init__(self) -> None:
        if not GUEST_NAME.match(self.name):
            raise UsageError(f"{self.name!r} is no name of a guest: a-z, 0-9, . _ -", code="guest.name")
        if self.variant not in VARIANTS:
            raise UsageError(f"variant {self.variant!r} is none of {', '.join(VARIANTS)}", code="image.variant")
        if any(option.startswith("vouch.verity=") or option == "--" for option in self.kernel_options):
            raise UsageError("vouch.verity and the closing -- are set by the build", code="image.option")
        if not self.policy.strip() or not self.file_contexts.strip():
            raise UsageError("a guest without a policy, or without labels, proves nothing", code="guest.policy")
        refuse_doubles(self.files)
        self.read_intent()

    def read_intent(self) -> Intent:
        """Return the intent.

        Raises:
            UsageError: it is none.
        """
        try:
            return Intent.from_json(dict(self.intent))
        except ParseError as error:
            raise UsageError(f"the intent of guest {self.name}: {error.message}", code=error.code) from None

    @property
    def modules(self) -> tuple[str, ...]:
        """Kernel modules of the root: none, the initrd has loaded all that will ever be."""
        return ()

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Root, who cannot log in, the users of services, and nobody."""
        users = [Account(name=name, number=number) for name, number in sorted(self.users.items())]
        return (Account(name="root", number=0, home="/root"), *users, Account(name="nobody", number=65534))

    def key(self, *, tree_sha256: str, code: Mapping[str, bytes]) -> str:
        """Return the name of the built image in the cache: SHA-256 over all that decides its bytes.

        Args:
            tree_sha256: Digest of the tree's tar file.
            code: Name to source of what goes into the image, and of what builds it.
        """
        return build_key({"format": FORMAT, "guest": asdict(self), "tree": tree_sha256}, code)

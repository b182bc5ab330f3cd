# SPDX-License-Identifier: GPL-3.0-or-later
"""A builder of guests: ``debiantree`` with a compiler that knows one policy, and a QEMU that plays the kernel."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.vouch.imaging.guestspec import GuestSpec
from ansible.module_utils.vouch.imaging.spec import ImageFile
from ansible.module_utils.vouch.model.kernelprofile import Profile
from ansible.module_utils.vouch.port.command import CommandError, CommandResult

from sim.buildnode import document, policy
from sim.debiantree import INIT, KERNEL, Tools
from sim.kernelprofile import profile
from sim.policy import SimPolicy

CONTEXTS = "/.* system_u:object_r:etc_t\n"
DONE = CommandResult(returncode=0, stdout=b"", stderr=b"")


def guest_spec(**changes: object) -> GuestSpec:
    """Return a specification that fits ``debiantree`` and the policy of ``buildnode``."""
    values: dict[str, object] = {
        "name": "node",
        "variant": "production",
        "packages": {"tool": ["/usr/bin/tool"], "mount": ["/usr/bin/mount"]},
        "files": [
            ImageFile(path="/etc/selinux/config", content="SELINUX=enforcing\n"),
            ImageFile(path="/etc/mtab", content="../proc/self/mounts", mode=0),
        ],
        "users": {"worker": 102},
        "initrd_script": INIT,
        "initrd_modules": ["disk"],
        "initrd_load": ["erofs"],
        "kernel_options": ["console=hvc0", "security=selinux", "enforcing=1"],
        "policy": "(policycap open_perms)\n",
        "file_contexts": CONTEXTS,
        "intent": document(),
        "source_date_epoch": 1700000000,
        **changes,
    }
    return GuestSpec(**values)  # type: ignore[arg-type]


def profiled(vmlinuz: bytes) -> Profile:
    """Return a profile of the kernel of ``debiantree``, whatever it is given."""
    assert vmlinuz
    return profile(KERNEL)


def reordered(sim: SimPolicy) -> SimPolicy:
    """Return the same policy with its rules in another order, as the kernel would write it back."""
    return dataclasses.replace(sim, rules=sorted(sim.rules, key=lambda rule: (rule.target, rule.source, rule.tclass)))


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Return the members of a newc archive."""
    members: dict[str, bytes] = {}
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 109 + name_size].decode()
        if name == "TRAILER!!!":
            return members
        data = at + 110 + name_size + (-(110 + name_size) % 4)
        members[name] = archive[data : data + size]
        at = data + size + (-size % 4)


class Kernel:
    """Runs QEMU: takes the policy out of the initrd and writes what ``form`` makes of it to the disk.

    Attributes:
        form: Policy in, what the kernel writes back out; None when it never gets that far.
        console: What the machine says.
        failure: How QEMU itself fails.
        booted: Members of each initrd.
        commands: Every command line.
    """

    def __init__(self, form: Callable[[bytes], bytes | None] | None = None) -> None:
        self.form = form or (lambda policy: policy)
        self.console = "vouch-normal-form: done\n"
        self.failure: CommandError | None = None
        self.booted: list[Mapping[str, bytes]] = []
        self.commands: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **options: object) -> CommandResult:
        assert argv[0] == "qemu-system-x86_64"
        self.commands.append(list(argv))
        drive, serial = argv[argv.index("-drive") + 1], argv[argv.index("-serial") + 1]
        Path(serial.removeprefix("file:")).write_text(self.console)
        if self.failure is not None:
            raise self.failure
        members = unpacked(Path(argv[argv.index("-initrd") + 1]).read_bytes())
        self.booted.append(members)
        written = self.form(members["policy"])
        if written is not None:
            disk = Path(drive.partition(",")[0].removeprefix("file="))
            size = disk.stat().st_size
            content = f"vouch-policy {len(written)}\n".encode().ljust(512, b"\0") + written
            disk.write_bytes(content.ljust(size, b"\0"))
        return DONE


class GuestTools(Tools):
    """The tools of a tree, with ``secilc`` and ``setfiles``, and QEMU.

    Attributes:
        kernel: What QEMU plays.
        compiled: What ``secilc`` makes, whatever it is given.
        sources: The CIL texts it was given.
    """

    def __init__(self, compiled: SimPolicy | None = None) -> None:
        super().__init__()
        self.compiled = compiled or policy()
        self.kernel = Kernel(lambda given: reordered(self.compiled).to_bytes())
        self.sources: list[str] = []

    def __call__(self, argv: Sequence[str], **options: object) -> CommandResult:
        if argv[0].startswith("qemu"):
            self.ran.append(list(argv))
            return self.kernel(argv)
        return super().__call__(argv, **options)

    def _secilc(self, root: Path, arguments: list[str]) -> None:
        self.sources.append((root / arguments[-1].lstrip("/")).read_text())
        (root / arguments[arguments.index("-o") + 1].lstrip("/")).write_bytes(self.compiled.to_bytes())

    def _setfiles(self, root: Path, arguments: list[str]) -> None:
        assert arguments[0] == "-c"
        assert all((root / path.lstrip("/")).is_file() for path in arguments[1:])


def truncated(policy_bytes: bytes) -> bytes:
    """Return a policy that ends early."""
    return policy_bytes[: len(policy_bytes) // 2] + struct.pack("<I", 0)

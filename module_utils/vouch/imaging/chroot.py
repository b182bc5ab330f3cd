# SPDX-License-Identifier: GPL-3.0-or-later
"""An unpacked Debian tree whose own tools build the image, so that the builder's distribution decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UnreachableError
from ..make.rootplan import package_of
from ..make.tree import MAX_STATUS_BYTES, Package, parse_dpkg_status
from ..port.command import CommandResult, Runner

UNPACK_TIMEOUT_S = 300.0
TOOL_TIMEOUT_S = 900.0
WORK = "vouch-work"
"""Folder inside the tree where the image grows; tools see it as ``/vouch-work``."""

# Device nodes are not needed, and making them is what an unprivileged or contained builder may not do.
_NOT_UNPACKED = ("./dev/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*")
_LIBRARY_FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/lib/xen-*/lib/x86_64-linux-gnu",
)


class Tree:
    """A tree unpacked at ``path``.

    Args:
        path: Empty or missing folder.
        runner: Runs programs.
        epoch: Seconds that tools take for the current time.
    """

    def __init__(self, path: Path, *, runner: Runner, epoch: int) -> None:
        self.path = path
        self._run = runner
        self._epoch = epoch

    @property
    def work(self) -> Path:
        """The work folder as seen from outside."""
        return self.path / WORK

    def unpack(self, archive: Path) -> None:
        """Unpack ``archive`` and make the work folder.

        Raises:
            CommandError: tar failed (a full disk, a damaged archive).
        """
        self.path.mkdir(parents=True, exist_ok=True)
        argv = ["tar", "--extract", "--numeric-owner", f"--file={archive}", f"--directory={self.path}"]
        self._run([*argv, *(f"--exclude={pattern}" for pattern in _NOT_UNPACKED)], timeout_s=UNPACK_TIMEOUT_S)
        self.work.mkdir()

    def run(self, argv: Sequence[str]) -> CommandResult:
        """Run a program of the tree inside it."""
        return self._run(
            ["chroot", str(self.path), *argv],
            timeout_s=TOOL_TIMEOUT_S,
            environment={"SOURCE_DATE_EPOCH": str(self._epoch), "PYTHONHASHSEED": "0", "HOME": "/"},
        )

    def read(self, relative: str) -> bytes | None:
        """Return the content of a file by its path in the tree; None when there is none.

        Trust: links are followed as inside the tree, never out of it.
        """
        path = self.resolve(relative)
        return path.read_bytes() if path is not None and path.is_file() else None

    def resolve(self, relative: str, depth: int = 0) -> Path | None:
        """Return where ``relative`` leads inside the tree, all links followed; None when nowhere."""
        if depth > 40:
            return None
        current = self.path
        parts = [part for part in relative.split("/") if part not in ("", ".")]
        for index, part in enumerate(parts):
            if part == "..":
                current = current.parent if current != self.path else current
                continue
            step = current / part
            if step.is_symlink():
                target = str(step.readlink())
                base = "" if target.startswith("/") else str(current.relative_to(self.path))
                return self.resolve("/".join([base, target, *parts[index + 1 :]]), depth + 1)
            current = step
        return current if current.exists() else None

    def one(self, pattern: str) -> Path:
        """Return the only path that ``pattern`` matches.

        Raises:
            UnreachableError: none or several do.
        """
        found = sorted(self.path.glob(pattern))
        if len(found) != 1:
            names = ", ".join(str(path.relative_to(self.path)) for path in found) or "nothing"
            raise UnreachableError(f"the tree should have one {pattern}, it has {names}", code="image.tree")
        return found[0]

    def packages(self) -> Mapping[str, Package]:
        """Return the installed packages by name."""
        status = self.read("var/lib/dpkg/status") or b""
        found = {package.name: package for package in parse_dpkg_status(status[: MAX_STATUS_BYTES + 1])}
        if not found:
            raise UnreachableError("the tree has no package database", code="tree.status")
        return found

    def package_lists(self) -> dict[str, list[str]]:
        """Return every package's paths, as dpkg recorded them."""
        lists: dict[str, list[str]] = {}
        for path in sorted((self.path / "var/lib/dpkg/info").glob("*.list")):
            lists.setdefault(package_of(path.name), []).extend(path.read_text().splitlines())
        return lists

    def libraries(self) -> dict[str, str]:
        """Return library file name to relative path, as the dynamic linker would find it."""
        found: dict[str, str] = {}
        for pattern in _LIBRARY_FOLDERS:
            for folder in sorted(self.path.glob(pattern)):
                for path in sorted(folder.glob("*.so*")):
                    found.setdefault(path.name, str(path.relative_to(self.path)))
        return found

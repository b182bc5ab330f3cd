# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of a running host in a folder, for updates; loses power before any write, when the test wants that.

Used by the tests in this process and, as plain ``vouch``, by the VM verifier's own processes, so it imports neither.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable

SLOT_BYTES = 1 << 20


class PowerCut(BaseException):
    """The machine lost power: no handler of ours runs to repair anything."""


class SimSlots:
    """``HostSlots`` over a folder: ``root-b``, ``current.efi``, ``next.efi``, ``boot-next``, ``restarted``.

    Args:
        folder: Made when missing, with a release that runs.
        point: Called before each write with its name.
    """

    def __init__(self, folder: pathlib.Path, point: Callable[[str], object] | None = None) -> None:
        self.folder = folder
        self.writes: list[str] = []
        self.cut_after: int | None = None
        self.faulty = False
        self._point = point or (lambda _: None)
        folder.mkdir(exist_ok=True)
        if not (folder / "current.efi").exists():
            (folder / "current.efi").write_bytes(b"the xen.efi that runs")
            (folder / "root-b").write_bytes(bytes(SLOT_BYTES))

    def inactive(self) -> tuple[str, int]:
        return "b", (self.folder / "root-b").stat().st_size

    def root_digest(self, size_bytes: int) -> bytes | None:
        data = (self.folder / "root-b").read_bytes()
        return hashlib.sha256(data[:size_bytes]).digest() if len(data) >= size_bytes else None

    def write_root(self, source: str) -> None:
        data = pathlib.Path(source).read_bytes()
        for part in (data[: len(data) // 2], data):
            self._write("root")
            with (self.folder / "root-b").open("r+b") as stream:
                stream.write(b"\0" * len(part) if self.faulty else part)

    def esp_digests(self) -> tuple[bytes | None, bytes | None]:
        found = []
        for name in ("current.efi", "next.efi"):
            path = self.folder / name
            found.append(hashlib.sha256(path.read_bytes()).digest() if path.exists() else None)
        return found[0], found[1]

    def write_next(self, source: str) -> None:
        data = pathlib.Path(source).read_bytes()
        for part in (b"", data[: len(data) // 2], data):
            self._write("next.efi")
            (self.folder / "next.efi").write_bytes(part)

    def exchange(self) -> None:
        self._write("exchange")
        both = [(self.folder / name).read_bytes() for name in ("current.efi", "next.efi")]
        (self.folder / "current.efi").write_bytes(both[1])
        (self.folder / "next.efi").write_bytes(both[0])

    def boot_next(self) -> None:
        self._write("BootNext")
        (self.folder / "boot-next").write_text("next.efi")

    def restart(self) -> None:
        self._write("restart")
        (self.folder / "restarted").write_text("")

    def power_on(self) -> bytes:
        """Return the content of the file that the firmware starts: what BootNext says once, else the current one."""
        armed = self.folder / "boot-next"
        name = armed.read_text() if armed.exists() else "current.efi"
        armed.unlink(missing_ok=True)
        return (self.folder / name).read_bytes()

    def _write(self, what: str) -> None:
        if self.cut_after is not None and len(self.writes) >= self.cut_after:
            raise PowerCut(what)
        self.writes.append(what)
        self._point(f"slots.{what}")

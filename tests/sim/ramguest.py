# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest under QEMU whose memory is a file: what the measurer needs of a guest, at full speed and without Xen.

It is like a PVH guest: page tables hold its own frame numbers. The processor's state comes from QEMU's monitor. Tests
tamper with it by writing the file.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.vouch.measure.memory import DomainState, GuestMemoryError, VcpuState

PAGE_BYTES = 4096
BOOT_LIMIT_S = 300


def built_guest() -> Path:
    """Return the files of the newest guest ``base`` in the cache of images.

    Raises:
        LookupError: there is none.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vouch" / "guests"
    for path in sorted(cache.glob("*/image.json"), key=lambda path: -path.stat().st_mtime):
        image = json.loads(path.read_text())
        if (image["name"], image["variant"]) == ("base", "production"):
            return path.parent
    raise LookupError("no guest was built on this machine: run playbooks/build_guests.yml")


class FileMapped:
    """Frames of the file, in the order they were asked for."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts

    @property
    def view(self) -> memoryview:
        """One frame is a window on the file; several are a copy, as fresh as this call."""
        if len(self._parts) == 1:
            return self._parts[0]
        return memoryview(b"".join(self._parts))

    def same(self, copy: bytearray, start: int) -> bool:
        """Say whether the bytes are those of ``copy`` from ``start`` on."""
        size = PAGE_BYTES * len(self._parts)
        return b"".join(self._parts) == memoryview(copy)[start : start + size]

    def close(self) -> None:
        """Nothing to let go of."""


class RamGuest:
    """One running guest; use ``running_guest``.

    Args:
        memory: File of its memory.
        monitor: Path of QEMU's monitor socket (QMP).
    """

    kind = "pvh"

    def __init__(self, memory: Path, monitor: Path) -> None:
        self._file = memory.open("r+b")
        self.ram = mmap.mmap(self._file.fileno(), 0)
        self._view = memoryview(self.ram)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(monitor))
        self._stream = self._socket.makefile("rw")
        self._stream.readline()
        self.command("qmp_capabilities")
        self._paused = 0

    def close(self) -> None:
        """Let go of everything but the machine."""
        self._stream.close()
        self._socket.close()
        with contextlib.suppress(BufferError):
            self._view.release()
            self.ram.close()
        self._file.close()

    def command(self, name: str, **arguments: Any) -> Any:
        """Return the answer to a command of the monitor."""
        self._stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer = json.loads(self._stream.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer["error"])

    def map(self, frames: Sequence[int]) -> FileMapped:
        """Return frames of the file."""
        parts = []
        for frame in frames:
            if not 0 <= frame < len(self._view) // PAGE_BYTES:
                raise GuestMemoryError(f"frame {frame:#x} is not the guest's", code="guest.memory.unmapped")
            parts.append(self._view[frame * PAGE_BYTES : (frame + 1) * PAGE_BYTES])
        return FileMapped(parts)

    def vcpus(self) -> tuple[VcpuState, ...]:
        """Return what the monitor says of the one processor."""
        text = self.command("human-monitor-command", **{"command-line": "info registers"})
        number = {
            name: int(match[1], 16)
            for name in ("CR0", "CR3", "CR4", "EFER")
            if (match := re.search(name + r"=(\w+)", text))
        }
        table = re.search(r"IDT=\s+(\w+) (\w+)", text)
        assert table is not None
        return (
            VcpuState(
                cr0=number["CR0"],
                cr3=number["CR3"],
                cr4=number["CR4"],
                efer=number["EFER"],
                lstar=self.lstar,
                idt_base=int(table[1], 16),
                idt_limit=int(table[2], 16),
            ),
        )

    lstar = 0
    """The monitor does not show LSTAR; a test sets what Xen would say."""

    def pause(self) -> None:
        """Stop the machine."""
        if self._paused == 0:
            self.command("stop")
        self._paused += 1

    def unpause(self) -> None:
        """Let it run on."""
        self._paused -= 1
        if self._paused == 0:
            self.command("cont")

    def state(self) -> DomainState:
        """Return whether it stands still. QEMU keeps no account of its processor, which runs whenever it may."""
        status = self.command("query-status")["status"]
        return DomainState(paused=status != "running", dying=False, reason=-1, ran_ns=time.monotonic_ns())


@contextlib.contextmanager
def running_guest(
    folder: Path, files: Path, *, ready: str, memory_mb: int = 512, extra: str = "nokaslr", started: bool = True
) -> Iterator[RamGuest]:
    """Boot the guest whose image is in ``files``; yield it when its console says ``ready``.

    Args:
        folder: For its memory, sockets and console.
        files: ``vmlinuz``, ``initrd.img``, ``root.img`` and ``image.json``.
        ready: What the console shows then; empty not to wait.
        memory_mb: Its memory.
        extra: Words put before the last of its command line: on bare hardware the kernel would move itself.
        started: Whether it runs at once.
    """
    image = json.loads((files / "image.json").read_text())
    words = image["cmdline"].replace("console=hvc0", "console=ttyS0").removesuffix(" --")
    memory, monitor, console = folder / "memory", folder / "monitor", folder / "console"
    argv = ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "qemu64,+smep,+smap,+rdrand"]
    argv += ["-m", f"{memory_mb}M", "-machine", "pc,memory-backend=ram", "-nodefaults", "-no-user-config", "-no-reboot"]
    argv += ["-object", f"memory-backend-file,id=ram,size={memory_mb}M,mem-path={memory},share=on"]
    argv += ["-display", "none", "-serial", f"file:{console}", "-qmp", f"unix:{monitor},server=on,wait=off"]
    argv += ["-drive", f"file={files / 'root.img'},format=raw,if=virtio,readonly=on"]
    argv += ["-kernel", str(files / "vmlinuz"), "-initrd", str(files / "initrd.img"), "-append", f"{words} {extra} --"]
    argv += [] if started else ["-S"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    guest = None
    try:
        _wait(process, lambda: monitor.exists() and memory.exists(), "monitor")
        guest = RamGuest(memory, monitor)
        if ready:
            _wait(process, lambda: console.exists() and ready in console.read_text(errors="replace"), ready)
        yield guest
    finally:
        if guest is not None:
            guest.close()
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        memory.unlink(missing_ok=True)


def _wait(process: subprocess.Popen[bytes], condition: Any, what: str) -> None:
    deadline = time.monotonic() + BOOT_LIMIT_S
    while not condition():
        if process.poll() is not None:
            said = process.stderr.read().decode(errors="replace") if process.stderr else ""
            raise RuntimeError(f"the guest ended before {what!r}: {said}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the guest did not show {what!r} within {BOOT_LIMIT_S} s")
        time.sleep(0.1)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that the lab started: begun in the background, found again, ended; never anybody else's.

A process id alone proves nothing, since ids are used again. A record holds the id, the start time and the boot it
belongs to, and one argument of the command line that no other process has (the path of its own socket). Where the
record is lost (a crash between start and record), the same argument finds the process in ``/proc``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UnreachableError
from ..port.command import BASE_ENVIRONMENT
from ..port.files import write_atomic

STOP_INTERVAL_S = 0.05
TERM_GRACE_S = 5.0
KILL_GRACE_S = 10.0
EXEC_LIMIT_S = 10.0
"""Longest time from a program's start to its arguments in ``/proc``."""
_START_TIME_FIELD = 22
"""``starttime`` in ``/proc/PID/stat`` (proc(5)), counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One process, told apart from every other that ever had its id."""

    pid: int
    start_ticks: int
    boot_id: str


class ProcessTable:
    """What ``/proc`` says; another folder in tests."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def boot_id(self) -> str:
        """Return the identity of the running boot."""
        return (self._proc / "sys/kernel/random/boot_id").read_text().strip()

    def argv(self, pid: int) -> tuple[str, ...]:
        """Return the arguments of ``pid``; empty when there is none, or when it is a zombie."""
        try:
            raw = (self._proc / str(pid) / "cmdline").read_bytes()
        except OSError:
            return ()
        return tuple(part.decode("utf-8", "surrogateescape") for part in raw.split(b"\0")[:-1])

    def start_ticks(self, pid: int) -> int | None:
        """Return when ``pid`` started, in clock ticks since boot; None when there is no such process."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # The second field is the program's name in parentheses and may hold anything, also spaces and parentheses.
        fields = text[text.rfind(")") + 2 :].split()
        return int(fields[_START_TIME_FIELD - 3])

    def pids(self) -> tuple[int, ...]:
        """Return all process ids."""
        return tuple(int(entry.name) for entry in self._proc.iterdir() if entry.name.isdecimal())


class Supervised:
    """One background program of the lab.

    Args:
        record: File that remembers the process.
        marker: Text that is part of one argument of this program and of no other process.
        program: Name of the program, as in ``argv[0]``.
        table: Where processes are looked up.
    """

    def __init__(self, *, record: Path, marker: str, program: str, table: ProcessTable | None = None) -> None:
        self._record = record
        self._marker = marker
        self._program = program
        self._table = table or ProcessTable()

    @property
    def program(self) -> str:
        """Name of the program."""
        return self._program

    def find(self) -> int | None:
        """Return the id of the running process, or None."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            record = ProcessRecord(**json.loads(self._record.read_text()))
            if record.boot_id == self._table.boot_id() and self._table.start_ticks(record.pid) == record.start_ticks:
                # argv is empty for a zombie, which no longer runs.
                return record.pid if self._is_ours(record.pid) else None
        return next((pid for pid in self._table.pids() if pid != os.getpid() and self._is_ours(pid)), None)

    def start(self, argv: Sequence[str], *, log: Path) -> int:
        """Start ``argv`` in a session of its own, output to ``log``; return its process id.

        Raises:
            UnreachableError: the program is missing (``lab.program``).
        """
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(BASE_ENVIRONMENT),
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as exc:
            raise UnreachableError(
                f"cannot start {argv[0]}: {exc.strerror}", code="lab.program", hint="Role lab installs it"
            ) from exc
        # Popen returns before the kernel shows the new program's arguments, and without them ``find`` finds nothing.
        wait_until(lambda: self._is_ours(process.pid) or process.poll() is not None, timeout_s=EXEC_LIMIT_S)
        ticks = self._table.start_ticks(process.pid)
        record = ProcessRecord(pid=process.pid, start_ticks=ticks or 0, boot_id=self._table.boot_id())
        write_atomic(self._record, json.dumps(asdict(record)).encode())
        # The child outlives us; without this Popen's destructor would complain that it still runs.
        process.returncode = 0
        return process.pid

    def wait_ended(self, timeout_s: float) -> bool:
        """Return whether the process is gone before ``timeout_s`` seconds are over."""
        return wait_until(lambda: self.find() is None, timeout_s=timeout_s)

    def stop(self, *, term_s: float = TERM_GRACE_S) -> bool:
        """End the process (SIGTERM, then SIGKILL) and forget it; return whether it ran.

        Raises:
            UnreachableError: it survived SIGKILL (``lab.stuck``).
        """
        ran = False
        while (pid := self.find()) is not None:
            ran = True
            if term_s > 0 and self._signal(pid, signal.SIGTERM, term_s):
                continue
            if not self._signal(pid, signal.SIGKILL, KILL_GRACE_S):
                raise UnreachableError(f"{self._program} (process {pid}) does not end", code="lab.stuck")
        self._record.unlink(missing_ok=True)
        return ran

    def kill(self) -> bool:
        """End the process at once, as a power cut does; return whether it ran."""
        return self.stop(term_s=0)

    def _is_ours(self, pid: int) -> bool:
        argv = self._table.argv(pid)
        return bool(argv) and self._named(argv) and any(self._marker in argument for argument in argv[1:])

    def _named(self, argv: Sequence[str]) -> bool:
        # A script shows its interpreter first.
        return any(os.path.basename(argument) == self._program for argument in argv[:3])

    def _signal(self, pid: int, number: signal.Signals, grace_s: float) -> bool:
        ticks = self._table.start_ticks(pid)
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                # With the descriptor held the id cannot pass to another process between this check and the signal.
                if self._table.start_ticks(pid) == ticks and self._is_ours(pid):
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            # Only where we are its parent: a zombie of ours would keep its entry in /proc.
            wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, timeout_s=grace_s)
        return wait_until(lambda: self._table.start_ticks(pid) != ticks or not self._is_ours(pid), timeout_s=grace_s)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = STOP_INTERVAL_S) -> bool:
    """Return True as soon as ``condition`` holds, False when it did not within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
    return True

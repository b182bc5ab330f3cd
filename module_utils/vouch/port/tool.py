# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that dom0's service runs: few, by absolute name, with a time limit; they die with whoever started them.

``port.command`` is the door on controller and builder; this one keeps its imports out of dom0, hands over open files,
and has the kernel end a program whose starter was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence

from ..errors import UnreachableError
from .childend import end_of

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
TAIL_BYTES = 1000
_PR_SET_PDEATHSIG = 1


class ToolError(UnreachableError):
    """A program could not be run, ran too long, or failed."""

    code = "tool.failed"


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process ``number`` when the one that started it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def run_tool(argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"", pass_fds: Sequence[int] = ()) -> str:
    """Return what a program wrote, when it ended well.

    Args:
        argv: Program and arguments; no shell reads them.
        timeout_s: After this it is killed, with all it started.
        stdin: Its input.
        pass_fds: Descriptors it keeps, with their numbers.

    Raises:
        ToolError: ``tool.missing``, ``tool.timeout``, ``tool.failed``.
    """
    out = os.memfd_create("output", os.MFD_CLOEXEC)
    given = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        try:
            # A file takes the output: what the program leaves running cannot make us wait for the end of a pipe.
            process = subprocess.Popen(
                list(argv),
                stdin=given,
                stdout=out,
                stderr=out,
                env=ENVIRONMENT,
                pass_fds=pass_fds,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise ToolError(f"{argv[0]}: {error.strerror}", code="tool.missing") from None
        try:
            code = end_of(process, timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ToolError(f"{argv[0]}: not done after {timeout_s:g} s", code="tool.timeout") from None
            raise
        said = os.pread(out, 1 << 20, 0)
        if code != 0:
            tail = said[-TAIL_BYTES:].decode("utf-8", "replace").strip()
            raise ToolError(f"{argv[0]}: exit code {code}: {tail}")
        return said.decode("utf-8", "replace")
    finally:
        os.close(out)
        os.close(given)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a program that we started: the kernel tells it, where ``Popen.wait`` with a limit looks ever again."""

from __future__ import annotations

import os
import select
import subprocess

MAX_POLL_MS = (1 << 31) - 1


def end_of(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """Return the exit code.

    Raises:
        subprocess.TimeoutExpired: it still runs after ``timeout_s``.
    """
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(min(timeout_s * 1000, MAX_POLL_MS)):
            raise subprocess.TimeoutExpired(process.args, timeout_s)
    finally:
        os.close(handle)
    return process.wait()

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine wrote to its serial port: the part since it was switched on or reset, without terminal codes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import UnreachableError, UsageError

POLL_INTERVAL_S = 0.2
TAIL_LINES = 25
MAX_CONSOLE_BYTES = 8 << 20
"""A machine that floods its console is searched in its last bytes only."""

_TERMINAL_CODES = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Za-z0-9]|[=>cM78])|[\x00-\x08\x0b-\x1f\x7f]")


def read_console(path: Path, offset_bytes: int = 0) -> str:
    """Return the console's text from ``offset_bytes`` on; empty when there is none."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(min(offset_bytes, size), size - MAX_CONSOLE_BYTES))
            raw = stream.read()
    except FileNotFoundError:
        return ""
    return plain(raw)


def plain(raw: bytes) -> str:
    """Return ``raw`` as text without terminal codes and other control characters."""
    return _TERMINAL_CODES.sub("", raw.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last ``lines`` lines that are not empty."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression ``pattern``.

    Raises:
        UsageError: it is none (``lab.pattern``).
    """
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise UsageError(f"wait_for {pattern!r} is no regular expression: {exc}", code="lab.pattern") from exc


def wait_for(
    path: Path,
    pattern: str,
    *,
    offset_bytes: int,
    timeout_s: float,
    alive: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return the line in which ``pattern`` was found.

    Args:
        path: Console log.
        pattern: Regular expression, searched line by line.
        offset_bytes: Where the current boot begins in the log.
        timeout_s: How long to wait.
        alive: Whether the machine still runs; when not, waiting is pointless.
        clock: Seconds that only grow.
        sleep: Waits.

    Raises:
        UsageError: ``pattern`` is no regular expression.
        UnreachableError: not found in time, or the machine ended; the message shows the end of the console.
    """
    wanted = compile_pattern(pattern)
    deadline = clock() + timeout_s
    while True:
        # Asked before reading, so that the last words of a machine that just ended are still searched.
        running = alive()
        text = read_console(path, offset_bytes)
        for line in text.splitlines():
            if wanted.search(line):
                return line.strip()
        if not running:
            raise UnreachableError(
                f"the machine ended before its console showed {pattern!r}; its last lines:\n{tail(text)}",
                code="lab.ended",
            )
        if clock() >= deadline:
            raise UnreachableError(
                f"the console did not show {pattern!r} within {timeout_s:g} s; its last lines:\n{tail(text)}",
                code="lab.timeout",
            )
        sleep(POLL_INTERVAL_S)

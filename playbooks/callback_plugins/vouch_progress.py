# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a long task is doing, and end with a table of what was proven.

Ansible is silent while a module runs. This plugin prints one line every few seconds of a task that takes
longer: how long it runs, and the newest line of the progress file that our modules write.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: vouch_progress
type: aggregate
short_description: progress of long tasks, and the table of attestation results
description:
  - Prints a line for each task that runs longer than O(interval), again and again until it ends.
  - The text of the line is the newest one of the file named by E(VOUCH_PROGRESS), which modules of this project write.
    Without that variable a temporary file is used and removed at the end.
  - At the end of the run prints the rows that plays handed to M(ansible.builtin.set_stats) as C(vouch_results).
requirements:
  - enabled in configuration
options:
  interval:
    description: Seconds of silence before a line is printed.
    type: float
    default: 8
    env:
      - name: VOUCH_PROGRESS_INTERVAL
    ini:
      - section: callback_vouch_progress
        key: interval
"""

VARIABLE = "VOUCH_PROGRESS"
TAIL_BYTES = 4096
MAX_CELL_CHARS = 72
COLUMNS: Sequence[tuple[str, str]] = (
    ("machine", "machine"),
    ("status", "status"),
    ("reasons", "reasons"),
    ("pcr4_expected", "PCR 4 expected"),
    ("pcr4_found", "PCR 4 found"),
    ("age", "age"),
    ("expires", "expires"),
)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Heartbeat while a task runs; table at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "vouch_progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wake = threading.Event()
        self._task = ""
        self._started = 0.0
        self._done = False
        self._temporary = ""
        if not os.environ.get(VARIABLE):
            descriptor, self._temporary = tempfile.mkstemp(prefix="vouch-progress-")
            os.close(descriptor)
            # Modules on this machine inherit it, and append to the file that we read.
            os.environ[VARIABLE] = self._temporary
        self._seen = self._size()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Start to watch the clock."""
        threading.Thread(target=self._watch, name="vouch-progress", daemon=True).start()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note which task runs from now on."""
        self._task, self._started, self._seen = task.get_name().strip(), time.monotonic(), self._size()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Note which handler runs from now on."""
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Stop, and print the table of results if a play left any."""
        self._done = True
        self._wake.set()
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            os.environ.pop(VARIABLE, None)
        for line in table(rows_of(getattr(stats, "custom", {}) or {})):
            self._display.display(line)

    def _watch(self) -> None:
        interval = float(self.get_option("interval"))
        while not self._wake.wait(interval):
            elapsed = time.monotonic() - self._started
            if not self._done and self._task and elapsed >= interval:
                # Straight to the descriptor: workers are forked while this thread runs, and a lock that
                # it held in that moment would stay locked in them.
                with contextlib.suppress(OSError):
                    os.write(sys.__stdout__.fileno() if sys.__stdout__ else 1, self._line(elapsed).encode())

    def _line(self, elapsed_s: float) -> str:
        minutes, seconds = divmod(int(elapsed_s), 60)
        latest = self._latest()
        return f"    {minutes}:{seconds:02d}  {latest or 'running'}\n"

    def _latest(self) -> str:
        """Return the newest line that was written since the task began."""
        path = os.environ.get(VARIABLE, "")
        try:
            with open(path, "rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                begin = max(self._seen, size - TAIL_BYTES)
                if size <= begin:
                    return ""
                stream.seek(begin)
                lines = stream.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "".join(c for c in lines[-1] if c.isprintable())[:160] if lines else ""

    def _size(self) -> int:
        try:
            return os.stat(os.environ.get(VARIABLE, "")).st_size
        except OSError:
            return 0


def rows_of(custom: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of every host, in the order of their machines."""
    rows: list[Mapping[str, Any]] = []
    for data in custom.values():
        found = data.get("vouch_results", []) if isinstance(data, Mapping) else []
        rows += [row for row in found if isinstance(row, Mapping)]
    return sorted(rows, key=lambda row: str(row.get("machine", "")))


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rows as lines of text with a heading; nothing for no rows."""
    if not rows:
        return []
    cells = [[heading for _, heading in COLUMNS]]
    cells += [[_cell(row.get(key)) for key, _ in COLUMNS] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return ["", lines[0], "  ".join("-" * width for width in widths), *lines[1:], ""]


def _cell(value: object) -> str:
    text = ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value or "-")
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= MAX_CELL_CHARS else clean[: MAX_CELL_CHARS - 3] + "..."

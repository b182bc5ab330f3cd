# SPDX-License-Identifier: GPL-3.0-or-later
"""A program's end is told with its code, also when it came first; one that runs on is not waited for."""

from __future__ import annotations

import subprocess
import time

import pytest
from ansible.module_utils.vouch.port.childend import end_of


@pytest.mark.parametrize("limit_s", [60.0, 1e12])
def test_its_code(limit_s: float) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        assert end_of(process, limit_s) == 3


def test_who_ended_before() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        # A zombie: the descriptor is opened after its end.
        with open(f"/proc/{process.pid}/stat") as stat:
            deadline = time.monotonic() + 30
            while ") Z " not in stat.read() and time.monotonic() < deadline:
                stat.seek(0)
                time.sleep(0.01)
        assert end_of(process, 60.0) == 0


def test_who_runs_on() -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            end_of(process, 0.05)
        process.kill()

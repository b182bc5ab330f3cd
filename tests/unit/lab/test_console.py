# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a line of the console."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.lab.console import MAX_CONSOLE_BYTES, plain, read_console, tail, wait_for


class Clock:
    """Time that passes only while somebody sleeps; what happens then is ``events``."""

    def __init__(self, events: Iterator[None] | None = None) -> None:
        self.now = 0.0
        self._events = events or iter(())

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        next(self._events, None)


def wait(path: pathlib.Path, pattern: str, clock: Clock, *, offset: int = 0, alive: bool = True) -> str:
    return wait_for(
        path,
        pattern,
        offset_bytes=offset,
        timeout_s=10,
        alive=lambda: alive,
        clock=clock,
        sleep=clock.sleep,
    )


def test_line_that_appears_later(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "console.log"

    def events() -> Iterator[None]:
        log.write_bytes(b"booting\r\n")
        yield
        log.write_bytes(b"booting\r\n\x1b[2J\x1b[01;01Hready \x1b[1mSHA256:abc\x1b[0m\r\n")
        yield

    assert wait(log, "ready SHA256:[a-z]+$", Clock(events())) == "ready SHA256:abc"


def test_lines_of_an_earlier_boot_do_not_count(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"ready 1\n")
    with pytest.raises(UnreachableError) as failed:
        wait(log, "ready", Clock(), offset=8)
    assert failed.value.code == "lab.timeout"


def test_time_limit_shows_the_tail(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("\n".join(f"line {n}" for n in range(100)))
    with pytest.raises(UnreachableError) as failed:
        wait(log, "never", Clock())
    assert "line 99" in str(failed.value)
    assert "line 10\n" not in str(failed.value)


def test_machine_that_ended(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("panic\n")
    with pytest.raises(UnreachableError) as failed:
        wait(log, "ready", Clock(), alive=False)
    assert failed.value.code == "lab.ended"
    assert wait(log, "panic", Clock(), alive=False) == "panic"


def test_pattern_must_be_one(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as refused:
        wait(tmp_path / "none", "(", Clock())
    assert refused.value.code == "lab.pattern"


def test_missing_and_endless_logs(tmp_path: pathlib.Path) -> None:
    assert read_console(tmp_path / "none") == ""
    log = tmp_path / "console.log"
    with log.open("wb") as stream:
        stream.truncate(MAX_CONSOLE_BYTES * 3)
        stream.seek(0, 2)
        stream.write(b"end")
    assert read_console(log) == "end"


def test_plain_text() -> None:
    assert plain(b"a\x00\x07b\xff\r\n\x1b[?25lc") == "ab\ufffd\nc"
    assert tail("a\n\n  \nb\nc\n", 2) == "b\nc"

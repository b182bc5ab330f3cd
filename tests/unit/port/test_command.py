# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs, files, clock."""

from __future__ import annotations

import datetime
import os
import pathlib
import stat
import sys
import time

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.port.clock import ManualClock, SystemClock, utc_seconds, utc_text
from ansible.module_utils.vouch.port.command import CommandError, run
from ansible.module_utils.vouch.port.files import make_private_folder, read_bounded, write_atomic


def python(code: str, *, timeout_s: float = 60.0, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> bytes:
    return run([sys.executable, "-I", "-c", code], timeout_s=timeout_s, stdin=stdin, ok=ok).stdout


def test_output_input_and_environment() -> None:
    assert python("import sys; print(sys.stdin.read())") == b"\n"
    assert python("import sys; print(sys.stdin.read())", stdin=b"hello") == b"hello\n"
    found = python("import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))").decode()
    assert found == "['LANG', 'LC_ALL', 'PATH']\n"


def test_failure_names_program_code_and_reason() -> None:
    with pytest.raises(CommandError) as error:
        python("import sys; sys.exit('the reason')")
    assert (error.value.returncode, error.value.code) == (1, "command.failed")
    assert "the reason" in str(error.value)
    assert error.value.argv0 == sys.executable
    assert python("import sys; print(1); sys.exit(3)", ok=(0, 3)) == b"1\n"


def test_missing_program_and_bad_arguments() -> None:
    with pytest.raises(CommandError) as error:
        run(["/nonexistent/program"])
    assert error.value.code == "command.missing"
    for argv in ([], ["true", "a\0b"]):
        with pytest.raises(UsageError):
            run(argv)


def test_time_limit_ends_the_program_and_its_children(tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "pid"
    with pytest.raises(CommandError) as error:
        run(["/bin/sh", "-c", f"sleep 600 & echo $! > {mark}; wait"], timeout_s=2.0)
    assert error.value.code == "command.timeout"
    child = int(mark.read_text())
    # The child is killed with its group. It dies when it is next scheduled, and is a zombie until init collects it.
    give_up = time.monotonic() + 30
    while _alive(child) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_too_much_output_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible.module_utils.vouch.port import command

    monkeypatch.setattr(command, "MAX_OUTPUT_BYTES", 10)
    with pytest.raises(CommandError) as error:
        python("print('x' * 100)")
    assert error.value.code == "command.output"


def test_bounded_reading(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_bounded(path, limit_bytes=10) == b"0123456789"
    assert read_bounded(path, limit_bytes=10, offset_bytes=4) == b"456789"
    # A file whose size is told as 0.
    assert read_bounded("/proc/self/stat", limit_bytes=4096)
    for target, limit, code in ((path, 9, "files.too-large"), (tmp_path / "no", 9, "files.missing")):
        with pytest.raises(UnreachableError) as error:
            read_bounded(target, limit_bytes=limit)
        assert error.value.code == code
    with pytest.raises(UnreachableError) as error:
        read_bounded(tmp_path, limit_bytes=9)
    assert error.value.code == "files.unreadable"


def test_atomic_writing(tmp_path: pathlib.Path) -> None:
    folder = make_private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    path = folder / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomic(path, b"three")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(folder) == ["file"]
    with pytest.raises(UnreachableError) as error:
        write_atomic(tmp_path / "missing" / "file", b"x")
    assert error.value.code == "files.unwritable"
    (folder / "taken").mkdir()
    with pytest.raises(UnreachableError):
        write_atomic(folder / "taken", b"x")
    assert sorted(os.listdir(folder)) == ["file", "taken"]


def test_clocks() -> None:
    system, manual = SystemClock(), ManualClock()
    assert system.now().tzinfo is datetime.UTC
    assert len(system.random_bytes(32)) == 32
    assert system.random_bytes(32) != system.random_bytes(32)
    assert manual.random_bytes(32) != manual.random_bytes(32)
    before = manual.now()
    manual.sleep(5)
    assert (manual.now() - before).total_seconds() == manual.monotonic_s() == 5


def test_time_as_text_is_read_back() -> None:
    assert utc_text(1767225600) == "2026-01-01T00:00:00Z"
    assert utc_seconds(utc_text(1767225601)) == 1767225601
    with pytest.raises(ValueError, match="does not match"):
        utc_seconds("2026-01-01 00:00:00")

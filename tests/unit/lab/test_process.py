# SPDX-License-Identifier: GPL-3.0-or-later
"""Own processes are found and ended; others are never touched."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.lab.process import ProcessTable, Supervised, wait_until

SLEEPER = "import time\nwhile True: time.sleep(1)\n"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n" + SLEEPER


class Program:
    """A script that runs until it is ended, and the ``Supervised`` that knows it."""

    def __init__(self, folder: pathlib.Path, source: str = SLEEPER) -> None:
        self.script = folder / "program.py"
        self.script.write_text(source)
        self.record = folder / "program.pid"
        self.log = folder / "program.log"
        self.supervised = self.known_as(str(self.script))

    def known_as(self, marker: str) -> Supervised:
        return Supervised(record=self.record, marker=marker, program="program.py")

    def start(self) -> int:
        return self.supervised.start([sys.executable, "-I", str(self.script)], log=self.log)


@pytest.fixture
def program(tmp_path: pathlib.Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.supervised.kill()


def test_start_find_stop(program: Program) -> None:
    pid = program.start()
    assert program.supervised.find() == pid
    assert os.getsid(pid) == pid
    assert program.supervised.stop()
    assert program.supervised.find() is None
    assert not program.record.exists()
    assert not program.supervised.stop()


class LateTable(ProcessTable):
    """Shows arguments only at the third look, as the kernel does in the first moments of a program."""

    looks = 0

    def argv(self, pid: int) -> tuple[str, ...]:
        self.looks += 1
        return super().argv(pid) if self.looks > 2 else ()


def test_start_returns_when_the_program_can_be_found(program: Program) -> None:
    program.supervised = Supervised(
        record=program.record, marker=str(program.script), program="program.py", table=LateTable()
    )
    assert program.supervised.start([sys.executable, "-I", str(program.script)], log=program.log)
    assert program.supervised.find() is not None


def test_start_returns_when_the_program_has_ended(tmp_path: pathlib.Path) -> None:
    program = Program(tmp_path, source="")
    assert program.start()
    assert wait_until(lambda: program.supervised.find() is None, timeout_s=30)


def test_lost_record_is_no_loss(program: Program) -> None:
    pid = program.start()
    program.record.unlink()
    assert program.supervised.find() == pid
    assert program.supervised.kill()


@pytest.mark.parametrize("text", ["", "{}", "12", '{"pid": "x"}'])
def test_damaged_record(program: Program, text: str) -> None:
    pid = program.start()
    program.record.write_text(text)
    assert program.supervised.find() == pid


def test_process_that_has_the_recorded_id_but_is_another(program: Program) -> None:
    other = subprocess.Popen([sys.executable, "-c", SLEEPER])
    try:
        table = ProcessTable()
        record = {"pid": other.pid, "start_ticks": table.start_ticks(other.pid), "boot_id": table.boot_id()}
        program.record.write_text(json.dumps(record))
        assert program.supervised.find() is None
        assert not program.supervised.stop()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}], ids=["start time", "boot"])
def test_stale_record_falls_back_to_the_marker(program: Program, change: dict[str, object]) -> None:
    pid = program.start()
    record = json.loads(program.record.read_text())
    program.record.write_text(json.dumps({**record, **change}))
    assert program.supervised.find() == pid
    assert program.known_as("/another/marker").find() is None


def test_program_that_ignores_the_polite_signal(tmp_path: pathlib.Path) -> None:
    program = Program(tmp_path, STUBBORN)
    program.start()
    assert wait_until(lambda: "on" in program.log.read_text(), timeout_s=20)
    assert program.supervised.stop(term_s=0.2)
    assert program.supervised.find() is None


def test_process_that_died_is_gone(program: Program) -> None:
    pid = program.start()
    os.kill(pid, signal.SIGKILL)
    assert program.supervised.wait_ended(10)


def test_missing_program(program: Program) -> None:
    with pytest.raises(UnreachableError) as failed:
        program.supervised.start(["/no/such/program"], log=program.log)
    assert failed.value.code == "lab.program"


def test_names_with_parentheses_and_spaces(tmp_path: pathlib.Path) -> None:
    (tmp_path / "7").mkdir()
    rest = " ".join(str(n) for n in range(3, 50))
    (tmp_path / "7/stat").write_text(f"7 (a) b) R {rest.removeprefix('3 ')}")
    (tmp_path / "7/cmdline").write_bytes(b"a\0--x=\xff\0")
    (tmp_path / "self").mkdir()
    table = ProcessTable(tmp_path)
    assert table.start_ticks(7) == 22
    assert table.argv(7) == ("a", "--x=\udcff")
    assert table.pids() == (7,)
    assert table.start_ticks(8) is None
    assert table.argv(8) == ()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The event log: every place a crash can hit, and every way of lying about the past."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.check.eventlog14 import replay_log
from ansible.module_utils.vouch.daemon.eventlog import INCONSISTENT, PCR, EventLog
from ansible.module_utils.vouch.errors import UnreachableError, VouchError
from ansible.module_utils.vouch.parse.cel import encode_record, parse_cel

EVENT: dict[str, Any] = {"event": "test.event", "number": 1}


class Register:
    """PCR 14 in memory; can break before or after the extend."""

    def __init__(self) -> None:
        self.value = bytes(32)
        self.break_before = False
        self.break_after = False

    def read_pcrs(self, indices: tuple[int, ...]) -> dict[int, bytes]:
        assert indices == (PCR,)
        return {PCR: self.value}

    def extend(self, pcr: int, digest: bytes) -> None:
        if self.break_before:
            raise UnreachableError("gone", code="tpm.absent")
        self.value = hashlib.sha256(self.value + digest).digest()
        if self.break_after:
            raise UnreachableError("gone", code="tpm.absent")


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def log(tmp_path: pathlib.Path, register: Register) -> EventLog:
    return EventLog(str(tmp_path), register)


def reopened(tmp_path: pathlib.Path, register: Register) -> tuple[EventLog, str]:
    log = EventLog(str(tmp_path), register)
    return log, log.open()


def assert_inconsistent(tmp_path: pathlib.Path, register: Register) -> None:
    with pytest.raises(VouchError) as caught:
        EventLog(str(tmp_path), register).open()
    assert caught.value.code == INCONSISTENT


def test_a_new_log_is_empty_and_fits_a_fresh_register(log: EventLog) -> None:
    assert log.open() == ""
    assert (log.count, log.head, log.data) == (0, bytes(32), b"")


def test_events_are_what_the_appraiser_replays(log: EventLog, register: Register) -> None:
    for number in range(3):
        log.record({**EVENT, "number": number})
    records = replay_log(log.data, quoted_pcr14=register.value, count=log.count, head=log.head)
    assert [record.content["number"] for record in records] == [0, 1, 2]
    first = parse_cel(log.data)[0]
    assert encode_record(0, PCR, first.digest, first.content) == log.data.splitlines(keepends=True)[0]


def test_a_restart_continues(tmp_path: pathlib.Path, log: EventLog, register: Register) -> None:
    log.record(EVENT)
    again, repaired = reopened(tmp_path, register)
    assert repaired == ""
    again.record(EVENT)
    assert again.count == 2
    assert reopened(tmp_path, register)[0].data == again.data
    assert not (tmp_path / "eventlog.pending").exists()
    assert (tmp_path / "eventlog").stat().st_mode & 0o777 == 0o600


def test_a_crash_before_the_extend_leaves_no_event(tmp_path: pathlib.Path, log: EventLog, register: Register) -> None:
    log.record(EVENT)
    register.break_before = True
    with pytest.raises(UnreachableError):
        log.record(EVENT)
    assert (tmp_path / "eventlog.pending").exists()
    register.break_before = False
    again, _ = reopened(tmp_path, register)
    assert again.count == 1
    assert not (tmp_path / "eventlog.pending").exists()


def test_a_crash_after_the_extend_completes_the_event(
    tmp_path: pathlib.Path, log: EventLog, register: Register
) -> None:
    log.record(EVENT)
    register.break_after = True
    with pytest.raises(UnreachableError):
        log.record({**EVENT, "number": 2})
    register.break_after = False
    again, repaired = reopened(tmp_path, register)
    assert "completed" in repaired
    assert (again.count, again.head) == (2, register.value)
    assert reopened(tmp_path, register)[1] == ""


def test_a_broken_extend_is_settled_by_the_running_service_too(log: EventLog, register: Register) -> None:
    register.break_after = True
    with pytest.raises(UnreachableError):
        log.record(EVENT)
    register.break_after = False
    log.record(EVENT)
    assert (log.count, log.head) == (2, register.value)


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_crash_while_appending_completes_the_line(
    tmp_path: pathlib.Path, log: EventLog, register: Register, kept: int
) -> None:
    log.record(EVENT)
    before = log.data
    log.record({**EVENT, "number": 2})
    line = log.data[len(before) :]
    (tmp_path / "eventlog.pending").write_bytes(line)
    (tmp_path / "eventlog").write_bytes(before + line[:kept])
    again, repaired = reopened(tmp_path, register)
    assert "completed" in repaired
    assert again.data == log.data == (tmp_path / "eventlog").read_bytes()


def test_a_crash_before_tidying_up_changes_nothing(tmp_path: pathlib.Path, log: EventLog, register: Register) -> None:
    log.record(EVENT)
    (tmp_path / "eventlog.pending").write_bytes(log.data)
    again, repaired = reopened(tmp_path, register)
    assert (again.data, repaired) == (log.data, "")


def test_a_torn_pending_line_never_happened(tmp_path: pathlib.Path, log: EventLog, register: Register) -> None:
    log.record(EVENT)
    (tmp_path / "eventlog.pending").write_bytes(b'{"content":{"ev')
    assert reopened(tmp_path, register)[0].count == 1


def _drop_last(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-1])


LIES = {
    "emptied": lambda data: b"",
    "last line dropped": _drop_last,
    "first line dropped": lambda data: b"".join(data.splitlines(keepends=True)[1:]),
    "number altered": lambda data: data.replace(b'"number":1', b'"number":9', 1),
    "order changed": lambda data: b"".join(reversed(data.splitlines(keepends=True))),
    "line added": lambda data: data + data.splitlines(keepends=True)[0],
    "blank line": lambda data: data + b"\n",
    "no line end": lambda data: data[:-1],
    "trailing bytes": lambda data: data + b"x",
    "not json": lambda data: b"hello\n",
    "spaces": lambda data: data.replace(b":", b": ", 1),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_log_that_does_not_describe_the_register_is_refused(
    tmp_path: pathlib.Path, log: EventLog, register: Register, lie: str
) -> None:
    log.record(EVENT)
    log.record({**EVENT, "number": 2})
    (tmp_path / "eventlog").write_bytes(LIES[lie](log.data))
    assert_inconsistent(tmp_path, register)
    assert (tmp_path / "eventlog").read_bytes() == LIES[lie](log.data), "never repaired, never overwritten"


def test_a_foreign_extend_is_refused(tmp_path: pathlib.Path, log: EventLog, register: Register) -> None:
    log.record(EVENT)
    register.extend(PCR, bytes(32))
    assert_inconsistent(tmp_path, register)
    with pytest.raises(VouchError) as caught:
        log.require_head(register.value)
    assert caught.value.code == INCONSISTENT


def test_a_pending_line_that_is_not_the_next_one_is_refused(
    tmp_path: pathlib.Path, log: EventLog, register: Register
) -> None:
    log.record(EVENT)
    (tmp_path / "eventlog.pending").write_bytes(log.data)
    register.extend(PCR, hashlib.sha256(b"other").digest())
    assert_inconsistent(tmp_path, register)


def test_a_full_disk_before_the_extend_changes_no_register(
    tmp_path: pathlib.Path, log: EventLog, register: Register
) -> None:
    log.open()
    (tmp_path / "eventlog.pending").mkdir()
    with pytest.raises(VouchError) as caught:
        log.record(EVENT)
    assert caught.value.code == "verifier.eventlog.storage"
    assert register.value == bytes(32)


def test_the_log_is_bounded(log: EventLog, register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    log.record(EVENT)
    value = register.value
    monkeypatch.setattr("ansible.module_utils.vouch.daemon.eventlog.MAX_LOG_BYTES", len(log.data) + 10)
    with pytest.raises(VouchError) as caught:
        log.record(EVENT)
    assert caught.value.code == "verifier.eventlog.full"
    assert register.value == value


def test_a_folder_that_lets_nothing_go_is_an_error_with_a_code(
    log: EventLog, tmp_path: pathlib.Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr("os.unlink", refuse)
    with pytest.raises(VouchError) as caught:
        log.record(EVENT)
    assert caught.value.code == "verifier.eventlog.storage"
    monkeypatch.undo()
    # The event is in the register: it is completed, not lost.
    log.open()
    assert log.count == 1

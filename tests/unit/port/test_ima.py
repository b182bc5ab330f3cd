# SPDX-License-Identifier: GPL-3.0-or-later
"""The IMA reader: whole entries, known boundaries, a list that grows."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.parse.imalog import parse_binary
from ansible.module_utils.vouch.port import ima
from ansible.module_utils.vouch.port.ima import ImaLog

from verifier_harness import ima_entry

ENTRIES = [ima_entry(number) for number in range(5)]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "list"
    path.write_bytes(b"".join(ENTRIES))
    return path


def ends(entries: list[bytes]) -> list[int]:
    return [sum(map(len, entries[:count])) for count in range(len(entries) + 1)]


def test_every_boundary_and_nothing_else_is_an_offset(path: pathlib.Path) -> None:
    log = ImaLog(str(path))
    assert log.is_boundary(0), "an empty list can be asked for"
    assert not log.is_boundary(len(ENTRIES[0])), "what was not read is not known"
    assert log.refresh() == path.stat().st_size
    assert [at for at in range(path.stat().st_size + 10) if log.is_boundary(at)] == ends(ENTRIES)


def test_reading_from_each_boundary_gives_the_rest(path: pathlib.Path) -> None:
    log = ImaLog(str(path))
    log.refresh()
    for at in ends(ENTRIES):
        assert log.read_from(at) == path.read_bytes()[at:]


def test_the_list_grows_between_two_looks(path: pathlib.Path) -> None:
    log = ImaLog(str(path))
    before = log.refresh()
    with path.open("ab") as stream:
        stream.write(ENTRIES[0])
    assert log.read_from(before) == ENTRIES[0]
    assert log.end_bytes == before + len(ENTRIES[0])
    assert log.is_boundary(log.end_bytes)


@pytest.mark.parametrize("cut", [1, 27, 28, 40, 100])
def test_a_cut_last_entry_is_left_for_later(path: pathlib.Path, cut: int) -> None:
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes() + ENTRIES[0][:cut])
    log = ImaLog(str(path))
    assert log.refresh() == whole
    assert log.read_from(0) == b"".join(ENTRIES)
    path.write_bytes(path.read_bytes() + ENTRIES[0][cut:])
    assert log.refresh() == whole + len(ENTRIES[0])


def test_one_read_is_bounded_and_ends_at_a_boundary(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ima, "MAX_LOG_BYTES", len(ENTRIES[0]) * 2 + 1)
    monkeypatch.setattr(ima, "READ_CHUNK_BYTES", 50)
    log = ImaLog(str(path))
    while log.refresh() < path.stat().st_size:
        pass
    found = log.read_from(0)
    assert found == b"".join(ENTRIES[:2])


@pytest.mark.parametrize(
    "content", [b"\0" * 40, b"x" * 100, ENTRIES[0] + b"\xff" * 60], ids=["zeros", "text", "after an entry"]
)
def test_what_is_no_list_is_said_to_be_none(path: pathlib.Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UnreachableError) as caught:
        ImaLog(str(path)).refresh()
    assert caught.value.code == "ima.malformed"


def test_a_missing_list_is_said_to_be_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        ImaLog(str(tmp_path / "none")).refresh()
    assert caught.value.code == "ima.unreadable"


@pytest.mark.parametrize(
    ("name", "extra"), [("guard-h12ssl.bin", 0), ("tss-sml-ima-ng-sha1.bin", 1), ("tss-sml-ima-sha1.bin", 1)]
)
def test_real_lists_end_where_the_parser_says(
    shared_data: Callable[[str], pathlib.Path], name: str, extra: int
) -> None:
    """Two of the recorded lists carry a line end behind the last entry, which is left as a cut entry would be."""
    path = shared_data("ima") / name
    whole = path.read_bytes()[: path.stat().st_size - extra]
    log = ImaLog(str(path))
    assert log.refresh() == len(whole)
    assert log.read_from(0) == whole
    assert len(log._ends) - 1 == len(parse_binary(whole))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences of text and read-only data: explained by a site and what may stand there, or reported where they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.kerneltext import MAX_FINDINGS, RegionCheck, changed_pages, check_region
from ansible.module_utils.vouch.errors import UsageError

from sim import kernelprofile as sim

PROFILE = sim.profile()
POINTER = 0xFFFF888012345678


def put(at: int, data: bytes) -> Callable[[bytearray], None]:
    def change(text: bytearray) -> None:
        text[at : at + len(data)] = data

    return change


def constants(first: int, second: int) -> Callable[[bytearray], None]:
    def change(text: bytearray) -> None:
        put(sim.CONSTANT_1, first.to_bytes(8, "little"))(text)
        put(sim.CONSTANT_2, second.to_bytes(8, "little"))(text)

    return change


ALLOWED: dict[str, Callable[[bytearray], None]] = {
    "nothing": lambda text: None,
    "call of the other target": put(sim.CALL, sim.branch(0xE8, sim.CALL, sim.OTHER)),
    "call that is not there": put(sim.CALL, b"\x0f\x1f\x44\x00\x00"),
    "the same, spelled otherwise": put(sim.CALL, b"\x66\x90\x0f\x1f\x00"),
    "one processor": put(sim.LOCK, b"\x3e"),
    "an alternative": put(sim.SPAN, b"\x0f\x01\xca\x66\x90\x0f\x1f\x80\x00\x00\x00\x00"),
    "a jump over the rest": put(sim.SPAN, b"\xeb\x0a" + b"\xcc" * 10),
    "a jump label": put(sim.LABEL, b"\xeb\x1e"),
    "a site over a page's end": put(sim.CROSSING, sim.branch(0xE9, sim.CROSSING, sim.TARGET)),
    "constants": constants(POINTER, POINTER),
    "a constant not yet everywhere": constants(POINTER, sim.FILE_VALUE),
}

REFUSED: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "another byte": (put(0x1804, b"\x00"), "selinux_file_permission"),
    "the byte before a site": (put(sim.CALL - 1, b"\x00"), "_stext"),
    "the byte behind a site": (put(sim.CALL + 5, b"\x00"), "_stext"),
    "the last byte": (put(2 * 4096 + 99, b"\x00"), "selinux_file_permission+0x800"),
    "a call of something else": (put(sim.CALL, sim.branch(0xE8, sim.CALL, sim.TARGET + 1)), "_stext+0x40"),
    "a jump in place of a call": (put(sim.CALL, sim.branch(0xE9, sim.CALL, sim.TARGET)), "_stext+0x40"),
    "a trap": (put(sim.CALL, b"\xcc"), "_stext+0x40"),
    "something in place of nothing": (put(sim.SPAN + 3, b"\x0f\x05"), "_stext+0xc0"),
    "a jump behind the end": (put(sim.SPAN, b"\xeb\x0b" + b"\xcc" * 10), "_stext+0xc0"),
    "code behind the jump": (put(sim.SPAN, b"\xeb\x0a\x0f\x05" + b"\xcc" * 8), "_stext+0xc0"),
    "another prefix": (put(sim.LOCK, b"\x2e"), "_stext+0x80"),
    "a jump elsewhere": (put(sim.LABEL, b"\xeb\x1f"), "_stext+0x300"),
    "a site over a page's end": (put(sim.CROSSING + 3, b"\x90"), "_stext+0xffe"),
    "two values of a constant": (constants(POINTER, POINTER + 8), "dentry_hashtable"),
    "a constant that is no pointer": (constants(0x1000, 0x1000), "dentry_hashtable"),
    "a constant that is not aligned": (constants(POINTER + 1, POINTER + 1), "dentry_hashtable"),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_the_kernel_may_write_is_explained(what: str) -> None:
    data = sim.text()
    ALLOWED[what](data)
    assert check_region(PROFILE, "text", data, live=True) == ()


@pytest.mark.parametrize("what", REFUSED)
def test_everything_else_is_found(what: str) -> None:
    data = sim.text()
    change, place = REFUSED[what]
    change(data)
    findings = check_region(PROFILE, "text", data, live=True)
    assert [finding.code for finding in findings] == ["guest.text.changed"]
    assert place in str(findings[0])


@pytest.mark.parametrize("what", [name for name in ALLOWED if name != "nothing"])
def test_a_kernel_that_has_not_run_is_the_files(what: str) -> None:
    data = sim.text()
    assert check_region(PROFILE, "text", data, live=False) == ()
    ALLOWED[what](data)
    assert {finding.code for finding in check_region(PROFILE, "text", data, live=False)} == {"guest.text.changed"}


def test_read_only_data() -> None:
    data = sim.rodata()
    data[-1] ^= 1
    assert check_region(PROFILE, "rodata", data, live=True) == ()
    data[0x310] ^= 1
    (found,) = check_region(PROFILE, "rodata", data, live=True)
    assert found.code == "guest.rodata.changed"
    assert "linux_banner+0x300" in str(found)


def test_only_the_pages_that_changed_are_looked_at() -> None:
    before, after = sim.text(), sim.text()
    put(sim.CROSSING + 3, b"\x90")(after)
    assert list(changed_pages(before, after)) == [1]
    check = RegionCheck(PROFILE, "text", live=True)
    assert check.check(after, [2]) == ()
    # The site begins in the page before the one that changed.
    assert len(check.check(after, [1])) == 1
    assert list(changed_pages(before, before)) == []


def test_constants_are_told() -> None:
    data = sim.text()
    check = RegionCheck(PROFILE, "text", live=True)
    assert check.constants(data) == {"dentry_hashtable": ()}
    constants(POINTER, POINTER)(data)
    assert check.constants(data) == {"dentry_hashtable": (POINTER,)}


def test_findings_are_bounded() -> None:
    data = bytearray(len(sim.text()))
    assert 0 < len(check_region(PROFILE, "text", data, live=True)) <= MAX_FINDINGS


def test_other_lengths_are_our_mistake() -> None:
    with pytest.raises(UsageError):
        check_region(PROFILE, "text", b"", live=True)
    with pytest.raises(UsageError):
        list(changed_pages(b"1", b"12"))

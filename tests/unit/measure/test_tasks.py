# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks: domains that their programs lead into, and credentials that nobody wrote into."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.measure.sids import Sids
from ansible.module_utils.vouch.measure.tasks import PROOF_LOOKS, PROOF_NS, Task, Tasks

from sim.guestattacks import Watched
from sim.recordedguest import recorded_guest

KERNEL_THREAD = 0x0020_0000


class Guest:
    """The recorded guest, its tasks seen once."""

    def __init__(self) -> None:
        self.it = recorded_guest()
        self.tasks = Tasks(self.it.measurer._rules)
        self.ran_ns = 0
        assert self.codes() == set()
        found = list(self.tasks.all(self.it.kernel))
        self.first = found[0]
        self.one = next(task for task in found if task.pid == 1)
        self.other = next(task for task in found if task.mm and task.sid not in (self.one.sid, self.first.sid))
        self.thread = next(task for task in found if task.kernel_thread and task.pid)

    def codes(self, ran_ns: int = PROOF_NS) -> set[str]:
        """Return what a look finds after the guest has run for so long since the last one."""
        kernel = self.it.kernel
        self.ran_ns += ran_ns
        return {finding.code for finding in self.tasks.check(kernel, Sids(kernel, self.it.policy), self.ran_ns)}

    def cred(self, task: Task, member: str, value: bytes) -> Any:
        """Change a member of a task's credentials."""
        return self.it.changed(self.it.place(task.cred, f"cred.{member}"), value)

    def task(self, task: Task, member: str, value: bytes) -> Any:
        """Change a member of a task."""
        return self.it.changed(self.it.place(task.address, f"task_struct.{member}"), value)

    @contextlib.contextmanager
    def own_credentials(self, task: Task, sid: int) -> Iterator[None]:
        """Give a task credentials in a place where no other were, with another SID."""
        kernel = self.it.kernel
        size, blob = 256, kernel.pointer(task.cred, "cred.security")
        copy = kernel.space.read(task.cred, 176)
        used = set(self.it.guest.frames)
        free = next(frame for frame in range(0x8000, len(self.it.guest.ram) // 4096) if frame not in used)
        at = free * 4096
        offset = self.it.profile.offsets["cred.security"]
        new = bytearray(copy)
        new[offset : offset + 8] = struct.pack("<Q", 0xFFFF_8880_0000_0000 + at + size)
        inside = kernel.value(self.it.place("selinux_blob_sizes"), "lsm_blob_sizes.lbs_cred")
        security = bytearray(kernel.space.read(blob, inside + 64))
        sid_at = inside + self.it.profile.offsets["task_security_struct.sid"]
        security[sid_at : sid_at + 4] = struct.pack("<I", sid)
        pointer = struct.pack("<Q", 0xFFFF_8880_0000_0000 + at)
        with (
            self.it.changed(at, bytes(new).ljust(size, b"\0") + bytes(security), physical=True),
            self.task(task, "cred", pointer),
        ):
            yield


CREDENTIALS: dict[str, tuple[str, bytes]] = {
    "root": ("uid", bytes(4)),
    "root's files": ("fsuid", bytes(4)),
    "every capability": ("cap_permitted", b"\xff" * 5),
    "in effect though not permitted": ("cap_effective", b"\xff" * 6),
}


@pytest.mark.parametrize("fault", CREDENTIALS)
def test_credentials_that_become_more(fault: str) -> None:
    guest = Guest()
    with (
        guest.cred(guest.other, "uid", b"\xe8\3\0\0"),
        guest.cred(guest.other, "fsuid", b"\xe8\3\0\0"),
        guest.cred(guest.other, "cap_permitted", b"\1" + bytes(7)),
        guest.cred(guest.other, "cap_effective", b"\1" + bytes(7)),
    ):
        assert guest.codes() == set()
        with guest.cred(guest.other, *CREDENTIALS[fault]):
            assert guest.codes() == {"guest.task.credentials"}


def test_credentials_that_become_less() -> None:
    """Memory that was given back can be the same task's credentials again."""
    guest = Guest()
    with guest.cred(guest.one, "uid", b"\xe8\3\0\0"), guest.cred(guest.one, "cap_effective", bytes(8)):
        assert guest.codes() == set()


def test_the_kernels_own_credentials_on_a_process() -> None:
    guest = Guest()
    with guest.task(guest.other, "cred", struct.pack("<Q", guest.first.cred)):
        assert "guest.task.credentials" in guest.codes()


@pytest.mark.parametrize("who", ["first", "one"])
def test_new_credentials_with_the_sid_of_another(who: str) -> None:
    """They are not written in place: the domain gives them away, at the second look."""
    guest = Guest()
    with guest.own_credentials(guest.other, getattr(guest, who).sid):
        assert guest.codes() == set()
        assert guest.tasks.suspicious
        assert guest.codes() == {"guest.task.domain"}
    assert guest.codes() == set()
    assert not guest.tasks.suspicious


def test_a_process_in_the_midst_of_execve() -> None:
    guest = Guest()
    with guest.own_credentials(guest.other, guest.one.sid):
        assert guest.codes() == set()
    assert guest.codes() == set()


def test_a_guest_that_gets_no_processor_does_not_leave_execve() -> None:
    guest = Guest()
    with guest.own_credentials(guest.other, guest.one.sid):
        assert [guest.codes(ran_ns=0) for _ in range(PROOF_LOOKS - 1)] == [set()] * (PROOF_LOOKS - 1)
        assert guest.tasks.suspicious
    assert guest.codes() == set()


def test_an_idle_guest_is_found_all_the_same() -> None:
    guest = Guest()
    with guest.own_credentials(guest.other, guest.one.sid):
        found = [guest.codes(ran_ns=1) for _ in range(PROOF_LOOKS)]
    assert found == [set()] * (PROOF_LOOKS - 1) + [{"guest.task.domain"}]


def test_a_busy_guest_is_found_as_soon_as_it_ran_for_longer_than_an_execve_takes() -> None:
    guest = Guest()
    with guest.own_credentials(guest.other, guest.one.sid):
        found = [guest.codes(ran_ns=PROOF_NS // 2) for _ in range(3)]
    assert found == [set(), set(), {"guest.task.domain"}]


def test_the_first_process_before_it_has_left_the_kernels_domain() -> None:
    guest = Guest()
    guest.tasks = Tasks(guest.it.measurer._rules)
    with guest.own_credentials(guest.one, guest.first.sid):
        assert [guest.codes() for _ in range(4)] == [set()] * 4
        assert guest.tasks.suspicious
    assert guest.codes() == set()
    with guest.own_credentials(guest.one, guest.first.sid):
        assert guest.codes() == set()
        assert guest.codes() == {"guest.task.domain"}


def test_a_kernel_thread_in_another_domain() -> None:
    guest = Guest()
    with guest.own_credentials(guest.thread, guest.one.sid):
        assert guest.codes() == {"guest.task.domain"}


def test_a_process_that_says_it_is_a_kernel_thread() -> None:
    guest = Guest()
    flags = guest.it.kernel.value(guest.other.address, "task_struct.flags") | KERNEL_THREAD
    with (
        guest.task(guest.other, "flags", struct.pack("<I", flags)),
        guest.own_credentials(guest.other, guest.first.sid),
    ):
        assert guest.codes() == set()
        assert guest.codes() == {"guest.task.domain"}


def test_a_sid_that_nobody_has() -> None:
    guest = Guest()
    report = Watched(guest.it.guest, guest.it.policy_file, guest.it.profile)
    assert report.measurer.phase != "running"
    with guest.own_credentials(guest.other, 40_000):
        assert {finding.code for finding in guest.it.round(heavy=True).violations} == {"guest.sid.unknown"}

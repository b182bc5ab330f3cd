# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of the guest: does each one have a right to its SELinux type, and did anybody write into its credentials?

1. A task's type is one of the policy. That of a process is a domain that may run its program, by the label that the
   kernel holds of the program's file: as the way into the domain (``entrypoint``) or from within it
   (``execute_no_trans``). The kernel's own domain is none for a process, but that the first one is in it until it has
   loaded the policy. A process is seen with its new program and its old domain in the midst of execve(2), so what does
   not fit counts only when a later round finds the very same, after the guest has run for longer than an execve(2)
   takes. How long it ran is the hypervisor's word: on a busy host time passes for a guest that gets no processor. An
   idle guest gets on with nothing, so after some rounds it counts all the same.
2. Credentials are never changed in place (Linux, Documentation/security/credentials.rst): while one task keeps one set
   of them and one program, its SID stays, and neither ids nor capabilities become more than they were. (They may become
   less: memory that was given back can come again as the credentials of the same task.)
3. No process has the kernel's first credentials, nor capabilities in effect that it may not have.
4. A kernel thread stays in the kernel's domain, and has no memory of its own.

Source: Linux 6.12, include/linux/sched.h, cred.h; security/selinux/include/objsec.h, hooks.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import shown
from ..model.finding import Finding
from ..parse.sepolicy import PolicyDb
from ..parse.serules import ALLOW
from .kernel import Kernel
from .memory import GuestMemoryError
from .sids import Sids

SOURCE = "docs/introspection.md, tasks"
MAX_TASKS = 16_384
PROOF_NS, PROOF_LOOKS = 200_000_000, 5
"""What does not fit counts after the guest has run for so long, or has been looked at so often."""

_KERNEL_THREAD = 0x0020_0000
"""PF_KTHREAD (include/linux/sched.h)."""

_KERNEL_SID = 1
_IDS = ("uid", "gid", "euid", "egid", "fsuid")
_CAPABILITIES = ("cap_permitted", "cap_effective", "cap_bset")

Identity = tuple[tuple[int, ...], tuple[int, ...], int]
"""Ids, capabilities and SID of credentials."""

Key = tuple[int, int, int, int, int]


class Task(NamedTuple):
    """One task: who it is, and its credentials."""

    address: int
    pid: int
    command: str
    start: int
    kernel_thread: bool
    cred: int
    identity: Identity
    sid: int
    mm: int


class Seen(NamedTuple):
    """Since when something does not fit: how long the guest had run then, and how often it was seen."""

    ran_ns: int
    looks: int


class TaskRules:
    """What the policy says of domains and the programs that lead into them. Prepared once.

    Args:
        policy: The approved policy.
    """

    __slots__ = ("_entry", "names")

    def __init__(self, policy: PolicyDb) -> None:
        self.names: Mapping[int, str] = policy.types
        files = policy.classes.get("file")
        names = ("entrypoint", "execute_no_trans")
        wanted = (
            0 if files is None else sum(1 << files.permissions[name] for name in names if name in files.permissions)
        )
        self._entry: dict[int, int] = {}
        if files is not None:
            for source, target, tclass, kind, data in policy.rules.rules:
                if tclass == files.value and kind == ALLOW and data & wanted:
                    for domain in _values(policy.members(source)):
                        self._entry[domain] = self._entry.get(domain, 0) | policy.members(target)

    def may_run(self, domain: int, program: int) -> bool:
        """Say whether a file of type ``program`` may be the program of a process in ``domain``."""
        return bool(self._entry.get(domain, 0) >> program & 1)


class Tasks:
    """The tasks of one guest over its life.

    Args:
        rules: Of its policy.
    """

    __slots__ = ("_beginning", "_known", "_rules", "_suspects")

    def __init__(self, rules: TaskRules) -> None:
        self._rules = rules
        self._suspects: dict[tuple[int, ...], Seen] = {}
        self._beginning: tuple[int, ...] | None = ()
        """The first process, if it had not left the kernel's domain when it was first seen; None once it has."""
        self._known: dict[Key, Identity] = {}

    def check(self, kernel: Kernel, sids: Sids, ran_ns: int) -> Iterator[Finding]:
        """Yield findings on every task; the guest stands still.

        Args:
            kernel: Of the guest.
            sids: Its table of SIDs.
            ran_ns: Nanoseconds that its processors have run (``DomainState.ran_ns``).

        Raises:
            GuestMemoryError: the list or a task cannot be read.
        """
        known: dict[Key, Identity] = {}
        suspects: dict[tuple[int, ...], Seen] = {}
        first = kernel.pointer(kernel.symbol("init_task"), "task_struct.cred")
        for task in self.all(kernel):
            key = (task.address, task.pid, task.start, task.cred, task.mm)
            before = self._known.get(key)
            known[key] = task.identity
            if before is not None and _more(before, task.identity):
                yield _finding(task, "guest.task.credentials", _told(before), _told(task.identity))
            _, (permitted, effective, _), _ = task.identity
            if effective & ~permitted or (task.mm and task.cred == first):
                yield _finding(task, "guest.task.credentials", "credentials of its own", _told(task.identity))
            yield from self._domain(kernel, sids, task, suspects, ran_ns)
        self._known, self._suspects = known, suspects
        if self._beginning not in suspects:
            self._beginning = None

    @property
    def suspicious(self) -> bool:
        """Whether the last round saw something that the next one has to see again."""
        return bool(self._suspects)

    def roots(self, kernel: Kernel) -> Iterator[int]:
        """Yield the frame of the topmost page table of each process."""
        first = kernel.symbol("init_task")
        head = kernel.place(first, "task_struct.tasks")
        for leader in kernel.entries(head, "task_struct.tasks", limit=MAX_TASKS):
            mm = kernel.pointer(leader, "task_struct.mm")
            if mm:
                yield kernel.space.frame(kernel.pointer(mm, "mm_struct.pgd"))

    def all(self, kernel: Kernel) -> Iterator[Task]:
        """Yield every thread of every process."""
        first = kernel.symbol("init_task")
        count = 0
        head = kernel.place(first, "task_struct.tasks")
        for leader in (first, *kernel.entries(head, "task_struct.tasks", limit=MAX_TASKS)):
            signal = kernel.pointer(leader, "task_struct.signal")
            threads = kernel.place(signal, "signal_struct.thread_head")
            for thread in kernel.entries(threads, "task_struct.thread_node", limit=MAX_TASKS):
                count += 1
                if count > MAX_TASKS:
                    raise GuestMemoryError(f"more than {MAX_TASKS} tasks", code="guest.list.endless")
                yield _task(kernel, thread)

    def _domain(
        self, kernel: Kernel, sids: Sids, task: Task, suspects: dict[tuple[int, ...], Seen], ran_ns: int
    ) -> Iterator[Finding]:
        domain = sids.type_of(task.sid)
        name = self._rules.names.get(domain)
        if name is None:
            yield _finding(task, "guest.task.type", "a type of the policy", f"type {domain}")
            return
        if task.kernel_thread and sids.type_of(_KERNEL_SID) != domain:
            yield _finding(task, "guest.task.domain", "the kernel's domain", name)
        if not task.mm:
            return
        file, program = _program(kernel, sids, task.mm)
        if task.kernel_thread or (program and not self._rules.may_run(domain, program)):
            suspect = (task.address, task.start, task.cred, file)
            since = self._suspects.get(suspect, Seen(ran_ns, 0))
            seen = suspects[suspect] = since._replace(looks=since.looks + 1)
            if task.pid == 1 and domain == sids.type_of(_KERNEL_SID) and self._beginning == ():
                self._beginning = suspect
            proven = seen.looks > 1 and (ran_ns - seen.ran_ns >= PROOF_NS or seen.looks >= PROOF_LOOKS)
            if proven and suspect != self._beginning:
                label = self._rules.names.get(program, str(program))
                wanted = "no memory of its own" if task.kernel_thread else f"a domain that may run {label}"
                yield _finding(task, "guest.task.domain", wanted, name)


def _task(kernel: Kernel, address: int) -> Task:
    cred = kernel.pointer(address, "task_struct.cred")
    security = kernel.pointer(cred, "cred.security") + kernel.value(
        kernel.symbol("selinux_blob_sizes"), "lsm_blob_sizes.lbs_cred"
    )
    sid = kernel.value(security, "task_security_struct.sid")
    ids = tuple(kernel.value(cred, f"cred.{name}") for name in _IDS)
    capabilities = tuple(kernel.value(cred, f"cred.{name}") for name in _CAPABILITIES)
    return Task(
        address=address,
        pid=kernel.value(address, "task_struct.pid"),
        command=kernel.string(address, "task_struct.comm"),
        start=kernel.value(address, "task_struct.start_time"),
        kernel_thread=bool(kernel.value(address, "task_struct.flags") & _KERNEL_THREAD),
        cred=cred,
        identity=(ids, capabilities, sid),
        sid=sid,
        mm=kernel.pointer(address, "task_struct.mm"),
    )


def _program(kernel: Kernel, sids: Sids, mm: int) -> tuple[int, int]:
    """Return a process's program and its type; zeros while it has none (it is just ending)."""
    file = kernel.pointer(mm, "mm_struct.exe_file")
    if not file:
        return 0, 0
    security = kernel.pointer(kernel.pointer(file, "file.f_inode"), "inode.i_security")
    if not security:
        return file, 0
    blob = security + kernel.value(kernel.symbol("selinux_blob_sizes"), "lsm_blob_sizes.lbs_inode")
    return file, sids.type_of(kernel.value(blob, "inode_security_struct.sid"))


def _more(before: Identity, now: Identity) -> bool:
    """Say whether credentials are more than they were: another SID, an id that is 0 now, a further capability."""
    return (
        before[2] != now[2]
        or any(old and not new for old, new in zip(before[0], now[0], strict=True))
        or any(new & ~old for old, new in zip(before[1], now[1], strict=True))
    )


def _told(identity: Identity) -> str:
    ids, capabilities, sid = identity
    return f"ids {ids}, capabilities {', '.join(f'{item:#x}' for item in capabilities)}, SID {sid}"


def _values(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _finding(task: Task, code: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, shown(f"task {task.pid} {task.command}"), expected, actual, source=SOURCE)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of violations: what the measurer finds in the memory of a guest that runs. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

DENY = Severity.DENY

_BROKEN = "treat the guest as compromised: keep its memory if you want to look at it, then remove it and start it anew"
_PACKAGE = "if it comes again with a fresh start, the package does not fit its kernel: build the guest again"

INTROSPECT_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    (
        "guest.boot.overdue",
        DENY,
        "The guest did not come up: no policy was in force within the time limit.",
        "look at its console; raise boot_limit_s where the machine is slow",
    ),
    ("guest.cpu.control", DENY, "A protection of the processor is switched off.", _BROKEN),
    ("guest.gone", DENY, "The guest ended without an order.", "look at its console"),
    ("guest.hook.changed", DENY, "A hook of the security modules leads somewhere else.", _BROKEN),
    ("guest.hook.missing", DENY, "The kernel does not ask SELinux any more about something.", _BROKEN),
    ("guest.idt.base", DENY, "The processor uses another interrupt table than the kernel's.", _BROKEN),
    ("guest.idt.gate", DENY, "An interrupt or trap leads somewhere else.", _BROKEN),
    ("guest.ima.changed", DENY, "The guest's measurement list is not the one that was seen before.", _BROKEN),
    ("guest.ima.cut", DENY, "The guest's measurement list is shorter than it was, or than it says.", _BROKEN),
    ("guest.ima.policy", DENY, "The guest's kernel measured another SELinux policy.", _BROKEN),
    ("guest.ima.state", DENY, "SELinux did not enforce its policy at some time.", _BROKEN),
    ("guest.kernel.other", DENY, "The kernel in the guest's memory is not that of the package.", _BROKEN),
    (
        "guest.kernel.switch",
        DENY,
        "A variable of the kernel was changed that only the attackers of one change.",
        _BROKEN,
    ),
    (
        "guest.list.broken",
        DENY,
        "A list of the kernel is not linked both ways: something was taken out or put in.",
        _BROKEN,
    ),
    ("guest.list.endless", DENY, "A list or table of the kernel has no end.", _BROKEN),
    ("guest.load.changed", DENY, "The kernel that was loaded is not that of the package.", _PACKAGE),
    ("guest.memory.limit", DENY, "Data of the kernel are larger than an honest guest's can be.", _BROKEN),
    ("guest.memory.unmapped", DENY, "Memory is gone that the kernel cannot be without.", _BROKEN),
    ("guest.module.added", DENY, "A module was loaded after the guest was up.", _BROKEN),
    ("guest.module.changed", DENY, "The code of a module was changed.", _BROKEN),
    ("guest.module.enabled", DENY, "Modules can be loaded, which the guest's first program switched off.", _BROKEN),
    ("guest.module.missing", DENY, "A module is gone from the list of modules.", _BROKEN),
    (
        "guest.page.executable",
        DENY,
        "Something is executable in the kernel that is neither its text nor a module's.",
        _BROKEN,
    ),
    ("guest.page.root", DENY, "A processor uses page tables that show another kernel.", _BROKEN),
    ("guest.page.writable-executable", DENY, "A page of the kernel is both writable and executable.", _BROKEN),
    ("guest.selinux.attributes", DENY, "A type has other attributes than in the package's policy.", _BROKEN),
    ("guest.selinux.boolean", DENY, "A boolean has another value than in the package's policy.", _BROKEN),
    ("guest.selinux.cache", DENY, "SELinux remembers an answer that the policy does not give.", _BROKEN),
    ("guest.selinux.capabilities", DENY, "The policy has other capabilities switched on.", _BROKEN),
    ("guest.selinux.checkreqprot", DENY, "SELinux checks what programs ask for, not what the kernel does.", _BROKEN),
    ("guest.selinux.classes", DENY, "SELinux asks the policy for other classes or permissions than it means.", _BROKEN),
    ("guest.selinux.enforcing", DENY, "SELinux does not enforce its policy.", _BROKEN),
    ("guest.selinux.initialised", DENY, "SELinux has no policy in force any more.", _BROKEN),
    ("guest.selinux.permissive", DENY, "A type is permissive that is not in the package's policy.", _BROKEN),
    (
        "guest.selinux.policy.changed",
        DENY,
        "The policy in force has other sizes or counts than the package's.",
        _BROKEN,
    ),
    ("guest.selinux.policy.replaced", DENY, "Another policy was put into force.", _BROKEN),
    ("guest.selinux.rule.added", DENY, "The policy in force has a rule that the package's does not have.", _BROKEN),
    ("guest.selinux.rule.missing", DENY, "The policy in force lacks a rule that the package's has.", _BROKEN),
    ("guest.selinux.unknown", DENY, "SELinux treats permissions that its policy lacks in another way.", _BROKEN),
    ("guest.sid.changed", DENY, "A label that SELinux gave a number means something else now.", _BROKEN),
    ("guest.sid.unknown", DENY, "Something carries a label that SELinux does not know.", _BROKEN),
    ("guest.start.running", DENY, "The guest ran before it was measured.", _BROKEN),
    ("guest.syscall.entry", DENY, "System calls go somewhere else than into the kernel.", _BROKEN),
    ("guest.task.credentials", DENY, "Somebody wrote into the credentials of a task.", _BROKEN),
    ("guest.task.domain", DENY, "A process is in a domain that its program does not lead into.", _BROKEN),
    ("guest.task.type", DENY, "A task has a type that the policy does not have.", _BROKEN),
    ("guest.text.remapped", DENY, "The page tables of the kernel's text or read-only data were changed.", _BROKEN),
)

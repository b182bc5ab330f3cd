# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's form of a policy, with a stand-in for QEMU; the real boot is part of tests/system."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError, VouchError
from ansible.module_utils.vouch.imaging import normalform
from ansible.module_utils.vouch.port.command import CommandError

from sim.buildnode import policy
from sim.guestbuild import Kernel, reordered, truncated
from sim.policy import allow

POLICY = policy().to_bytes()
FORM = reordered(policy()).to_bytes()
Form = Callable[[Kernel], bytes]


@pytest.fixture
def form(tmp_path: pathlib.Path) -> Form:
    def boot(kernel: Kernel) -> bytes:
        return normalform.normal_form(
            POLICY,
            kernel=tmp_path / "vmlinuz",
            busybox=b"busybox",
            modules={"virtio_ring.ko": b"ring", "virtio_blk.ko": b"disk"},
            place=tmp_path / "boot",
            runner=kernel,
        )

    return boot


def test_what_the_kernel_wrote_is_returned(form: Form) -> None:
    assert FORM != POLICY
    assert form(Kernel(lambda given: FORM)) == FORM


def test_the_boot_gets_the_policy_and_the_modules_in_order(form: Form) -> None:
    kernel = Kernel()
    form(kernel)
    (members,) = kernel.booted
    assert members["policy"] == POLICY
    assert members["modules"] == b"virtio_ring.ko\nvirtio_blk.ko\n"
    assert (members["virtio_ring.ko"], members["virtio_blk.ko"]) == (b"ring", b"disk")
    # Read back, loaded again, read again: only a form that stays the same is one.
    assert b"cmp /tmp/first /tmp/second" in members["init"]


def test_the_machine_has_no_network_and_is_limited_in_time(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    form(kernel)
    (argv,) = kernel.commands
    assert argv[argv.index("-nic") + 1] == "none"
    assert "-no-reboot" in argv
    assert "panic=-1" in argv[argv.index("-append") + 1].split()
    assert 0 < normalform.BOOT_TIMEOUT_S <= 600


def nothing(kernel: Kernel) -> None:
    kernel.form = lambda given: None
    kernel.console = "vouch-normal-form: the kernel refused /policy\n"


def no_qemu(kernel: Kernel) -> None:
    kernel.failure = CommandError("qemu-system-x86_64", "cannot be run: No such file", code="command.missing")


def too_slow(kernel: Kernel) -> None:
    kernel.failure = CommandError("qemu-system-x86_64", "not done after 240 s", code="command.timeout")


def too_long(kernel: Kernel) -> None:
    kernel.form = lambda given: given + bytes(1 << 20)


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (nothing, "guest.normal-form", "the kernel refused /policy"),
        (no_qemu, "guest.normal-form", "cannot be run"),
        (too_slow, "guest.normal-form", "vouch-normal-form: done"),
        (too_long, "guest.policy", "no policy"),
    ],
    ids=["refused", "no QEMU", "too slow", "more than a policy"],
)
def test_a_boot_that_fails_is_told(form: Form, damage: Callable[[Kernel], None], code: str, told: str) -> None:
    kernel = Kernel()
    damage(kernel)
    with pytest.raises(VouchError, match=told) as caught:
        form(kernel)
    assert caught.value.code == code


def test_without_qemu_the_package_is_named(form: Form) -> None:
    kernel = Kernel()
    no_qemu(kernel)
    with pytest.raises(UnreachableError) as caught:
        form(kernel)
    assert "qemu-system-x86" in caught.value.hint


def another_rule() -> bytes:
    other = policy()
    other.rules = [*other.rules, allow("cc_t etc_t:file write")]
    return other.to_bytes()


@pytest.mark.parametrize(
    ("written", "code"),
    [(another_rule(), "guest.policy.changed"), (truncated(POLICY), "guest.policy"), (b"x" * 100, "guest.policy")],
    ids=["another rule", "cut off", "no policy"],
)
def test_a_form_of_another_meaning_is_refused(form: Form, written: bytes, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        form(Kernel(lambda given: written))
    assert caught.value.code == code

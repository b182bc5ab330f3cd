# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that run: what their console says, a compile job, and, through the debug image's shell, what holds inside.

The order matters: the denials are counted before the last tests provoke some.
"""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path
from typing import Any

import elf
import pytest
from runs import DEBUG, DISTCC_PORT, PRODUCTION, Run
from xen_guests import ADDRESS, Guest, XenHost

CLIENT = Path(__file__).resolve().parents[2] / "shared" / "distcc_client.py"
JOB_TIMEOUT_S = 300
NETWORK_LIMIT_S = 300
SOURCE = "int vouch_answer(void) { return 42; }\n"
RETURN_42 = bytes.fromhex("b82a000000c3")
"""``mov $42, %eax; ret``: what every compiler makes of it with -O2 and without -fcf-protection."""

DISKS = ("tmpfs", "devtmpfs", "ext4", "erofs")
TRY = """
    if busybox cp /usr/bin/busybox $place/implant && busybox chmod 755 $place/implant; then
        if $place/implant true; then busybox echo $place=ran; else busybox echo $place=not-run; fi
    else
        busybox echo $place=not-written
    fi
"""
"""What is tried in each ``$place``."""

ATTEMPTS = {
    "switch SELinux to permissive": "echo 0 > /sys/fs/selinux/enforce",
    "switch SELinux off": "echo 1 > /sys/fs/selinux/disable",
    "load a policy": "busybox cat /sys/fs/selinux/policy > /sys/fs/selinux/load",
    "become init": "echo system_u:system_r:init_t > /proc/self/attr/current",
    "have the kernel start a program": "echo /tmp/x > /proc/sys/kernel/modprobe",
    "have a crash start a program": "echo '|/tmp/x' > /proc/sys/kernel/core_pattern",
    "read physical memory": "busybox dd if=/dev/mem of=/dev/null bs=1 count=1",
    "read the kernel's memory": "busybox dd if=/proc/kcore of=/dev/null bs=1 count=1",
    "write into init's memory": "busybox dd if=/dev/zero of=/proc/1/mem bs=1 count=1",
    "make a device of its own": "busybox mknod /tmp/mem c 1 1",
    "make a place for programs": "busybox mount -o remount,exec /tmp",
    "mount over a program": "busybox mount -t tmpfs tmpfs /usr/bin",
    "restart the machine": "echo b > /proc/sysrq-trigger",
    "allow modules again": "echo 0 > /proc/sys/kernel/modules_disabled",
}
"""What is tried, to the command that tries it."""

DENIED = "avc:  denied"
NO_MODULES = "Failed to initialize kmod context"
"""systemd would load modules; there is no library for that in the image, and the kernel would take none."""

EVERYTHING = [*PRODUCTION, *DEBUG]
COMPILERS = [run for run in EVERYTHING if run.guest == "distcc_node"]

every_guest = pytest.mark.parametrize("guest", EVERYTHING, indirect=True, ids=str)
compiler_guests = pytest.mark.parametrize("guest", COMPILERS, indirect=True, ids=str)
production_guests = pytest.mark.parametrize("guest", PRODUCTION, indirect=True, ids=str)
debug_guests = pytest.mark.parametrize("guest", DEBUG, indirect=True, ids=str)


def run_of(guest: Guest) -> Run:
    """Return what ``guest`` was started as."""
    return next(run for run in EVERYTHING if str(run) == guest.domain.name)


def compiled(dom0: XenHost, source: str, *options: str) -> dict[str, Any]:
    """Return the answer of the running guest's distccd, asked from dom0 over the guest's own network card."""
    dom0.run("cat > /run/distcc_client.py", stdin=CLIENT.read_bytes())
    place = [ADDRESS, str(DISTCC_PORT), str(JOB_TIMEOUT_S)]
    job = ["gcc", *options, "-c", "answer.i", "-o", "answer.o"]
    argv = ["python3.13", "-I", "/run/distcc_client.py", *place, *job]
    return dict(json.loads(dom0.run(shlex.join(argv), stdin=source.encode(), timeout_s=2 * JOB_TIMEOUT_S)))


@every_guest
def test_network(guest: Guest) -> None:
    guest.wait_for_network(NETWORK_LIMIT_S)


@compiler_guests
def test_compile_job(dom0: XenHost, guest: Guest) -> None:
    answer = compiled(dom0, SOURCE, "-O2", "-fcf-protection=none")
    assert answer["status"] == 0, answer["messages"]
    made = base64.b64decode(answer["object"])
    assert "vouch_answer" in elf.symbols(made)
    assert elf.sections(made)[".text"] == RETURN_42


@compiler_guests
def test_compile_job_that_cannot_succeed(dom0: XenHost, guest: Guest) -> None:
    answer = compiled(dom0, "int vouch_answer(void) { return nothing; }\n")
    assert answer["status"] != 0
    assert "undeclared" in answer["messages"]
    assert answer["object"] == ""


@every_guest
def test_nothing_was_denied(guest: Guest) -> None:
    """From the first line of the kernel until it was ready, got an address and did its jobs."""
    assert [line for line in guest.console.splitlines() if DENIED in line] == []


@every_guest
def test_nothing_failed(guest: Guest) -> None:
    said = [line for line in guest.console.splitlines() if "Failed" in line or "REFUSED" in line]
    assert [line for line in said if NO_MODULES not in line] == []


@production_guests
def test_nobody_can_log_in(guest: Guest) -> None:
    """Neither a prompt nor an echo: the debug guests show that typing would have reached a shell."""
    before = len(guest.console)
    guest.type("\n\nroot\nbusybox id\nid\n")
    assert not guest.shows_within("uid=0(root)", 15)
    # The kernel may say something at any time.
    answered = guest.console[before:]
    assert [sign for sign in ("root", "busybox", "login", "#", "$ ") if sign in answered] == [], answered


@debug_guests
def test_shell_of_the_debug_guest(guest: Guest) -> None:
    answer = guest.run("busybox id -u; busybox cat /proc/self/attr/current; busybox false")
    assert answer.rc == 1
    assert answer.output.replace("\0", "\n").split() == ["0", "system_u:system_r:debug_t"]


@debug_guests
def test_enforcing(guest: Guest) -> None:
    assert guest.output_of("busybox cat /sys/fs/selinux/enforce") == "1"
    assert guest.output_of("busybox cat /sys/fs/selinux/deny_unknown") == "1"


@debug_guests
def test_approved_policy_in_ima(guest: Guest) -> None:
    (entry,) = [fields for fields in ima_entries(guest) if fields[4] == "selinux-policy-hash"]
    assert entry[2] == "ima-buf"
    assert entry[5] == run_of(guest).package.policy.sha256.hex()


@debug_guests
def test_kernel_gives_the_policy_back(guest: Guest) -> None:
    digest = guest.output_of("busybox sha256sum /sys/fs/selinux/policy").split()[0]
    assert digest == run_of(guest).package.policy.sha256.hex()


@debug_guests
def test_state_of_selinux_in_ima(guest: Guest) -> None:
    states = [bytes.fromhex(fields[5]).decode() for fields in ima_entries(guest) if fields[4] == "selinux-state"]
    assert "initialized=1;enforcing=1;" in states[-1]


@debug_guests
def test_root_is_under_verity(guest: Guest) -> None:
    kind, options = mounts(guest)["/"]
    assert kind == "erofs"
    assert "ro" in options
    assert guest.output_of("busybox cat /sys/block/dm-0/dm/name /sys/block/dm-0/ro").split() == ["vouch-root", "1"]
    assert guest.output_of("busybox ls /sys/block/dm-0/slaves").split() == ["xvda"]


@debug_guests
def test_tree_of_the_root_is_the_packaged_one(guest: Guest) -> None:
    """The kernel measured the table of each device-mapper device it was given."""
    (entry,) = [fields for fields in ima_entries(guest) if fields[4] == "dm_table_load"]
    table = bytes.fromhex(entry[5]).decode()
    verity = run_of(guest).package.verity
    for wanted in (
        "name=vouch-root,",
        "num_targets=1;",
        "target_name=verity,",
        f"root_digest={verity.root_hash.hex()},",
        f"salt={verity.salt.hex()},",
        "verity_mode=panic_on_corruption;",
    ):
        assert wanted in table


@debug_guests
def test_kernel_takes_nothing_any_more(guest: Guest) -> None:
    settings = ("modules_disabled", "kexec_load_disabled")
    assert guest.output_of(f"cd /proc/sys/kernel && busybox cat {' '.join(settings)}").split() == ["1", "1"]
    assert "[integrity]" in guest.output_of("busybox cat /sys/kernel/security/lockdown")


@debug_guests
def test_every_writable_mount_is_noexec(guest: Guest) -> None:
    writable = {place: options for place, (_, options) in mounts(guest).items() if "rw" in options}
    assert {place for place, options in writable.items() if not {"noexec", "nosuid"} <= options} == set()
    assert {"/run", "/tmp", "/dev", "/dev/shm"} <= set(writable)


@debug_guests
def test_nothing_that_was_written_runs(guest: Guest) -> None:
    """Either it cannot be written there or it cannot be run there; the control shows that the copy itself is good."""
    places = sorted(place for place, (kind, options) in mounts(guest).items() if kind in DISKS and "rw" in options)
    said = guest.output_of(f"for place in {shlex.join([*places, '/var/tmp', '/'])}; do {TRY} done")
    outcomes = dict(line.split("=") for line in said.splitlines() if "=" in line)
    assert set(outcomes) == {*places, "/var/tmp", "/"}
    assert {place for place, outcome in outcomes.items() if outcome == "ran"} == set()
    assert outcomes["/tmp"] == "not-run"
    assert guest.output_of("/usr/bin/busybox echo control") == "control\n"


@debug_guests
def test_root_inside_gets_nowhere(guest: Guest) -> None:
    """What somebody who is root in a guest tries first. Policy or lockdown refuses each, whatever the shell may do."""
    got = [what for what, command in ATTEMPTS.items() if guest.run(f"( {command} ) 2>&1").rc == 0]
    assert got == []
    assert guest.output_of("busybox cat /sys/fs/selinux/enforce") == "1"


def mounts(guest: Guest) -> dict[str, tuple[str, set[str]]]:
    """Return place to type and options, the last mount of a place winning."""
    lines = (line.split() for line in guest.output_of("busybox cat /proc/mounts").splitlines())
    return {fields[1]: (fields[2], set(fields[3].split(","))) for fields in lines}


def ima_entries(guest: Guest) -> list[list[str]]:
    """Return the fields of the measurements."""
    text = guest.output_of("busybox cat /sys/kernel/security/ima/ascii_runtime_measurements")
    return [line.split() for line in text.splitlines()]

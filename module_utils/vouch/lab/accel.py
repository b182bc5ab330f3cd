# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accelerator QEMU can use on this machine, from what the kernel says about the processor.

A ``/dev/kvm`` that can be opened is not enough: inside some virtual machines the node exists although the processor
offers no virtualisation, and QEMU fails on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import UsageError

REQUESTS = ("auto", "kvm", "tcg")

DEFAULT_TRANSLATION_CACHE_MB = 512
"""Room for translated code. A boot that outgrows it throws all of it away and starts again."""

TCG_CPU = "max,-smap,-smep,-xsave"
"""With SMAP a dom0 kernel dies at its first page fault under the TCG of QEMU 7.2; with XSAVE a PVH guest does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """How QEMU runs guest code."""

    name: str
    accel: str
    cpu: str


def kvm_usable(cpuinfo: str, device: str = "/dev/kvm") -> bool:
    """Return whether the processor flags show vmx or svm and ``device`` can be opened.

    Args:
        cpuinfo: Content of ``/proc/cpuinfo``.
        device: Path of the device node.
    """
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            flags.update(value.split())
    return bool(flags & {"vmx", "svm"}) and os.access(device, os.R_OK | os.W_OK)


def choose(requested: str, *, kvm: bool, translation_cache_mb: int = DEFAULT_TRANSLATION_CACHE_MB) -> Accelerator:
    """Return the accelerator for a request of ``auto``, ``kvm`` or ``tcg``.

    Args:
        requested: What the user asked for.
        kvm: Result of ``kvm_usable``.
        translation_cache_mb: TCG only.

    Raises:
        UsageError: an unknown request, or ``kvm`` where it cannot work (``lab.kvm``).
    """
    if requested not in REQUESTS:
        raise UsageError(f"accelerator {requested!r} is none of {', '.join(REQUESTS)}", code="lab.accelerator")
    if requested == "kvm" and not kvm:
        raise UsageError(
            "accelerator kvm: /proc/cpuinfo shows neither vmx nor svm, or /dev/kvm cannot be opened",
            code="lab.kvm",
            hint="Use auto or tcg, or enable nested virtualisation",
        )
    if kvm and requested != "tcg":
        return Accelerator(name="kvm", accel="kvm", cpu="host")
    return Accelerator(name="tcg", accel=f"tcg,thread=multi,tb-size={translation_cache_mb}", cpu=TCG_CPU)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The initrd of dom0: busybox, dmsetup, some kernel modules and one script.

==================================== ======================================================
``init``                             the script; the kernel runs it
``bin/busybox``, ``bin/dmsetup``     the programs
``usr/lib/...``                      libraries of dmsetup, at the paths they have on Debian
``lib/modules/VERSION/``             modules, not compressed, and depmod's text files
``etc/modules``                      names of modules that are loaded in any case
==================================== ======================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import UsageError
from .cpio import CpioEntry, directory, regular, symlink, with_parents

MOUNT_POINTS = ("dev", "proc", "sys", "root", "tmp")


def initrd_entries(
    *,
    script: bytes,
    programs: Mapping[str, bytes],
    libraries: Mapping[str, bytes],
    modules: Mapping[str, bytes],
    load_always: Iterable[str],
) -> list[CpioEntry]:
    """Return the archive's entries.

    Args:
        script: Content of ``/init``.
        programs: Name in ``/bin`` to content.
        libraries: Relative path below ``usr`` to content.
        modules: Relative path (``lib/modules/...``) to content.
        load_always: Names of modules.

    Raises:
        UsageError: no script, or a program that the script cannot do without is missing.
    """
    if not script.startswith(b"#!/bin/busybox sh\n") or "busybox" not in programs:
        raise UsageError("the initrd's script is run by its busybox", code="image.initrd")
    entries = [directory(name) for name in MOUNT_POINTS]
    entries.append(regular("init", script, 0o755))
    entries += [regular(f"bin/{name}", data, 0o755) for name, data in programs.items()]
    entries += [regular(path, data, 0o755) for path, data in libraries.items()]
    entries += [symlink("lib64", "usr/lib64"), symlink("lib/x86_64-linux-gnu", "../usr/lib/x86_64-linux-gnu")]
    entries += [regular(path, data) for path, data in modules.items()]
    entries.append(regular("etc/modules", "".join(f"{name}\n" for name in load_always).encode()))
    return with_parents(entries)

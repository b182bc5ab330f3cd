# SPDX-License-Identifier: GPL-3.0-or-later
"""The initrd holds what its script needs, at the paths where it looks."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.cpio import write_newc
from ansible.module_utils.vouch.make.initrd import initrd_entries

SCRIPT = b"#!/bin/busybox sh\nexit 0\n"


def build(script: bytes = SCRIPT, programs: dict[str, bytes] | None = None) -> dict[str, object]:
    entries = initrd_entries(
        script=script,
        programs={"busybox": b"B", "dmsetup": b"D"} if programs is None else programs,
        libraries={"usr/lib/x86_64-linux-gnu/libc.so.6": b"L", "usr/lib64/ld-linux-x86-64.so.2": b"I"},
        modules={"lib/modules/6.12/kernel/erofs.ko": b"M", "lib/modules/6.12/modules.dep": b""},
        load_always=["erofs", "dm_verity"],
    )
    assert write_newc(entries) == write_newc(reversed(entries))
    return {entry.path: entry for entry in entries}


def test_content() -> None:
    entries = build()
    assert {"init", "bin/busybox", "bin/dmsetup", "lib64", "dev", "proc", "sys", "root"} <= set(entries)
    assert entries["etc/modules"].data == b"erofs\ndm_verity\n"  # type: ignore[attr-defined]
    assert entries["init"].mode & 0o111  # type: ignore[attr-defined]
    assert entries["lib64"].data == b"usr/lib64"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("script", "programs"),
    [(b"#!/bin/sh\n", None), (b"", None), (SCRIPT, {"dmsetup": b"D"})],
    ids=["other shell", "empty", "no busybox"],
)
def test_a_script_that_cannot_run_is_refused(script: bytes, programs: dict[str, bytes] | None) -> None:
    with pytest.raises(UsageError) as caught:
        build(script, programs)
    assert caught.value.code == "image.initrd"

# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xen says of a domain, from bytes as the hypervisor lays them out; the hypercalls are for the scenario on Xen."""

from __future__ import annotations

import struct

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.port.domains import MARK, new_uuid, uuid_text
from ansible.module_utils.vouch.port.xencontrol import CRASH, DOMAIN_INFO_BYTES, XenControl, _domain


def raw(domain: int, flags: int, uuid: bytes, pages: int) -> bytes:
    head = struct.pack("<HHIQ", domain, 0, flags, pages).ljust(56, b"\0") + struct.pack("<Q", 1500)
    return head.ljust(76, b"\0") + uuid + bytes(DOMAIN_INFO_BYTES - 92)


def test_flags_number_and_uuid() -> None:
    uuid = new_uuid()
    info = _domain(raw(7, 1 << 3, uuid, 512))
    assert (info.domain_id, info.uuid, info.paused, info.dying, info.reason) == (7, uuid, True, False, -1)
    assert (info.memory_bytes, info.ran_ns) == (512 * 4096, 1500)
    crashed = _domain(raw(8, 1 << 2 | CRASH << 16, uuid, 0))
    assert (crashed.paused, crashed.reason) == (False, CRASH)
    assert _domain(raw(9, 1, uuid, 0)).dying is True


def test_a_uuid_of_ours_is_marked_and_new_each_time() -> None:
    first, second = new_uuid(), new_uuid()
    assert first != second
    assert first.startswith(MARK)
    assert len(first) == 16
    assert uuid_text(bytes(range(16))) == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_a_machine_without_the_library_says_so() -> None:
    with pytest.raises(UnreachableError) as caught:
        XenControl("libxenctrl.so.0").domains()
    assert caught.value.code == "xen.absent"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's own measurement list (IMA), read from outside: it grows, and nothing in it is ever another.

The guest has no TPM that would hold it. But its kernel is checked from outside, so what that kernel measured is
believed, and our own chain over the list, kept here, makes it impossible to cut or to change what was seen once:
``head = SHA-256(head || SHA-256(template data))`` from 32 zero bytes, over the list in its order.

Source: Linux 6.12, security/integrity/ima/ima.h, ima_queue.c; Documentation/security/IMA-templates.rst.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from ..model.finding import Finding
from .kernel import Kernel
from .memory import GuestMemoryError

SOURCE = "docs/introspection.md, measurements"
MAX_ENTRIES = 65_536
MAX_FIELDS = 16
MAX_FIELD_BYTES = 1 << 20
EMPTY_HEAD = bytes(32)
_POLICY_NAME = b"selinux-policy-hash"
_STATE_NAME = b"selinux-state"
_NOT_ENFORCING = b"enforcing=0;"


class Measurements:
    """The list of one guest.

    Args:
        policy_sha256: Of the approved policy: every policy that the kernel measured must be it.
    """

    __slots__ = ("_policy", "count", "head")

    def __init__(self, policy_sha256: bytes) -> None:
        self._policy = policy_sha256
        self.count = 0
        self.head = EMPTY_HEAD

    def check(self, kernel: Kernel) -> Iterator[Finding]:
        """Yield findings on the list, and take what is new; the guest stands still.

        Raises:
            GuestMemoryError: the list cannot be read.
        """
        head, count, old = EMPTY_HEAD, 0, self.count
        findings: list[Finding] = []
        listed = kernel.entries(kernel.symbol("ima_measurements"), "ima_queue_entry.later", limit=MAX_ENTRIES)
        for item in listed:
            if count == old and head != self.head:
                yield _finding("guest.ima.changed", self.head.hex(), head.hex())
                return
            fields = list(_fields(kernel, kernel.pointer(item, "ima_queue_entry.entry")))
            data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
            head = hashlib.sha256(head + hashlib.sha256(data).digest()).digest()
            count += 1
            if count > old:
                findings += self._judge(fields)
        length = kernel.value(kernel.symbol("ima_htable"), "ima_h_table.len")
        if count < old or count != length:
            yield _finding("guest.ima.cut", f"{max(old, length)} entries", f"{count}")
            return
        if count == old and head != self.head:
            yield _finding("guest.ima.changed", self.head.hex(), head.hex())
            return
        self.count, self.head = count, head
        yield from findings

    def _judge(self, fields: list[bytes]) -> Iterator[Finding]:
        """Yield what a new entry says against the guest: another policy, or a time without enforcement."""
        if len(fields) < 3:
            return
        name = fields[1].rstrip(b"\0")
        if name == _POLICY_NAME and fields[2] != self._policy:
            yield _finding("guest.ima.policy", self._policy.hex(), fields[2].hex())
        if name == _STATE_NAME and b"initialized=1;" in fields[2] and _NOT_ENFORCING in fields[2]:
            yield _finding(
                "guest.ima.state", "enforcing=1 whenever a policy is in force", fields[2].decode("ascii", "replace")
            )


def _fields(kernel: Kernel, entry: int) -> Iterator[bytes]:
    """Yield the fields of an entry's template data."""
    count = kernel.value(kernel.pointer(entry, "ima_template_entry.template_desc"), "ima_template_desc.num_fields")
    if not 1 <= count <= MAX_FIELDS:
        raise GuestMemoryError(f"a measurement with {count} fields", code="guest.memory.limit")
    first, size = kernel.place(entry, "ima_template_entry.template_data"), kernel.profile.sizes["ima_field_data"]
    for number in range(count):
        field = first + number * size
        length = kernel.value(field, "ima_field_data.len")
        if length > MAX_FIELD_BYTES:
            raise GuestMemoryError(f"a measurement with a field of {length} bytes", code="guest.memory.limit")
        yield kernel.space.read(kernel.pointer(field, "ima_field_data.data"), length) if length else b""


def _finding(code: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, "measurement list", expected, actual, source=SOURCE)

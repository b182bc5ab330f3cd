# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the kernel over netlink that are answered with an acknowledgement.

    nlmsghdr   length u32, type u16, flags u16, sequence u32, port u32; the machine's byte order
    answer     the same with type NLMSG_ERROR, then an errno, negative, or 0 for success

Source: netlink(7); linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from ..errors import UnreachableError

REQUEST, ACK, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
NLMSG_ERROR = 2
HEADER = struct.Struct("=IHHII")
TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024


class Netlink:
    """One socket of one netlink family.

    Args:
        family: ``NETLINK_ROUTE`` or ``NETLINK_XFRM``.

    Raises:
        UnreachableError: ``netlink.answer`` when the kernel cannot be asked or its answer is none, ``netlink.refused``
            with the kernel's reason, ``netlink.nothing`` for something that is not there.
    """

    def __init__(self, family: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        except OSError as error:
            raise UnreachableError(f"the kernel cannot be asked: {error}", code="netlink.answer") from None
        self._socket.settimeout(TIMEOUT_S)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, kind: int, flags: int, body: bytes) -> None:
        """Send one request; returns when the kernel did it."""
        self._sequence += 1
        message = HEADER.pack(HEADER.size + len(body), kind, REQUEST | ACK | flags, self._sequence, 0) + body
        try:
            self._socket.sendto(message, (0, 0))
            answer = self._socket.recv(MAX_ANSWER_BYTES)
        except OSError as error:
            raise UnreachableError(f"the kernel cannot be asked: {error}", code="netlink.answer") from None
        failed = read_error(answer, self._sequence)
        if failed:
            name = errno.errorcode.get(failed, str(failed))
            code = "netlink.nothing" if failed == errno.ESRCH else "netlink.refused"
            raise UnreachableError(f"the kernel refused: {name}, {os.strerror(failed)}", code=code)


def read_error(answer: bytes, sequence: int) -> int:
    """Return the errno of an acknowledgement, 0 for success.

    Raises:
        UnreachableError: ``netlink.answer``.
    """
    if len(answer) >= HEADER.size + 4:
        length, kind, _, answered, _ = HEADER.unpack_from(answer)
        if kind == NLMSG_ERROR and answered == sequence and length <= len(answer):
            return -int(struct.unpack_from("=i", answer, HEADER.size)[0])
    raise UnreachableError("the kernel's answer is no acknowledgement", code="netlink.answer")

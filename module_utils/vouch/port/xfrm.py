# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's IPsec state, forgotten: what a charon that died left behind would go on working without it.

Source: linux/xfrm.h (XFRM_MSG_FLUSHSA, XFRM_MSG_FLUSHPOLICY, struct xfrm_usersa_flush).
"""

from __future__ import annotations

from ..errors import UnreachableError
from .netlink import Netlink

NETLINK_XFRM = 6
FLUSH_STATES, FLUSH_POLICIES = 0x1C, 0x1D
_ANY_PROTOCOL = b"\xff"
"""IPSEC_PROTO_ANY."""


def forget_ipsec() -> None:
    """Remove every IPsec state and policy of this machine's own network namespace.

    Raises:
        UnreachableError: as ``port.netlink.Netlink``, but for ``netlink.nothing``: that is what was wanted.
    """
    with Netlink(NETLINK_XFRM) as kernel:
        for kind, body in ((FLUSH_STATES, _ANY_PROTOCOL), (FLUSH_POLICIES, b"")):
            try:
                kernel.ask(kind, 0, body)
            except UnreachableError as error:
                if error.code != "netlink.nothing":
                    raise

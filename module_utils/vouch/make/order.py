# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed orders: what an application authority sends to a host.

>>> key = generate_private_key()
>>> envelope = sign_guest_order(GuestOrder("stop", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "g1", bytes(32)), key)
"""

from __future__ import annotations

from ..errors import ParseError, UsageError
from ..model import hostorder
from ..model.hostorder import HostOrder
from ..model.order import PAYLOAD_TYPE, GuestOrder
from .sign import PrivateKey, generate_private_key, sign_envelope

__all__ = ["generate_private_key", "sign_guest_order", "sign_host_order"]


def sign_guest_order(order: GuestOrder, private_key: PrivateKey) -> bytes:
    """Return the envelope that the request ``guest.order`` carries.

    Args:
        order: What to do; its challenge is the one that the host just gave.
        private_key: Key of the application authority: one of those in the host's image.

    Raises:
        UsageError: ``order.inputs`` when no host would read it.
    """
    payload = order.to_bytes()
    try:
        GuestOrder.from_bytes(payload)
    except ParseError as error:
        raise UsageError(f"no host would read this order: {error}", code="order.inputs") from None
    return sign_envelope(PAYLOAD_TYPE, payload, private_key)


def sign_host_order(order: HostOrder, private_key: PrivateKey) -> bytes:
    """Return the envelope that the request ``host.order`` carries; arguments and errors are as above."""
    payload = order.to_bytes()
    try:
        HostOrder.from_bytes(payload)
    except ParseError as error:
        raise UsageError(f"no host would read this order: {error}", code="order.inputs") from None
    return sign_envelope(hostorder.PAYLOAD_TYPE, payload, private_key)

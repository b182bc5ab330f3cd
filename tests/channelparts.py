# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that has a card, for tests of channels on the host."""

from __future__ import annotations

from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.guestaddress import address_of, derived_mac
from ansible.module_utils.vouch.model.gueststate import GuestChannel, GuestRecord
from ansible.module_utils.vouch.model.key import ECDSA_P256

HOST_ID = "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11"
NOW_S = 1_790_000_000
KEY = public_key(generate_private_key(ECDSA_P256)).spki
ADDRESS = address_of(HOST_ID, derived_mac(HOST_ID, "web"))
RECORD = GuestRecord(
    *("web", "base", "production", 7, "pv", bytes(32), bytes(32), bytes(32), "running", "running", "holds"),
    counter=5,
    channel=GuestChannel(address=ADDRESS),
)

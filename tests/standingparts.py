# SPDX-License-Identifier: GPL-3.0-or-later
"""Standings, keys and stores for tests of the fleet."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.vouch.make.seal import seal_standings
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import SealedStanding, Standing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NOW_S = 1_800_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
"""The same in every process of a test."""

PUBLIC = public_key(KEY)
OTHER_KEY = generate_private_key("ecdsa-p256-sha256")


def host_id(number: int) -> str:
    """Return the id of the host with that number."""
    return str(uuid.UUID(int=number))


def standing(number: int = 1, guest: str = "", **changes: Any) -> Standing:
    """Return an affirming standing of host ``h<number>`` or one of its guests."""
    return Standing(
        host_id=host_id(number),
        name=f"h{number}",
        guest=guest,
        verdict=Verdict.AFFIRMING,
        stage="done",
        reasons=(),
        image="ab" * 32,
        issued_at_s=NOW_S,
        expires_at_s=NOW_S + 600,
        result="cd" * 32,
    )._replace(**changes)


def sealed(*standings: Standing, key: Any = KEY) -> Sequence[SealedStanding]:
    """Return standings under one seal of ``key``."""
    return seal_standings(standings, key, sealed_at_s=NOW_S)

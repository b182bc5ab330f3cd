# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealing: one signature over many standings. ``check.seal`` is the other half."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.merkle import levels, path_in
from ..model.standing import SEAL_PAYLOAD_TYPE, Seal, SealedStanding, Standing, standing_leaf
from .sign import PrivateKey, sign_envelope


def seal_standings(
    standings: Sequence[Standing], private_key: PrivateKey, *, sealed_at_s: int
) -> tuple[SealedStanding, ...]:
    """Return ``standings`` under one signature, in their order.

    Args:
        standings: 1 to ``merkle.MAX_LEAVES``.
        private_key: The appraiser's.
        sealed_at_s: Unix seconds.

    Raises:
        UsageError: ``merkle.size`` for none or too many.
    """
    written = [standing.to_bytes() for standing in standings]
    tree = levels([standing_leaf(data) for data in written])
    seal = Seal(root=tree[-1][0], size=len(written), sealed_at_s=sealed_at_s)
    envelope = sign_envelope(SEAL_PAYLOAD_TYPE, seal.to_bytes(), private_key)
    return tuple(
        SealedStanding(standing=data, seal=envelope, place=index, path=b"".join(path_in(tree, index)))
        for index, data in enumerate(written)
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""From a play's words to a wish: the release is believed only after its signature was checked here, on the machine."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Sequence

from ..check.signature import verify_release
from ..errors import UsageError
from ..model.key import PublicKey
from .slot import SlotWish


def read_wish(*, host_id: str, slot: str, release: str, release_keys: Sequence[str], wipe: bool = False) -> SlotWish:
    """Return what a slot shall hold.

    Args:
        host_id: UUID text.
        slot: ``a`` or ``b``.
        release: The signed release file, base64.
        release_keys: Public keys (PEM) of which one must have signed it.
        wipe: Data on the disk may go.

    Raises:
        UsageError: for a UUID or base64 that is none.
        EvidenceError: the release is malformed or not signed by one of the keys.
        ParseError: a key is malformed.
    """
    try:
        data = base64.b64decode(release, validate=True)
        identifier = uuid.UUID(host_id)
    except (ValueError, binascii.Error) as error:
        raise UsageError(f"host id or release is malformed: {error}") from None
    verified = verify_release(data, [PublicKey.from_pem(pem) for pem in release_keys])
    return SlotWish(host_id=identifier, slot=slot, release=verified.release, release_id=verified.release_id, wipe=wipe)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The statement about a guest's last state; its digest and the counter stand in ``guest.stop``, so under the quote.

    type      "urn:vouch:shutdown-statement:1"
    host_id   uuid of the host
    guest     id of the guest
    counter   the host's monotonic counter at the stop
    record    what was last known of the guest (``model.gueststate``), or null

Source: docs/proof.md, "Shutdown proof".
"""

from __future__ import annotations

import hashlib

from ..parse.canonical import dump_canonical
from .gueststate import GuestRecord

STATEMENT_TYPE = "urn:vouch:shutdown-statement:1"


def shutdown_statement(host_id: str, guest: str, record: GuestRecord | None, counter: int) -> bytes:
    """Return the statement's canonical JSON."""
    return dump_canonical(
        {
            "type": STATEMENT_TYPE,
            "host_id": host_id,
            "guest": guest,
            "counter": counter,
            "record": None if record is None else record.to_json(),
        }
    )


def shutdown_state(host_id: str, guest: str, record: GuestRecord | None, counter: int) -> bytes:
    """Return the digest that ``guest.stop`` carries."""
    return hashlib.sha256(shutdown_statement(host_id, guest, record, counter)).digest()

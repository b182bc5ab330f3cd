# SPDX-License-Identifier: GPL-3.0-or-later
"""What the appraiser knew by itself when it judged: ``context.json`` of an evidence bundle.

::

    {"host_id":uuid, "now":int}                                                    no evidence arrived
    {"host_id":uuid, "now":int, "nonce":hex, "channel_key":str, "asked_at":int}    it did
"""

from __future__ import annotations

from dataclasses import dataclass

from ..parse.canonical import load_canonical
from ..parse.fields import Fields
from .key import check_ssh_host_key
from .merkle import NONCE_BYTES

MAX_CONTEXT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request.

    Attributes:
        nonce: What the host was asked with.
        channel_key: SSH host key of the connection that the answer came through.
        asked_at_s: When the nonce was made, Unix seconds.
    """

    nonce: bytes
    channel_key: str
    asked_at_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContext:
    """The circumstances of one appraisal.

    Attributes:
        host_id: Which host was asked.
        now_s: When it was judged, Unix seconds.
        asked: The request that was answered; None when no evidence arrived.
    """

    host_id: str
    now_s: int
    asked: Asked | None

    @classmethod
    def from_bytes(cls, data: bytes) -> BundleContext:
        """Return the context of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.
        """
        fields = Fields(load_canonical(data, limit_bytes=MAX_CONTEXT_BYTES), "context")
        host_id, now_s = fields.uuid("host_id"), fields.integer("now")
        asked = None
        if any(fields.has(name) for name in ("nonce", "channel_key", "asked_at")):
            asked = Asked(
                nonce=fields.hex("nonce", NONCE_BYTES),
                channel_key=check_ssh_host_key(fields.text("channel_key")),
                asked_at_s=fields.integer("asked_at", maximum=now_s),
            )
        fields.done()
        return cls(host_id=host_id, now_s=now_s, asked=asked)

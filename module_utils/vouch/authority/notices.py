# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices of hosts that a guest's channel is over: whose word they are, and those that come too early.

A notice counts when the key that issued a peer's certificate signed it. For a peer that is only being judged that key
is not known yet; so notices that fit nobody are kept for as long as somebody is, and looked at again then.
"""

from __future__ import annotations

from collections import deque

from ..appraise.peer import AcceptedPeer
from ..check.signature import verify_signature
from ..errors import EvidenceError, ParseError
from ..model.digest import sha256
from ..model.key import PublicKey
from ..model.revocation import RENEWED, Revocation

MAX_EARLY = 32
"""Who sends more of them than that pushes others out; then the peer's next question, soon, shows the same."""


def notice_about(notice: bytes, signature: bytes, peer: AcceptedPeer) -> Revocation | None:
    """Return what a notice says when it is the word of that peer's host about the certificate that it has now.

    Args:
        notice: As it came.
        signature: ECDSA with SHA-256 over it, DER.
        peer: As it was accepted.
    """
    try:
        verify_signature(PublicKey.from_der(peer.channel_authority), notice, signature, subject="revocation")
        said = Revocation.from_bytes(notice)
    except (EvidenceError, ParseError):
        return None
    meant = (said.host_id, said.guest, said.certificate) == (peer.host_id, peer.guest, sha256(peer.certificate))
    return said if meant else None


class EarlyNotices:
    """Notices that fit nobody yet."""

    def __init__(self) -> None:
        self._kept: deque[tuple[bytes, bytes]] = deque(maxlen=MAX_EARLY)

    def keep(self, notice: bytes, signature: bytes) -> None:
        """Keep one."""
        self._kept.append((notice, signature))

    def clear(self) -> None:
        """Forget all: nobody is being judged any more."""
        self._kept.clear()

    def end(self, peer: AcceptedPeer) -> bool:
        """Say whether one of them ends what was just accepted."""
        found = (notice_about(*kept, peer) for kept in self._kept)
        return any(said is not None and said.reason != RENEWED for said in found)

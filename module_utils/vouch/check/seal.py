# SPDX-License-Identifier: GPL-3.0-or-later
"""Who wrote a standing: its path leads to a root that one of the given keys signed.

Source: docs/store.md, "What is signed"; RFC 9162, 2.1.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EvidenceError, ParseError, UsageError
from ..model.finding import deny
from ..model.key import PublicKey
from ..model.merkle import HASH_BYTES, root_from_path
from ..model.standing import SEAL_PAYLOAD_TYPE, Seal, SealedStanding, Standing, standing_leaf
from .opened import open_with
from .signature import verify_signature


class SealReader:
    """Verifies standings of one store; each seal's signature is verified once.

    Args:
        keys: Public keys of the appraisers that are believed; never empty.

    Raises:
        UsageError: ``key.none``.
    """

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        if not keys:
            raise UsageError("no key of an appraiser is given", code="key.none")
        self._keys = tuple(keys)
        self._seals: dict[bytes, Seal] = {}

    def verify(self, sealed: SealedStanding) -> Standing:
        """Return the standing when one of the keys sealed exactly these bytes.

        Raises:
            EvidenceError: ``seal.signature``, ``seal.malformed``, ``seal.path`` or ``seal.standing``.
        """
        seal = self._seal(sealed.seal)
        path = sealed.path
        nodes = [path[at : at + HASH_BYTES] for at in range(0, len(path), HASH_BYTES)]
        try:
            root = root_from_path(standing_leaf(sealed.standing), sealed.place, seal.size, nodes)
        except UsageError as error:
            raise deny(
                "seal.path", "standing", expected="a path within the seal's tree", actual=error.message
            ) from None
        if root != seal.root:
            raise deny("seal.path", "standing", expected=seal.root, actual=root)
        try:
            return Standing.from_bytes(sealed.standing)
        except ParseError as error:
            raise deny("seal.standing", "standing", expected=error.field, actual=error.problem) from None

    def _seal(self, envelope: bytes) -> Seal:
        known = self._seals.get(envelope)
        if known is not None:
            return known
        try:
            verified = open_with(verify_signature, envelope, self._keys, "seal")
        except EvidenceError as error:
            raise deny("seal.signature", "seal", expected="a seal by a known appraiser", actual=error.code) from None
        if verified.payload_type != SEAL_PAYLOAD_TYPE:
            raise deny("seal.malformed", "seal", expected=SEAL_PAYLOAD_TYPE, actual=verified.payload_type)
        try:
            seal = Seal.from_bytes(verified.payload)
        except ParseError as error:
            raise deny("seal.malformed", "seal", expected=error.field, actual=error.problem) from None
        self._seals[envelope] = seal
        return seal

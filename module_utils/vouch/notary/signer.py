# SPDX-License-Identifier: GPL-3.0-or-later
"""The work key: made at start, in memory only, gone with the process."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..make.provenance import seal_statement
from ..model.key import PublicKey
from ..model.provenance import BuildStatement, JobStatement


class WorkSigner:
    """A fresh P-256 key that signs statements."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = PublicKey.from_der(
            self._key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def sign(self, message: bytes) -> bytes:
        """Return the ECDSA signature with SHA-256, DER."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def seal(self, statement: JobStatement | BuildStatement) -> bytes:
        """Return the signed statement (DSSE)."""
        return seal_statement(statement, keyid=self.public.keyid, sign=self.sign)

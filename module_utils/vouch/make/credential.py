# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed credentials of hosts: what an enrolment authority hands out."""

from __future__ import annotations

from ..errors import ParseError, UsageError
from ..model.credential import PAYLOAD_TYPE, HostCredential
from .sign import PrivateKey, sign_envelope


def sign_credential(credential: HostCredential, private_key: PrivateKey) -> bytes:
    """Return the envelope (DSSE).

    Args:
        credential: What is said of the host.
        private_key: Of the enrolment authority: a key that guest packages name (``hosts.enrolment_keys``).

    Raises:
        UsageError: ``credential.inputs`` when no guest would read it.
    """
    payload = credential.to_bytes()
    try:
        HostCredential.from_bytes(payload)
    except ParseError as error:
        raise UsageError(f"no guest would read this credential: {error}", code="credential.inputs") from None
    return sign_envelope(PAYLOAD_TYPE, payload, private_key)

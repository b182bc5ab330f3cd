# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed host releases, whatever verified their signature: the controller (``check.signature``) and dom0 alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ParseError
from ..model.finding import deny
from ..model.image import IN_TOTO_PAYLOAD_TYPE
from ..model.key import PublicKey
from ..model.release import HostRelease, release_id
from .opened import VerifySignature, open_with


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRelease:
    """A host release that an enrolled release key signed (made by ``verify_release_with`` only).

    Attributes:
        release_id: SHA-256 of the signed file.
        release: What it says.
        keyid: The key that signed it.
    """

    release_id: bytes
    release: HostRelease
    keyid: str


def verify_release_with(verify: VerifySignature, envelope: bytes, keys: Sequence[PublicKey]) -> VerifiedRelease:
    """Return the host release in a signed release file.

    1. The file is one DSSE envelope.
    2. An enrolled release key signed payload and type.
    3. The type is in-toto's, the payload a host release.

    Raises:
        EvidenceError: ``envelope.malformed``, ``envelope.signature.invalid``, ``envelope.type``, ``release.malformed``.
        UsageError: ``key.none``.
    """
    verified = open_with(verify, envelope, keys, "release")
    if verified.payload_type != IN_TOTO_PAYLOAD_TYPE:
        raise deny("envelope.type", "release", expected=IN_TOTO_PAYLOAD_TYPE, actual=verified.payload_type)
    try:
        release = HostRelease.from_bytes(verified.payload)
    except ParseError as error:
        raise deny("release.malformed", "release", actual=error) from None
    return VerifiedRelease(release_id=release_id(envelope), release=release, keyid=verified.keyid)

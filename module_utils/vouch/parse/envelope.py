# SPDX-License-Identifier: GPL-3.0-or-later
"""DSSE envelopes: a payload, its type, and signatures over both.

Layout, a JSON object:
    payload      base64   the signed bytes
    payloadType  text     what the bytes are; signed with them
    signatures   list     1 to MAX_SIGNATURES of {"sig": base64, "keyid": text, optional}

Source: secure-systems-lab/dsse, envelope.md and protocol.md, v1.0.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ParseError
from .canonical import load_json
from .fields import Fields

MAX_ENVELOPE_BYTES = 16 * 1024 * 1024
"""A host release with its package list is some 100 KiB."""

MAX_SIGNATURES = 16
MAX_SIGNATURE_BYTES = 1024
MAX_TYPE_CHARS = 256
MAX_KEYID_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeSignature:
    """One signature; ``keyid`` is a hint from outside, never a reason to trust."""

    keyid: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An envelope as received: nothing in it is verified. ``check.signature.verify_envelope`` makes it so."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]


def parse_envelope(data: bytes) -> Envelope:
    """Return the parts of a DSSE envelope.

    Raises:
        ParseError: for an unknown or missing member, no signature, an empty one, or bytes that are not base64.

    Trust: every part is an attacker's until one signature was verified with an enrolled key.
    """
    fields = Fields(load_json(data, limit_bytes=MAX_ENVELOPE_BYTES), "envelope")
    payload_type = fields.text("payloadType", maximum_chars=MAX_TYPE_CHARS)
    payload = fields.blob("payload", limit_bytes=MAX_ENVELOPE_BYTES, empty=True)
    signatures = []
    for item in fields.array("signatures", maximum=MAX_SIGNATURES):
        entry = Fields(item, "envelope.signatures")
        # The protocol's readers treat a missing, a null and an empty keyid alike: as no hint.
        keyid = ""
        if entry.has("keyid"):
            found = entry.take("keyid")
            if found is not None and (not isinstance(found, str) or len(found) > MAX_KEYID_CHARS):
                raise entry.fail("keyid", "is no short text", "parse.field.type")
            keyid = found or ""
        signatures.append(EnvelopeSignature(keyid=keyid, signature=entry.blob("sig", limit_bytes=MAX_SIGNATURE_BYTES)))
        entry.done()
    fields.done()
    if not signatures:
        raise ParseError("envelope.signatures", 0, "is empty: nobody signed", code="parse.envelope.unsigned")
    return Envelope(payload_type=payload_type, payload=payload, signatures=tuple(signatures))


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSEv1, lengths in decimal, type and payload.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)

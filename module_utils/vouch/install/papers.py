# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host shows to strangers, made on the controller and delivered: credential, releases, manifest, keys.

A second delivery of the same changes nothing: the credential that was issued last is kept by the controller, and used
for as long as it says the same and has half of its time left.

Source: docs/channels.md, "Papers".
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from ..check.signature import verify_envelope
from ..errors import EvidenceError, ParseError, UsageError
from ..make.credential import sign_credential
from ..make.sign import PrivateKey, public_key
from ..model.credential import HostCredential
from ..model.enrolment import Enrolment
from ..model.key import PublicKey
from ..parse.canonical import dump_canonical
from ..parse.envelope import parse_envelope
from ..parse.fields import encode_base64

CREDENTIAL, RELEASE, MANIFEST, KEYS, FORMER = "credential", "release", "manifest", "keys", "former"
MAX_KEYS = 16


class Host(Protocol):
    """What is asked of a host; ``port.hostclient.HostClient`` is the real form."""

    def papers(self) -> Mapping[str, str]:
        """Return the digest of each paper that is there, hex; "" for one that is not."""
        ...

    def put_paper(self, name: str, data: bytes) -> None:
        """Have the host keep a paper."""
        ...


class Delivery(NamedTuple):
    """What a delivery came to.

    Attributes:
        before: Digest of each paper on the host before.
        after: Digest of each paper that is meant to be there.
        sent: Names of those that were sent, or would be.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    sent: tuple[str, ...]


def credential_for(known: Enrolment, last: bytes, key: PrivateKey, *, now_s: int, life_s: int) -> bytes:
    """Return the credential of a host: ``last`` while it is good, else a fresh one.

    Args:
        known: What is recorded of the host.
        last: The signed credential that was issued before; b"" for none.
        key: Of the enrolment authority.
        now_s: Unix seconds.
        life_s: Seconds that a fresh one counts.

    Raises:
        UsageError: ``credential.unpinned`` for a host of which no evidence was accepted yet; ``credential.inputs``.
    """
    if known.unpinned:
        raise UsageError(
            f"no evidence of host {known.host_id} was accepted yet, so its registers are not all known",
            code="credential.unpinned",
            hint="attest the host first",
        )
    # Whoever judges by it begins with the whole measurement list.
    said = dataclasses.replace(known, ima=None)
    found = _read(last, key)
    if found is not None and _lasting(found.enrolment) == _lasting(said):
        left_s = found.expires_at_s - now_s
        if found.issued_at_s <= now_s and left_s > (found.expires_at_s - found.issued_at_s) // 2:
            return last
    return sign_credential(HostCredential(enrolment=said, issued_at_s=now_s, expires_at_s=now_s + life_s), key)


def keys_paper(keys: Iterable[PublicKey]) -> bytes:
    """Return the paper ``keys``: who signed the others, and packages of guests.

    Raises:
        UsageError: ``papers.keys`` for more than ``MAX_KEYS``.
    """
    found = sorted({key.spki for key in keys})
    if len(found) > MAX_KEYS:
        raise UsageError(f"{len(found)} keys; a host shows at most {MAX_KEYS}", code="papers.keys")
    return dump_canonical([encode_base64(spki) for spki in found])


def former_paper(releases: Iterable[bytes]) -> bytes:
    """Return the paper ``former``: signed releases that the host was installed with and updated from."""
    return dump_canonical([encode_base64(envelope) for envelope in sorted(set(releases))])


def deliver(host: Host, papers: Mapping[str, bytes], *, rehearse: bool = False) -> Delivery:
    """Have a host keep these papers; those that it has are not sent again.

    Raises:
        UnreachableError: as ``host``.
    """
    before = dict(host.papers())
    after = {name: hashlib.sha256(data).hexdigest() for name, data in papers.items()}
    sent = tuple(name for name in sorted(papers) if before.get(name) != after[name])
    for name in sent:
        if not rehearse:
            host.put_paper(name, papers[name])
    return Delivery(before=before, after={**before, **after}, sent=sent)


def _read(envelope: bytes, key: PrivateKey) -> HostCredential | None:
    """Return a credential that we signed, or None for anything else."""
    if not envelope:
        return None
    try:
        return HostCredential.from_bytes(verify_envelope(parse_envelope(envelope), [public_key(key)]).payload)
    except (EvidenceError, ParseError):
        return None


def _lasting(enrolment: Enrolment) -> Enrolment:
    """Return what does not change with each accepted evidence."""
    zero = dataclasses.replace(enrolment.counters, clock_ms=0, reset_count=0, restart_count=0)
    return dataclasses.replace(enrolment, counters=zero, ima=None, accepted_at_s=0)

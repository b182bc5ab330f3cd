# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements about work, signed, and the bundle that holds all that speaks for one build.

=========================  =================================================================
``bundle.json``            index (``parse.indexedtar``), type ``urn:vouch:provenance-bundle:1``
``chain.json``             signed statement about the build: files, objects, their statements
``statements/SHA256``      signed statement about each object's job
``keys/SHA256``            signed endorsement of each work key
``certificates/SHA256``    channel certificate behind each endorsement, DER
``acceptances/SHA256``     when, by what, and by whom each guest was accepted
``papers/SHA256``          what the acceptances name: evidence, credential, releases, package
=========================  =================================================================

Signing is the caller's: a work key lives in the memory of its guest. Needs nothing but Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import UsageError
from ..model.acceptance import PAPERS as PAPER_NAMES
from ..model.acceptance import Acceptance
from ..model.digest import sha256
from ..model.image import IN_TOTO_PAYLOAD_TYPE
from ..model.provenance import BuildStatement, JobStatement
from ..parse.canonical import dump_canonical
from ..parse.envelope import pae
from ..parse.fields import encode_base64
from ..parse.provenancebundle import (
    ACCEPTANCES,
    CERTIFICATES,
    CHAIN,
    KEYS,
    PAPERS,
    PROVENANCE_BUNDLE_TYPE,
    STATEMENTS,
    part_limit,
    part_name,
)
from .bundle import write_tar

Sign = Callable[[bytes], bytes]
"""Returns the signature over a message: ECDSA P-256 with SHA-256, DER."""


def seal(payload_type: str, payload: bytes, *, keyid: str, sign: Sign) -> bytes:
    """Return the DSSE envelope over ``payload``, as canonical JSON and a final newline."""
    signature = {"keyid": keyid, "sig": encode_base64(sign(pae(payload_type, payload)))}
    envelope = {"payload": encode_base64(payload), "payloadType": payload_type, "signatures": [signature]}
    return dump_canonical(envelope) + b"\n"


def seal_statement(statement: JobStatement | BuildStatement, *, keyid: str, sign: Sign) -> bytes:
    """Return a signed statement."""
    return seal(IN_TOTO_PAYLOAD_TYPE, statement.to_bytes(), keyid=keyid, sign=sign)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An acceptance with what it names.

    Attributes:
        acceptance: When and by whom.
        papers: Each paper by its name in ``model.acceptance.PAPERS``.
        certificate: The channel certificate, DER.
        former: Signed releases, in the order of the acceptance.

    Raises:
        UsageError: ``provenance.paper`` for another paper than the acceptance names.
    """

    acceptance: Acceptance
    papers: Mapping[str, bytes]
    certificate: bytes
    former: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        for name, paper in {**self.papers, "certificate": self.certificate}.items():
            if self.papers.keys() != set(PAPER_NAMES) or sha256(paper) != getattr(self.acceptance, name):
                raise UsageError(f"{name} is not the one that was accepted", code="provenance.paper")
        if tuple(sha256(release) for release in self.former) != self.acceptance.former:
            raise UsageError("former are not those that were accepted", code="provenance.paper")

    @property
    def contents(self) -> tuple[bytes, ...]:
        """All papers, former releases among them."""
        return (*self.papers.values(), *self.former)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceParts:
    """What goes into a bundle.

    Attributes:
        chain: Signed statement about the build.
        statements: Signed statements about its objects.
        keys: Signed endorsements.
        certificates: Channel certificates, DER.
        accepted: Acceptances of the guests.
    """

    chain: bytes
    statements: Iterable[bytes]
    keys: Iterable[bytes]
    certificates: Iterable[bytes]
    accepted: Iterable[Accepted] = field(default=())

    def named(self) -> dict[str, bytes]:
        """Return name to content."""
        parts = {CHAIN: self.chain}
        folders = ((STATEMENTS, self.statements), (KEYS, self.keys), (CERTIFICATES, self.certificates))
        for folder, contents in folders:
            parts.update((part_name(folder, sha256(content)), content) for content in contents)
        for item in self.accepted:
            acceptance = item.acceptance.to_bytes()
            parts[part_name(ACCEPTANCES, sha256(acceptance))] = acceptance
            parts[part_name(CERTIFICATES, item.acceptance.certificate)] = item.certificate
            parts.update((part_name(PAPERS, sha256(paper)), paper) for paper in item.contents)
        return parts


def write_provenance_bundle(parts: Mapping[str, bytes]) -> bytes:
    """Return the bundle of named parts.

    Raises:
        UsageError: ``bundle.part`` for one that has no place in a bundle or is too long.
    """
    for name, content in parts.items():
        limit = part_limit(name)
        if limit is None or len(content) > limit:
            raise UsageError(f"a provenance bundle has no such part: {name}, {len(content)} bytes", code="bundle.part")
    return write_tar(PROVENANCE_BUNDLE_TYPE, parts)

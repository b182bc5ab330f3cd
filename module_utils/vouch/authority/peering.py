# SPDX-License-Identifier: GPL-3.0-or-later
"""What this guest asks of another guest's authority: evidence, papers, whether it accepts us.

A paper is asked for once: it is known by its digest, and peers on one host share theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..appraise.peer import PeerPapers
from ..appraise.policy import NEEDED_PCRS
from ..errors import ParseError, UnreachableError, UsageError
from ..model.acceptance import MAX_FORMER
from ..model.digest import sha256
from ..parse.canonical import dump_canonical
from .link import Link
from .messages import PAPERS
from .own import read_keys

PORT = 4460
MAX_EVIDENCE_BYTES = 8 << 20
MAX_PAPER_BYTES = 16 << 20
MAX_CACHE_BYTES = 48 << 20
EVIDENCE_S = 25.0
READY_S = 15.0
MAX_PAPER_ANSWER_BYTES = 24 << 20
"""A paper in base64 takes 4/3 of its bytes."""


class PaperCache:
    """Papers by digest; the ones used least lately go first."""

    def __init__(self, limit_bytes: int = MAX_CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._papers: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, digest: bytes) -> bytes | None:
        """Return the paper of that digest."""
        if digest in self._papers:
            self._papers.move_to_end(digest)
        return self._papers.get(digest)

    def put(self, paper: bytes) -> None:
        """Keep a paper."""
        digest = sha256(paper)
        if digest not in self._papers:
            self._papers[digest] = paper
            self._bytes += len(paper)
        while self._bytes > self._limit_bytes and len(self._papers) > 1:
            _, gone = self._papers.popitem(last=False)
            self._bytes -= len(gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a peer showed.

    Attributes:
        evidence: Canonical JSON.
        digests: Name of each paper to its SHA-256.
        former: SHA-256 of each former release of its host.
        keys: SubjectPublicKeyInfo of the keys it offers.
    """

    evidence: bytes
    digests: Mapping[str, bytes]
    former: tuple[bytes, ...]
    keys: tuple[bytes, ...]


async def ask_evidence(link: Link, nonce: bytes, *, ima_offset: int) -> Shown:
    """Return the peer's evidence for our nonce.

    Raises:
        UnreachableError: as ``Link``.
    """
    fields = await link.ask(
        "peer.evidence",
        limit_bytes=MAX_EVIDENCE_BYTES,
        timeout_s=EVIDENCE_S,
        nonce=nonce.hex(),
        pcrs=list(NEEDED_PCRS),
        ima_offset=ima_offset,
    )
    try:
        papers = fields.object("papers")
        shown = Shown(
            evidence=_canonical(fields.take("evidence")),
            digests={name: papers.hex(name, 32) for name in PAPERS},
            former=tuple(fields.decode_hex("former", item, 32) for item in fields.array("former", maximum=MAX_FORMER)),
            keys=read_keys(fields),
        )
        papers.done()
        fields.done()
    except ParseError as error:
        raise _no_answer(error) from None
    return shown


async def ask_papers(link: Link, shown: Shown, cache: PaperCache) -> PeerPapers:
    """Return the papers that the peer named, those that are not in the cache from the peer.

    Raises:
        UnreachableError: as ``Link``; ``authority.answer`` for another paper than was asked for.
    """
    papers = {name: await _paper(link, digest, cache) for name, digest in shown.digests.items()}
    former = [await _paper(link, digest, cache) for digest in shown.former]
    return PeerPapers(**papers, former=tuple(former))


async def ask_ready(link: Link, certificate: bytes) -> bool:
    """Return whether the peer accepts us with this certificate, and told its charon so.

    Raises:
        UnreachableError: as ``Link``.
    """
    fields = await link.ask("peer.ready", timeout_s=READY_S, certificate=sha256(certificate).hex())
    try:
        ready = fields.take("ready")
        fields.done()
    except ParseError as error:
        raise _no_answer(error) from None
    return ready is True


async def _paper(link: Link, digest: bytes, cache: PaperCache) -> bytes:
    paper = cache.get(digest)
    if paper is None:
        fields = await link.ask("peer.paper", limit_bytes=MAX_PAPER_ANSWER_BYTES, sha256=digest.hex())
        try:
            paper = fields.blob("paper", limit_bytes=MAX_PAPER_BYTES, empty=True)
            fields.done()
        except ParseError as error:
            raise _no_answer(error) from None
        if sha256(paper) != digest:
            raise UnreachableError("the peer gave another paper than it named", code="authority.answer")
        cache.put(paper)
    return paper


def _canonical(value: Any) -> bytes:
    try:
        return dump_canonical(value)
    except UsageError as error:
        raise ParseError("answer.evidence", 0, error.message, code="parse.field.value") from None


def _no_answer(error: ParseError) -> UnreachableError:
    return UnreachableError(f"the peer does not speak our protocol: {error}", code="authority.answer")

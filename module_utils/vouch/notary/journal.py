# SPDX-License-Identifier: GPL-3.0-or-later
"""Every statement that came with an object, kept in memory within bounds, and found by the object's digest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..check.provenance import VerifiedJob
from ..errors import UsageError
from ..make.provenance import Accepted

MAX_STATEMENTS = 50_000
MAX_STATEMENT_BYTES = 128 << 20
MAX_ACCEPTED = 64
MAX_ACCEPTED_BYTES = 256 << 20
"""Papers that several acceptances name count once for each: a bound, not a measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One verified statement with what it rests on.

    Attributes:
        verified: What it says.
        statement: The signed statement.
        endorsement: Signed endorsement of its key.
        certificate: Channel certificate of the node, DER.
        address: Where the node is.
    """

    verified: VerifiedJob
    statement: bytes
    endorsement: bytes
    certificate: bytes
    address: str


class Journal:
    """The statements of one dispatcher; the oldest ones go first.

    Args:
        max_statements: How many are kept.
        max_bytes: How long they may be together.
    """

    def __init__(self, *, max_statements: int = MAX_STATEMENTS, max_bytes: int = MAX_STATEMENT_BYTES) -> None:
        self._max_statements, self._max_bytes = max_statements, max_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._by_object: dict[bytes, bytes] = {}
        self._bytes = 0
        self._accepted: OrderedDict[bytes, Accepted] = OrderedDict()
        self.dropped = 0
        """Statements that had to go."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Keep a statement, also one about a job that failed."""
        key = entry.verified.statement
        if key in self._entries:
            return
        self._entries[key] = entry
        self._bytes += len(entry.statement)
        if entry.verified.job.object:
            self._by_object[entry.verified.job.object] = key
        while len(self._entries) > 1 and (len(self._entries) > self._max_statements or self._bytes > self._max_bytes):
            old_key, old = self._entries.popitem(last=False)
            self._bytes -= len(old.statement)
            self.dropped += 1
            if self._by_object.get(old.verified.job.object) == old_key:
                del self._by_object[old.verified.job.object]

    def of_objects(self, objects: Iterable[bytes]) -> Iterator[Entry]:
        """Yield the statement about each object, the latest where there are several.

        Raises:
            UsageError: ``journal.unknown`` for an object that no accepted node made, or too long ago.
        """
        for digest in objects:
            key = self._by_object.get(digest)
            if key is None:
                raise UsageError(f"no statement about object {digest.hex()} is kept", code="journal.unknown")
            yield self._entries[key]

    def keep_accepted(self, accepted: Accepted) -> None:
        """Keep by what a node was accepted, with its certificate: the first of each certificate is the one that counts.

        The first was there before any of the node's jobs; what is newest is asked for when a build is sealed.
        """
        self._accepted.setdefault(accepted.acceptance.certificate, accepted)
        while len(self._accepted) > 1 and (
            len(self._accepted) > MAX_ACCEPTED or self._accepted_bytes() > MAX_ACCEPTED_BYTES
        ):
            self._accepted.popitem(last=False)

    def accepted(self, certificate: bytes) -> Accepted | None:
        """Return by what the node with that certificate (SHA-256) was first accepted."""
        return self._accepted.get(certificate)

    def _accepted_bytes(self) -> int:
        return sum(len(paper) for item in self._accepted.values() for paper in item.contents)

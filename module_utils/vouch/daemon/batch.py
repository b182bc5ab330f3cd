# SPDX-License-Identifier: GPL-3.0-or-later
"""Many waiting nonces, one quote: who shares it, and each one's path through the Merkle tree.

A quote takes 5 to 500 ms, and whoever asks meanwhile waits for the next one together with all the others. So the
proofs per second do not depend on the TPM. Source: design of docs/proof.md, "One quote for many".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from ..errors import UsageError
from ..model.merkle import leaf, levels, path_in

MAX_BATCH = 4096
"""Nonces waiting or sharing one quote."""


class Asking(Protocol):
    """A waiting request."""

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The registers it asks for."""
        ...


AskingT = TypeVar("AskingT", bound=Asking)


class Waiting(Generic[AskingT]):
    """Requests waiting for a quote, oldest first, at most ``limit``."""

    __slots__ = ("_limit", "_requests")

    def __init__(self, limit: int = MAX_BATCH) -> None:
        self._limit = limit
        self._requests: list[AskingT] = []

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def full(self) -> bool:
        """Whether nobody else may be added before the next round is taken."""
        return len(self._requests) >= self._limit

    def add(self, request: AskingT) -> None:
        """Let ``request`` wait.

        Raises:
            UsageError: when full; the caller asks first.
        """
        if self.full:
            raise UsageError(f"{self._limit} requests are waiting already", code="batch.full")
        self._requests.append(request)

    def take_round(self) -> list[AskingT]:
        """Take out the oldest request and all others that ask for the same registers: one quote serves them."""
        if not self._requests:
            return []
        pcrs = self._requests[0].pcrs
        taken = [request for request in self._requests if request.pcrs == pcrs]
        self._requests = [request for request in self._requests if request.pcrs != pcrs]
        return taken


class Tree:
    """The Merkle tree over one round's nonces, every level kept: a path costs 12 look-ups, not 4096 hashes.

    Args:
        nonces: 32 bytes each, in the order of the round; never empty.
        statement_digest: SHA-256 of the statement that the quote covers.
    """

    __slots__ = ("_levels",)

    def __init__(self, nonces: Sequence[bytes], statement_digest: bytes) -> None:
        self._levels = levels([leaf(nonce, statement_digest) for nonce in nonces])

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """What the quote signs."""
        return self._levels[-1][0]

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return the siblings of leaf ``index`` from the leaf upwards."""
        return path_in(self._levels, index)

# SPDX-License-Identifier: GPL-3.0-or-later
"""One host, asked again and again: a connection that is kept, and one more on which the host tells what happens.

Everything here blocks; the watch calls it in threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..errors import UnreachableError
from .guestclient import GuestClient
from .ssh import HostAnswerError, Limits, SshVerifier

IDLE_S = 5.0
"""How soon a subscription notices that it is no longer wanted."""

BAD_OFFSET = "request.ima-offset"


class Evidence(NamedTuple):
    """An answer: evidence as received, and the key of the connection that it came through."""

    data: bytes
    channel_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlace:
    """Where a host is reached, and by which key it is known."""

    address: str
    port: int
    user: str
    key_file: str
    host_key: str


class HostLink(Protocol):
    """What the watch needs of one host."""

    def ask(self, nonce: bytes, pcrs: Sequence[int], *, ima_offset: int) -> Evidence:
        """Return evidence for a nonce; raises ``UnreachableError``."""
        ...

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Yield what the host tells, None when it is silent for a while; raises ``UnreachableError`` at the end."""
        ...

    def close(self) -> None:
        """Hang up, from any thread; what waits in the other methods ends with ``UnreachableError``."""
        ...


class SshLink:
    """A host over SSH. A connection that breaks is made anew at the next question."""

    def __init__(self, place: HostPlace, *, limits: Limits | None = None) -> None:
        self._place = place
        self._limits = limits or Limits()
        self._asking: SshVerifier | None = None
        self._telling: SshVerifier | None = None

    def ask(self, nonce: bytes, pcrs: Sequence[int], *, ima_offset: int) -> Evidence:
        """Return evidence for ``nonce``.

        A host that booted meanwhile has a shorter measurement list than ``ima_offset`` says; then all of it is asked
        for. The nonce is the same whatever was tried: it is good for one answer.

        Raises:
            UnreachableError: as ``port.ssh.SshVerifier``.
        """
        kept = self._asking is not None
        try:
            return self._ask(nonce, pcrs, ima_offset)
        except HostAnswerError:
            raise
        except UnreachableError:
            # A host ends connections that are silent for long: what was kept may be gone without a fault.
            if not kept:
                raise
        return self._ask(nonce, pcrs, ima_offset)

    def _ask(self, nonce: bytes, pcrs: Sequence[int], ima_offset: int) -> Evidence:
        if self._asking is None:
            self._asking = self._connect()
        verifier = self._asking
        try:
            try:
                data = verifier.evidence(nonce, pcrs, ima_offset=ima_offset)
            except HostAnswerError as error:
                if error.code != BAD_OFFSET:
                    raise
                data = verifier.evidence(nonce, pcrs, ima_offset=0)
        except UnreachableError:
            self._asking = None
            verifier.close()
            raise
        return Evidence(data, verifier.host_key)

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Yield each event that the host tells; None when none came for ``IDLE_S``."""
        self._telling = self._connect()
        try:
            yield from GuestClient(self._telling).watch(idle_s=IDLE_S)
        finally:
            self._telling.close()

    def close(self) -> None:
        """Hang up."""
        for connection in (self._asking, self._telling):
            if connection is not None:
                connection.close()

    def _connect(self) -> SshVerifier:
        place = self._place
        return SshVerifier(
            place.address,
            port=place.port,
            user=place.user,
            key_file=place.key_file,
            host_key=place.host_key,
            limits=self._limits,
        )

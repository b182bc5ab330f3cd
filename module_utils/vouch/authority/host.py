# SPDX-License-Identifier: GPL-3.0-or-later
"""What this guest asks of its own host: its papers, a certificate, evidence for peers.

The host is found at the one address that dom0's end of every card has; it knows this guest by the card.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import ParseError, UnreachableError
from ..model.digest import sha256
from ..model.statement import HostStatement
from ..parse.fields import Fields, encode_base64
from .link import opened
from .messages import EvidenceQuestion
from .own import ChannelKey, Own, OwnPapers

PORT = 4461
AT_ONCE = 3
"""The host takes four connections from a guest, with one evidence request each."""

EVIDENCE_S = 20.0


class Host:
    """The host's guest port.

    Args:
        address: ``fe80::fcff:ffff:feff:ffff%eth0``.
        port: TCP port.

    Raises:
        UnreachableError: as ``link.Link``, and as what reads the answers.
    """

    def __init__(self, address: str, port: int = PORT) -> None:
        self._address, self._port = address, port
        self._room = asyncio.Semaphore(AT_ONCE)

    async def certified(self, key: ChannelKey, *, now_s: int) -> Own:
        """Return who we are, with a fresh certificate for ``key``.

        The papers are asked for each time: when the VM verifier started again, it issues with another key.
        """
        async with self._room, opened(self._address, self._port) as link:
            papers = OwnPapers.read(await link.ask("papers"))
            answer = await link.ask("certify", key=encode_base64(key.spki))
        return Own.certified(papers, key, answer, now_s=now_s)

    async def papers(self) -> OwnPapers:
        """Return our papers."""
        async with self._room, opened(self._address, self._port) as link:
            return OwnPapers.read(await link.ask("papers"))

    async def evidence(self, question: EvidenceQuestion, *, notify: str) -> dict[str, Any]:
        """Return evidence, as JSON; from then on ``notify`` is told when this guest's channel ends."""
        async with self._room, opened(self._address, self._port) as link:
            fields: Fields = await link.ask(
                "evidence",
                timeout_s=EVIDENCE_S,
                nonce=question.nonce.hex(),
                pcrs=list(question.pcrs),
                ima_offset=question.ima_offset,
                notify=notify,
            )
        return dict(fields.rest())


def states(evidence: dict[str, Any], own: Own) -> bool:
    """Say whether the host states our present certificate: a host that started anew has forgotten it.

    Raises:
        UnreachableError: ``authority.evidence``.
    """
    try:
        raw = Fields(evidence, "evidence").blob("statement", limit_bytes=1 << 20)
        statement = HostStatement.from_bytes(raw)
    except ParseError as error:
        raise UnreachableError(f"the host's evidence cannot be read: {error}", code="authority.evidence") from None
    digest = sha256(own.certificate)
    return any(item.id == own.papers.guest and item.channel.certificate == digest for item in statement.guests)

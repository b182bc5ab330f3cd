# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller asks a host about its own release, over a connection that ``port.ssh`` made.

Source: docs/proof.md, "Host orders".
"""

from __future__ import annotations

import hashlib

from ..errors import ParseError, UnreachableError, shown
from ..model.hostorder import ACTIONS
from ..model.updateplan import HostStatus
from ..parse.fields import Fields, encode_base64
from .guestclient import GuestClient
from .ssh import SshVerifier

PART_BYTES = 40 * 1024
"""Of a paper in one request, whose frame holds it in base64."""


class HostClient:
    """The requests about a host itself.

    Args:
        verifier: An open connection.

    Raises:
        UnreachableError: what ``SshVerifier`` raises, ``ssh.answer`` for an answer that is not the protocol's, and
            the host's own codes where it refuses.
    """

    def __init__(self, verifier: SshVerifier) -> None:
        self._verifier = verifier

    def status(self) -> HostStatus:
        """Return which release runs, and which one waits."""
        try:
            return HostStatus.from_json(self._verifier.ask({"request": "host.status"}))
        except ParseError as error:
            raise _no_answer(error) from None

    def challenge(self) -> bytes:
        """Return 32 bytes that one order may carry, soon."""
        return GuestClient(self._verifier).challenge()

    def papers(self) -> dict[str, str]:
        """Return the digest of each paper that the host shows to strangers, hex; "" for one that it has not."""
        try:
            fields = Fields(self._verifier.ask({"request": "host.papers.status"}), "papers")
            found = fields.object("papers").rest()
            fields.done()
        except ParseError as error:
            raise _no_answer(error) from None
        if not all(isinstance(item, str) for item in found.values()):
            raise _no_answer(ParseError("papers", 0, "holds something that is no text", code="parse.field.type"))
        return dict(found)

    def put_paper(self, name: str, data: bytes) -> None:
        """Have the host keep a paper, part by part."""
        digest = hashlib.sha256(data).hexdigest()
        for at in range(0, len(data), PART_BYTES):
            part = {"offset": at, "data": encode_base64(data[at : at + PART_BYTES])}
            request = {"request": "host.papers", "paper": name, "sha256": digest, "size": len(data), **part}
            try:
                fields = Fields(self._verifier.ask(request), "paper")
                fields.literal("paper", name)
                fields.literal("have", min(len(data), at + PART_BYTES))
                complete = fields.take("complete")
                fields.done()
            except ParseError as error:
                raise _no_answer(error) from None
        if complete is not True:
            raise _no_answer(
                ParseError("paper.complete", 0, f"{name} is not complete after its last part", code="parse.field.value")
            )

    def order(self, envelope: bytes) -> bool:
        """Return whether a signed order changed anything; returns when it was carried out."""
        try:
            fields = Fields(self._verifier.ask({"request": "host.order", "order": encode_base64(envelope)}), "order")
            fields.choice("action", *ACTIONS)
            fields.hex("release", 32)
            changed = fields.take("changed")
            fields.done()
        except ParseError as error:
            raise _no_answer(error) from None
        return changed is True


def _no_answer(error: ParseError) -> UnreachableError:
    return UnreachableError(f"the host does not speak our protocol: {shown(error)}", code="ssh.answer")

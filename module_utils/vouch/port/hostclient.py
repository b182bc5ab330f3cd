# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller asks a host about its own release, over a connection that ``port.ssh`` made.

Source: docs/proof.md, "Host orders".
"""

from __future__ import annotations

from ..errors import ParseError, UnreachableError, shown
from ..model.hostorder import ACTIONS
from ..model.updateplan import HostStatus
from ..parse.fields import Fields, encode_base64
from .guestclient import GuestClient
from .ssh import SshVerifier


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

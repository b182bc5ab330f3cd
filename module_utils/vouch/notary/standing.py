# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's statements rest on now: who it is, its work key, and the endorsement by its current channel key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UnreachableError
from ..model.digest import sha256
from ..model.provenance import Builder, Run
from .authority import AuthorityClient, Bell, GuestIdentity
from .signer import WorkSigner

PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One state of it; the endorsement is by the channel certificate of the identity.

    Attributes:
        identity: Who this guest is.
        endorsement: Signed endorsement of the work key.
    """

    identity: GuestIdentity
    endorsement: bytes

    @property
    def builder(self) -> Builder:
        """The guest, as statements name it."""
        who = self.identity
        return Builder(host_id=who.host_id, guest=who.guest, package=who.package, verity_root=who.verity_root)

    def run(self, started_s: int, finished_s: int) -> Run:
        """Return when and under which standing work was done."""
        return Run(
            # A clock that was set back must not make a statement that nobody can read.
            started_s=min(started_s, finished_s),
            finished_s=finished_s,
            channel_certificate=sha256(self.identity.certificate),
            evidence=self.identity.evidence,
        )


class StandingKeeper:
    """Keeps the standing current: asks the authority, and for a new endorsement when the certificate is another.

    Args:
        authority: Its client.
        signer: The work key.
        say: Takes one line for the journal.
    """

    def __init__(self, authority: AuthorityClient, signer: WorkSigner, say: Callable[[str], None]) -> None:
        self._authority = authority
        self._signer = signer
        self._say = say
        self._told = ""
        self.standing: Standing | None = None
        """None until the authority answered once; the last known one while it does not."""

    async def refresh(self) -> Standing:
        """Return the standing as it is now; raises as ``AuthorityClient``."""
        identity = await self._authority.identity()
        known = self.standing
        if known is not None and known.identity.certificate == identity.certificate:
            endorsement = known.endorsement
        else:
            endorsement = await self._authority.endorse(self._signer.public.spki)
        self.standing = Standing(identity=identity, endorsement=endorsement)
        return self.standing

    async def keep(self, bell: Bell) -> None:
        """Refresh for ever, whenever ``bell`` rings; what goes wrong is told once, and tried again."""
        while True:
            try:
                await bell.rings()
                await self.refresh()
                self._told = ""
            except UnreachableError as error:
                if str(error) != self._told:
                    self._told = str(error)
                    self._say(f"standing: {error}")
                bell.forget()
                await asyncio.sleep(PAUSE_S)

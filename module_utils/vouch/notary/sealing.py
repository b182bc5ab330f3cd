# SPDX-License-Identifier: GPL-3.0-or-later
"""From files and the objects they were made of to a signed chain and all that speaks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from ..errors import UnreachableError, UsageError
from ..make.provenance import Accepted, ProvenanceParts
from ..model.digest import sha256
from ..model.provenance import BuildStatement
from .authority import AuthorityClient
from .journal import Entry, Journal
from .signer import WorkSigner
from .standing import Standing, StandingKeeper

OWN_LIMIT_S = 300.0
"""A host whose VM verifier starts again says nothing of its guests until it has looked at all of them."""

OWN_PAUSE_S = 2.0


class Sealer:
    """Makes the parts of provenance bundles.

    Args:
        archive: Client of the port authority.
        journal: The statements.
        keeper: What this guest's own statement rests on.
        signer: The work key of this guest.
        say: Takes one line for the journal of the system.
        now_s: The time of day, Unix seconds.
    """

    def __init__(
        self,
        *,
        archive: AuthorityClient,
        journal: Journal,
        keeper: StandingKeeper,
        signer: WorkSigner,
        say: Callable[[str], None],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._archive = archive
        self._journal = journal
        self._keeper = keeper
        self._signer = signer
        self._say = say
        self._now_s = now_s

    async def seal(self, subjects: Mapping[str, bytes], objects: Sequence[bytes]) -> dict[str, bytes]:
        """Return the parts of the bundle about files made of objects.

        Args:
            subjects: File name to SHA-256.
            objects: SHA-256 of each object.

        Raises:
            UsageError: ``journal.unknown``; ``seal.empty`` without a file or an object.
            UnreachableError: the authority does not say who this guest is, or its host does not speak for it.
        """
        if not subjects or not objects:
            raise UsageError("a build has files, and objects that they were made of", code="seal.empty")
        entries = list(self._journal.of_objects(dict.fromkeys(objects)))
        standing, build, own = await self._spoken_for(subjects, entries)
        accepted = [*[item async for item in self._accepted(entries)], own]
        return ProvenanceParts(
            chain=self._signer.seal(build),
            statements=[entry.statement for entry in entries],
            keys=[standing.endorsement, *(entry.endorsement for entry in entries)],
            certificates=[standing.identity.certificate, *(entry.certificate for entry in entries)],
            accepted=accepted,
        ).named()

    async def _spoken_for(
        self, subjects: Mapping[str, bytes], entries: Sequence[Entry]
    ) -> tuple[Standing, BuildStatement, Accepted]:
        """Return the statement, what it rests on, and the host's word for just that, which was given afterwards.

        Without that word nobody would believe the statement, so it is waited for.
        """
        started_s = min(entry.verified.job.run.started_s for entry in entries)
        until_s, told = time.monotonic() + OWN_LIMIT_S, ""
        while True:
            standing = await self._keeper.refresh()
            build = BuildStatement(
                builder=standing.builder,
                run=standing.run(started_s, int(self._now_s())),
                subjects=subjects,
                objects={entry.verified.job.object: entry.verified.statement for entry in entries},
            )
            over = time.monotonic() >= until_s
            try:
                own = await self._archive.accepted(standing.identity.address)
                if own.acceptance.certificate == build.run.channel_certificate:
                    return standing, build, own
                # The host gave this guest another certificate meanwhile.
                error = UnreachableError("the host speaks for another certificate", code="seal.certificate")
            except UnreachableError as refused:
                error = refused
            if over:
                raise error
            if str(error) != told:
                told = str(error)
                self._say(f"own papers: {error}")
            await asyncio.sleep(OWN_PAUSE_S)

    async def _accepted(self, entries: Sequence[Entry]) -> AsyncIterator[Accepted]:
        """Yield by what each node was accepted: first, before its jobs, and last, after them."""
        wanted = {sha256(entry.certificate) for entry in entries}
        for certificate in sorted(wanted):
            first = self._journal.accepted(certificate)
            if first is not None:
                yield first
        for address in dict.fromkeys(entry.address for entry in entries):
            try:
                last = await self._archive.accepted(address)
            except UnreachableError as error:
                # Then the bundle has the first alone, or none: who checks it sees what is missing.
                self._say(f"papers of {address}: {error}")
                continue
            if last.acceptance.certificate in wanted:
                yield last

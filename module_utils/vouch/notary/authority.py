# SPDX-License-Identifier: GPL-3.0-or-later
"""The port authority's control socket, as the notary asks it: who am I, endorse my key, whom do you accept, and why.

======================  =======================================================================================
request                 result
======================  =======================================================================================
``identity`` {}         ``host_id``, ``guest``, ``address``, ``package``, ``verity_root``, ``certificate`` (DER,
                        base64), ``evidence`` (SHA-256 of the latest that went to a peer, or empty)
``endorse`` {spki}      ``endorsement``: signed by the channel key, base64
``changed`` {count}     ``count``, once it is another than the one given, or after some seconds: ``identity``
                        and ``list`` may be something else now
``list`` {}             ``peers``: list of ``address``, ``host_id``, ``guest``, ``state``, ``reason``, ``accepted_at``,
                        ``expires_at``, ``certificate`` (DER, base64), ``package``; the last four zero or empty but
                        in state ``accepted``
``accepted`` {address}  ``acceptance`` (``model.acceptance``), ``papers``: name to base64, ``former``: list of base64 as
                        the acceptance has their digests, ``certificate``: base64
``ask`` {address}       nothing, once that peer was judged anew, before its turn
``connect`` {address}   ``up``, ``state``, ``reason``, ``expires_at``, ``steps_ms``: milliseconds of each step
======================  =======================================================================================

What ``accepted`` answers can be judged by itself: its evidence does not go on from an earlier round's.

Digests are hexadecimal. Frames and envelope are those of the ``vouch`` subsystem (docs/proof.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import ParseError, UnreachableError, UsageError
from ..make.provenance import Accepted
from ..model.acceptance import MAX_FORMER, PAPERS, Acceptance
from ..model.channelowner import MAX_CERTIFICATE_BYTES, ChannelOwner
from ..model.gueststate import GUEST_ID, MAX_NAME_CHARS
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.distcc import MAX_ENDORSEMENT_BYTES
from ..parse.envelope import MAX_ENVELOPE_BYTES
from ..parse.fields import Fields, encode_base64
from ..parse.frame import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, FrameReader, encode_frame
from ..parse.provenancebundle import FOLDER_BYTES
from ..parse.provenancebundle import PAPERS as PAPER_FOLDER

SOCKET = "/run/vouch/authority.sock"
ANSWER_LIMIT_S = 10.0
CHANGED_LIMIT_S = 5.0
"""For ``changed``, which the authority holds for 3 s at most."""

CONNECT_LIMIT_S = 120.0
"""For evidence of both sides, what is judged, and IKE."""

CHUNK_BYTES = 1 << 16
MAX_PEERS = 256
ACCEPTED = "accepted"
MAX_WORD_CHARS = 64
MAX_ADDRESS_CHARS = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestIdentity:
    """What a guest's authority says of its own guest.

    Attributes:
        host_id: UUID of the host.
        guest: Id of the guest.
        address: Its own.
        package: Id of its package.
        verity_root: Root hash of its root image.
        certificate: Its current channel certificate, DER.
        evidence: SHA-256 of the latest evidence that went to a peer; empty before the first.
    """

    host_id: str
    guest: str
    address: str
    package: bytes
    verity_root: bytes
    certificate: bytes
    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A guest that the authority accepts now.

    Attributes:
        address: Where it is.
        owner: Whose channel certificate it has.
        certificate: That certificate, DER.
        package: Id of its package, as its evidence says.
        accepted_at_s: When its latest evidence was accepted, Unix seconds.
        expires_at_s: Until when that counts.
    """

    address: str
    owner: ChannelOwner
    certificate: bytes
    package: bytes
    accepted_at_s: int
    expires_at_s: int


class Connected(NamedTuple):
    """How an attempt at a channel ended.

    Attributes:
        reason: Empty when there is one, else state and reason of the peer.
        steps_ms: Milliseconds of each step, ``all`` among them.
    """

    reason: str
    steps_ms: Mapping[str, int]


class AuthorityClient:
    """One connection to the authority, opened when it is needed; requests go one after the other.

    Every method raises ``UnreachableError``: ``authority.unreachable`` where nothing answers in time,
    ``authority.refused`` for an error answer, ``authority.answer`` for one that is not as the table above says.
    """

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._sent = 0

    async def identity(self) -> GuestIdentity:
        """Return who this guest is now."""
        fields = await self._ask("identity")
        with _answers():
            found = GuestIdentity(
                host_id=fields.uuid("host_id"),
                guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
                address=fields.text("address", maximum_chars=MAX_ADDRESS_CHARS),
                package=fields.hex("package", 32),
                verity_root=fields.hex("verity_root", 32),
                certificate=fields.blob("certificate", limit_bytes=MAX_CERTIFICATE_BYTES),
                evidence=fields.hex("evidence", 32, empty=True),
            )
            fields.done()
        return found

    async def changed(self, count: int) -> int:
        """Return the authority's count of changes, once it is another than ``count``, or after some seconds."""
        fields = await self._ask("changed", limit_s=CHANGED_LIMIT_S, count=count)
        with _answers():
            now = fields.integer("count")
            fields.done()
        return now

    async def endorse(self, spki: bytes) -> bytes:
        """Return the signed endorsement of a work key."""
        fields = await self._ask("endorse", spki=encode_base64(spki))
        with _answers():
            endorsement = fields.blob("endorsement", limit_bytes=MAX_ENDORSEMENT_BYTES)
            fields.done()
        return endorsement

    async def peers(self) -> tuple[Peer, ...]:
        """Return the peers that are accepted now."""
        fields = await self._ask("list")
        with _answers():
            found = [_peer(Fields(item, "peer")) for item in fields.array("peers", maximum=MAX_PEERS)]
            fields.done()
        return tuple(peer for peer in found if peer is not None)

    async def accepted(self, address: str) -> Accepted:
        """Return by what the guest at ``address`` is accepted; at the own address, by what this guest would be."""
        fields = await self._ask("accepted", address=address)
        with _answers():
            acceptance = Acceptance.from_bytes(dump_canonical(fields.take("acceptance")))
            held = fields.object("papers")
            papers = {name: held.blob(name, limit_bytes=FOLDER_BYTES[PAPER_FOLDER]) for name in PAPERS}
            former = tuple(_release(item) for item in fields.array("former", maximum=MAX_FORMER))
            certificate = fields.blob("certificate", limit_bytes=MAX_CERTIFICATE_BYTES)
            held.done()
            fields.done()
            return Accepted(acceptance=acceptance, papers=papers, certificate=certificate, former=former)

    async def ask(self, address: str) -> None:
        """Have the guest at ``address`` judged anew, and return when that is over."""
        fields = await self._ask("ask", limit_s=CONNECT_LIMIT_S, address=address)
        with _answers():
            fields.done()

    async def connect(self, address: str) -> Connected:
        """Return whether there is a channel to the guest at ``address`` now, and how long each step to it took."""
        fields = await self._ask("connect", limit_s=CONNECT_LIMIT_S, address=address)
        with _answers():
            up = fields.take("up")
            state = fields.text("state", maximum_chars=MAX_WORD_CHARS, empty=True)
            reason = fields.text("reason", maximum_chars=MAX_WORD_CHARS, empty=True)
            fields.integer("expires_at")
            steps = fields.object("steps_ms").rest()
            fields.done()
        why = "" if up is True else f"{state} {reason}".strip() or "no channel"
        return Connected(why, {name: spent for name, spent in steps.items() if isinstance(spent, int)})

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ask(self, request: str, *, limit_s: float | None = None, **members: Any) -> Fields:
        async with self._lock:
            self._sent += 1
            ident = str(self._sent)
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S if limit_s is None else limit_s):
                    body = await self._exchange({"version": 1, "id": ident, "request": request, **members})
            except (OSError, EOFError) as error:
                # TimeoutError is an OSError. Where an answer is overdue, the next one on this connection would be it.
                await self.close()
                raise UnreachableError(
                    f"the port authority does not answer: {type(error).__name__}", code="authority.unreachable"
                ) from None
            except BaseException:
                await self.close()
                raise
        return _result(body, ident)

    async def _exchange(self, members: Mapping[str, Any]) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
        reader, writer = self._streams
        writer.write(encode_frame(dump_canonical(members), limit_bytes=MAX_REQUEST_BYTES))
        await writer.drain()
        frames = FrameReader(limit_bytes=MAX_RESPONSE_BYTES)
        with _answers():
            while (body := frames.next_body()) is None:
                if not (data := await reader.read(CHUNK_BYTES)):
                    raise EOFError
                frames.feed(data)
        return body


class Bell:
    """Rings when the authority's answers may be others than before; has a connection of its own, which waits.

    Args:
        path: As ``AuthorityClient``.
    """

    def __init__(self, path: str = SOCKET) -> None:
        self._client, self._count = AuthorityClient(path), 0

    async def rings(self) -> None:
        """Return once something may have changed since the last time; the first time at once.

        Raises:
            UnreachableError: as ``AuthorityClient``.
        """
        known = self._count
        while self._count == known:
            try:
                self._count = await self._client.changed(known)
            except UnreachableError:
                # A guest that stands still, with all its programs, hears nothing in time either: who is asked anew
                # answers at once, or is gone.
                self._count = await self._client.changed(0)
                return

    def forget(self) -> None:
        """Ring at once the next time: the asker could not learn what changed."""
        self._count = 0


def _release(item: Any) -> bytes:
    return Fields({"release": item}, "former").blob("release", limit_bytes=MAX_ENVELOPE_BYTES)


def _result(body: bytes, ident: str) -> Fields:
    with _answers():
        fields = Fields(load_canonical(body, limit_bytes=MAX_RESPONSE_BYTES), "answer")
        fields.literal("version", 1)
        fields.literal("id", ident)
        if fields.take("ok") is True:
            result = fields.object("result")
            fields.done()
            return result
        error = fields.object("error")
        code, message = error.text("code", maximum_chars=MAX_WORD_CHARS), error.text("message", empty=True)
    raise UnreachableError(f"the port authority refuses: {message} ({code})", code="authority.refused")


def _peer(fields: Fields) -> Peer | None:
    address = fields.text("address", maximum_chars=MAX_ADDRESS_CHARS)
    host_id, guest = fields.text("host_id", empty=True), fields.text("guest", empty=True)
    state = fields.text("state", maximum_chars=MAX_WORD_CHARS)
    fields.text("reason", maximum_chars=MAX_WORD_CHARS, empty=True)
    accepted_at_s, expires_at_s = fields.integer("accepted_at"), fields.integer("expires_at")
    certificate = fields.blob("certificate", limit_bytes=MAX_CERTIFICATE_BYTES, empty=True)
    package = fields.hex("package", 32, empty=True)
    fields.done()
    if state != ACCEPTED:
        return None
    owner = _owner(certificate)
    if (owner.host_id, owner.guest) != (host_id, guest) or not package:
        raise fields.fail("certificate", "is of another guest, or the package is missing")
    return Peer(
        address=address,
        owner=owner,
        certificate=certificate,
        package=package,
        accepted_at_s=accepted_at_s,
        expires_at_s=expires_at_s,
    )


@functools.lru_cache(maxsize=MAX_PEERS)
def _owner(certificate: bytes) -> ChannelOwner:
    return ChannelOwner.from_der(certificate)


@contextlib.contextmanager
def _answers() -> Any:
    """Turn what cannot be read into an error of the surroundings: the authority is part of this guest."""
    try:
        yield
    except (ParseError, UsageError) as error:
        raise UnreachableError(
            f"the port authority's answer cannot be read: {error}", code="authority.answer"
        ) from None

# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs of this guest ask the port authority, and what other guests do: requests to the acts behind them.

Source: docs/channels.md, "Messages".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import EvidenceError, ParseError, UnreachableError, UsageError
from ..make.provenance import seal
from ..model.acceptance import PAPERS, Acceptance
from ..model.channelcert import require_p256
from ..model.digest import sha256
from ..model.key import PublicKey
from ..model.merkle import NONCE_BYTES
from ..model.workkey import WORK_KEY_PAYLOAD_TYPE, WorkKey
from ..parse.fields import Fields, encode_base64
from ..port.clock import Clock
from .channels import Channels
from .judging import Judged
from .messages import Question, read_address
from .own import MAX_KEY_BYTES
from .peers import ACCEPTED, Peer

PEER_REQUESTS = frozenset({"peer.evidence", "peer.paper", "peer.ready", "revoke"})
PROGRAM_REQUESTS = frozenset({"connect", "disconnect", "list", "identity", "changed", "endorse", "accepted", "ask"})

HOLD_S = 3.0
"""How long ``changed`` waits for a change: who asks takes a longer silence for a port authority that hangs."""


class PeerDesk:
    """Requests that come by TCP: from other guests, and notices from their hosts."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def answer(self, address: str, question: Question) -> Mapping[str, Any]:
        """Return the result of one request; raises ``ParseError`` and ``UnreachableError``."""
        channels, fields = self._channels, question.fields
        if question.kind == "revoke":
            # From a host, not from a guest: its signature counts, not where it comes from.
            return await channels.answer_revoke(fields)
        if question.kind == "peer.evidence":
            return await channels.answer_evidence(address, fields)
        if question.kind == "peer.ready":
            return await channels.answer_ready(address, fields)
        return self._paper(fields)

    def _paper(self, fields: Fields) -> Mapping[str, Any]:
        digest = fields.hex("sha256", 32)
        fields.done()
        paper = self._channels.own.paper(digest)
        if paper is None:
            raise UnreachableError("no such paper", code="peer.paper")
        return {"paper": encode_base64(paper)}


class ProgramDesk:
    """Requests that come by the Unix socket: from programs of this guest.

    Args:
        channels: What they are about.
        clock: Time and nonces.
    """

    def __init__(self, channels: Channels, clock: Clock) -> None:
        self._channels, self._clock = channels, clock

    async def answer(self, _: str, question: Question) -> Mapping[str, Any]:
        """Return the result of one request; raises ``VouchError``."""
        acts = {
            "connect": self.connect,
            "disconnect": self.disconnect,
            "list": self.list_peers,
            "identity": self.identity,
            "changed": self.changed,
            "endorse": self.endorse,
            "accepted": self.accepted,
            "ask": self.ask,
        }
        return await acts[question.kind](question.fields)

    async def connect(self, fields: Fields) -> Mapping[str, Any]:
        """``connect`` {address}: a channel to that peer; answered when it is there, or why there is none."""
        address = read_address(fields, "address")
        fields.done()
        steps_ms = await self._channels.connect(address)
        peer = self._channels.table.find(address)
        shown = {} if peer is None else peer_json(peer)
        return {
            "up": shown.get("state") == ACCEPTED,
            "state": shown.get("state", ""),
            "reason": shown.get("reason", ""),
            "expires_at": shown.get("expires_at", 0),
            "steps_ms": {name: round(value) for name, value in steps_ms.items()},
        }

    async def disconnect(self, fields: Fields) -> Mapping[str, Any]:
        """``disconnect`` {address}: no channel to that peer."""
        address = read_address(fields, "address")
        fields.done()
        await self._channels.disconnect(address)
        return {}

    async def ask(self, fields: Fields) -> Mapping[str, Any]:
        """``ask`` {address}: judge that peer anew, before its turn; answered when that is over."""
        address = read_address(fields, "address")
        fields.done()
        await self._channels.ask_again(address)
        return {}

    async def list_peers(self, fields: Fields) -> Mapping[str, Any]:
        """``list`` {}: every peer."""
        fields.done()
        return {"peers": [peer_json(peer) for peer in self._channels.table]}

    async def identity(self, fields: Fields) -> Mapping[str, Any]:
        """``identity`` {}: who this guest is."""
        fields.done()
        own = self._channels.own
        return {
            "host_id": own.papers.host_id,
            "guest": own.papers.guest,
            "address": own.papers.address,
            "package": own.papers.package_id.hex(),
            "verity_root": own.papers.said.verity.root_hash.hex(),
            "certificate": encode_base64(own.certificate),
            "evidence": self._channels.last_evidence.hex(),
        }

    async def changed(self, fields: Fields) -> Mapping[str, Any]:
        """``changed`` {count}: answered once another count counts than that; after ``HOLD_S`` even so.

        A change is one of what ``list`` and ``identity`` answer, or may be one.
        """
        known = fields.integer("count")
        fields.done()
        changes = self._channels.changes
        await changes.until(lambda: changes.count != known, HOLD_S)
        return {"count": changes.count}

    async def endorse(self, fields: Fields) -> Mapping[str, Any]:
        """``endorse`` {spki}: the channel key's word that this work key is of the same guest."""
        spki = fields.blob("spki", limit_bytes=MAX_KEY_BYTES)
        fields.done()
        try:
            require_p256(spki)
        except UsageError as error:
            raise ParseError("request.spki", 0, error.message) from None
        own = self._channels.own
        said = WorkKey(
            host_id=own.papers.host_id,
            guest=own.papers.guest,
            key=PublicKey.from_der(spki),
            channel_certificate=sha256(own.certificate),
            issued_at_s=self._now_s(),
        )
        keyid = sha256(own.key.spki).hex()
        endorsement = seal(WORK_KEY_PAYLOAD_TYPE, said.to_bytes(), keyid=keyid, sign=own.key.sign)
        return {"endorsement": encode_base64(endorsement)}

    async def accepted(self, fields: Fields) -> Mapping[str, Any]:
        """``accepted`` {address}: by what that peer is accepted now; at our own address, by what we would be."""
        address = read_address(fields, "address")
        fields.done()
        own = self._channels.own.papers.address
        if address == own:
            judged = await self._channels.prove_to_anybody(self._clock.random_bytes(NONCE_BYTES))
        elif self._channels.table.accepted(address) is None:
            raise UnreachableError("that peer is not accepted", code="peer.not-accepted")
        else:
            judged = await self._judged(address)
        return acceptance_json(judged, asker=own)

    async def _judged(self, address: str) -> Judged:
        try:
            return await self._channels.judge_again(address)
        except EvidenceError as error:
            raise UnreachableError(f"that peer is not accepted: {error}", code=error.code) from None

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def peer_json(peer: Peer) -> dict[str, Any]:
    """Return how a peer is listed."""
    found = peer.accepted if peer.state == ACCEPTED else None
    return {
        "address": peer.address,
        "host_id": "" if found is None else found.host_id,
        "guest": "" if found is None else found.guest,
        "state": peer.state,
        "reason": peer.reason,
        "accepted_at": 0 if found is None else found.accepted_at_s,
        "expires_at": 0 if found is None else found.expires_at_s,
        "certificate": "" if found is None else encode_base64(found.certificate),
        "package": "" if found is None else found.package_id.hex(),
    }


def acceptance_json(judged: Judged, *, asker: str) -> dict[str, Any]:
    """Return an acceptance with all that it names."""
    papers = {
        "evidence": judged.evidence,
        "credential": judged.papers.credential,
        "release": judged.papers.release,
        "manifest": judged.papers.manifest,
        "package": judged.papers.package,
    }
    former = {sha256(release): release for release in judged.papers.former}
    acceptance = Acceptance(
        address=judged.address,
        asker=asker,
        nonce=judged.nonce,
        accepted_at_s=judged.accepted_at_s,
        expires_at_s=judged.expires_at_s,
        certificate=sha256(judged.papers.certificate),
        former=tuple(sorted(former)),
        **{name: sha256(papers[name]) for name in PAPERS},
    )
    return {
        "acceptance": acceptance.to_json(),
        "papers": {name: encode_base64(papers[name]) for name in PAPERS},
        "former": [encode_base64(former[digest]) for digest in acceptance.former],
        "certificate": encode_base64(judged.papers.certificate),
    }

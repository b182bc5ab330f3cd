# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulation of port authorities: guests with channel keys, and control sockets that say what a test tells them to.

Nothing is attested here. What the simulation signs, endorsements with channel keys, is real; what it says of peers is
whatever the test puts into ``peers``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from ansible.module_utils.vouch.make.provenance import Accepted, seal
from ansible.module_utils.vouch.model.acceptance import PAPERS, Acceptance
from ansible.module_utils.vouch.model.channelcert import LIFE_S, SERIAL_BYTES, SKEW_S, Channel, certificate
from ansible.module_utils.vouch.model.channelowner import ChannelOwner
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.workkey import WORK_KEY_PAYLOAD_TYPE, WorkKey
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_canonical
from ansible.module_utils.vouch.parse.fields import decode_base64, encode_base64
from ansible.module_utils.vouch.parse.frame import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, FrameReader, encode_frame
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOK_S = 0.02
HOST_ID = "11111111-2222-4333-8444-555555555555"


class SimGuest:
    """A guest with a channel key, and a certificate as hosts make them, by a channel authority that is thrown away.

    Args:
        guest: Its id.
        address: Where it is; any text.
        now_s: When its certificate was made.
    """

    def __init__(self, guest: str, address: str, *, now_s: int, host_id: str = HOST_ID) -> None:
        self.guest, self.address, self.host_id = guest, address, host_id
        self.package = sha256(b"package of " + guest.encode())
        self.verity_root = sha256(b"root of " + guest.encode())
        self.evidence = b""
        self.renew(now_s)

    def renew(self, now_s: int) -> None:
        """Make another channel key, and a certificate for it."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        said = Channel(
            host_id=self.host_id,
            guest=self.guest,
            spki=self.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            not_before_s=now_s - SKEW_S,
            not_after_s=now_s + LIFE_S,
        )
        host = ec.generate_private_key(ec.SECP256R1())
        self.certificate = certificate(
            said, serial=secrets.token_bytes(SERIAL_BYTES), sign=lambda data: host.sign(data, ec.ECDSA(hashes.SHA256()))
        )

    @property
    def owner(self) -> ChannelOwner:
        """What the certificate says."""
        return ChannelOwner.from_der(self.certificate)

    def endorse(self, spki: bytes, now_s: int, **changes: Any) -> bytes:
        """Return the signed endorsement of a work key, or one that is wrong."""
        said: dict[str, Any] = {
            "host_id": self.host_id,
            "guest": self.guest,
            "key": PublicKey.from_der(spki),
            "channel_certificate": sha256(self.certificate),
            "issued_at_s": now_s,
        }
        payload = WorkKey(**{**said, **changes}).to_bytes()
        return seal(WORK_KEY_PAYLOAD_TYPE, payload, keyid=self.owner.key.keyid, sign=self.sign)

    def sign(self, message: bytes) -> bytes:
        """Sign with the channel key."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def listed(self, now_s: int, *, ttl_s: int = 60) -> dict[str, Any]:
        """Return how an authority that accepted it lists it."""
        return {
            "address": self.address,
            "host_id": self.host_id,
            "guest": self.guest,
            "state": "accepted",
            "reason": "",
            "accepted_at": now_s,
            "expires_at": now_s + ttl_s,
            "certificate": encode_base64(self.certificate),
            "package": self.package.hex(),
        }

    def refused(self, reason: str) -> dict[str, Any]:
        """Return how an authority that does not accept it lists it."""
        nothing = {"accepted_at": 0, "expires_at": 0, "certificate": "", "package": ""}
        return {**self.listed(0), "state": "refused", "reason": reason, **nothing}


def accepted_with(
    peer: SimGuest,
    asker: SimGuest,
    now_s: int,
    papers: dict[str, bytes] | None = None,
    *,
    nonce: bytes = b"",
    former: Iterable[bytes] = (),
) -> Accepted:
    """Return an acceptance with papers that nothing stands behind, but where the test brings its own, and its nonce."""
    held = papers or {name: f"{name} of {peer.guest}".encode() for name in PAPERS}
    if papers is None:
        held["evidence"] = evidence_text(
            peer.guest, _ipv6(peer.address), _ipv6(asker.address), sha256(peer.certificate)
        )
    releases = {sha256(release): release for release in former}
    acceptance = Acceptance(
        address=_ipv6(peer.address),
        asker=_ipv6(asker.address),
        nonce=nonce or sha256(peer.certificate),
        accepted_at_s=now_s,
        expires_at_s=now_s + 60,
        certificate=sha256(peer.certificate),
        former=tuple(sorted(releases)),
        **{name: sha256(paper) for name, paper in held.items()},
    )
    return Accepted(
        acceptance=acceptance,
        papers=held,
        certificate=peer.certificate,
        former=tuple(releases[digest] for digest in acceptance.former),
    )


def evidence_text(guest: str, address: str, asker: str, nonce: bytes) -> bytes:
    """Return what stands for evidence: bound to what real evidence is bound to."""
    return f"evidence of {guest} at {address} for {asker} and {nonce.hex()}".encode()


def _ipv6(address: str) -> str:
    """Return an address as acceptances have it, also for a guest that a test keeps on the IPv4 loopback."""
    return address if ":" in address else f"fd00::{address.rpartition('.')[2]}"


class SimAuthority:
    """The control socket of one guest's authority.

    Attributes:
        guest: Whose it is.
        peers: What ``list`` answers.
        accepted: Address to what ``accepted`` answers.
        on_ask: Called when a peer is to be judged anew.
        refusing: Address to why there is no channel to it; ``connect`` to any other succeeds.
    """

    def __init__(self, guest: SimGuest, path: str, now_s: Callable[[], float]) -> None:
        self.guest = guest
        self.path = path
        self.peers: list[dict[str, Any]] = []
        self.accepted: dict[str, Accepted] = {}
        self.refusing: dict[str, str] = {}
        self.asked: list[str] = []
        self.on_ask: Callable[[], None] = lambda: None
        self._now_s = now_s
        self._said, self._changes = "", 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Serve."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    def stop(self) -> None:
        """Break everything off, as an authority that was killed does."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        frames = FrameReader(limit_bytes=MAX_REQUEST_BYTES)
        try:
            while data := await reader.read(65536):
                frames.feed(data)
                while (body := frames.next_body()) is not None:
                    await self._changed(load_canonical(body, limit_bytes=MAX_REQUEST_BYTES))
                    writer.write(encode_frame(self._answer(body), limit_bytes=MAX_RESPONSE_BYTES))
                    await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _changed(self, request: dict[str, Any]) -> None:
        """Wait until ``changed`` is to be answered; a test changes things without telling."""
        while request["request"] == "changed" and request["count"] == self._count():
            await asyncio.sleep(LOOK_S)

    def _count(self) -> int:
        """Return another number whenever ``identity`` or ``list`` say something else."""
        said = repr((self.guest.certificate, self.guest.evidence, self.peers))
        if said != self._said:
            self._said, self._changes = said, self._changes + 1
        return self._changes

    def _answer(self, body: bytes) -> bytes:
        request = load_canonical(body, limit_bytes=MAX_REQUEST_BYTES)
        self.asked.append(request["request"])
        result = self._result(request)
        head = {"version": 1, "id": request["id"]}
        if result is None:
            return dump_canonical({**head, "ok": False, "error": {"code": "peer.unknown", "message": "not accepted"}})
        return dump_canonical({**head, "ok": True, "result": result})

    def _result(self, request: dict[str, Any]) -> dict[str, Any] | None:
        kind, guest = request["request"], self.guest
        if kind == "identity":
            return {
                "host_id": guest.host_id,
                "guest": guest.guest,
                "address": guest.address,
                "package": guest.package.hex(),
                "verity_root": guest.verity_root.hex(),
                "certificate": encode_base64(guest.certificate),
                "evidence": guest.evidence.hex(),
            }
        if kind == "connect":
            reason = self.refusing.get(request["address"], "")
            state = "refused" if reason else "accepted"
            return {"up": not reason, "state": state, "reason": reason, "expires_at": 0, "steps_ms": {"all": 12}}
        if kind == "endorse":
            spki = decode_base64(request["spki"])
            assert spki is not None
            return {"endorsement": encode_base64(guest.endorse(spki, int(self._now_s())))}
        if kind == "ask":
            self.on_ask()
            return {}
        if kind == "changed":
            return {"count": self._count()}
        if kind == "list":
            return {"peers": self.peers}
        found = self.accepted.get(request["address"])
        if found is None:
            return None
        return {
            "acceptance": found.acceptance.to_json(),
            "papers": {name: encode_base64(paper) for name, paper in found.papers.items()},
            "former": [encode_base64(release) for release in found.former],
            "certificate": encode_base64(found.certificate),
        }

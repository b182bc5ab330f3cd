# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host knows of its guests' channels: keys it certified, where each guest is, whom to tell of its end.

All of it lives in the main process's memory, the key that issues included: a service that starts anew has another one,
its statement says so, and guests ask to be certified again.

A guest is known by its card and nothing else. It can ask for a certificate in its own name only, and what it says of
others is a list of addresses that are told when it ends.

Source: docs/channels.md; docs/proof.md, "Channel certificates and their end".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..errors import UnreachableError, VouchError
from ..model.channelcert import LIFE_S, SERIAL_BYTES, SKEW_S, Channel, certificate, require_p256, sha256_of
from ..model.gueststate import MAX_TOLD, NO_CHANNEL, RUNNING, VIOLATED, GuestRecord
from ..model.revocation import RENEWED, STOP, VIOLATION, Revocation
from ..parse.fields import encode_base64
from .papers import FORMER, KEYS, HostPapers


class Key(Protocol):
    """The channel authority's key; ``port.libcrypto.SigningKey`` is the real one."""

    spki: bytes

    def sign(self, message: bytes) -> bytes:
        """Return an ECDSA signature with SHA-256, DER."""
        ...


class Notice(NamedTuple):
    """A revocation on its way: whom to tell, and what."""

    addresses: tuple[str, ...]
    statement: bytes
    signature: bytes


class HostChannels:
    """The channels of one host's guests.

    Args:
        host_id: UUID of the host.
        records: Returns every guest that was launched and not stopped.
        papers: What the host shows to strangers.
        read_package: Returns a signed package by its id; raises ``VouchError``.
        make_key: Makes the channel authority's key; called once, when a guest first asks.
        now_s: Seconds since 1970.
        send: Told of each notice.

    Raises:
        VouchError: ``channel.unavailable`` for a guest that may have no channel now; ``channel.key``.
    """

    __slots__ = ("_host_id", "_key", "_make_key", "_now_s", "_of", "_papers", "_read_package", "_records", "_send")

    def __init__(
        self,
        *,
        host_id: str,
        records: Callable[[], tuple[GuestRecord, ...]],
        papers: HostPapers,
        read_package: Callable[[bytes], bytes],
        make_key: Callable[[], Key],
        now_s: Callable[[], int],
        send: Callable[[Notice], None],
    ) -> None:
        self._host_id, self._records, self._papers = host_id, records, papers
        self._read_package, self._make_key = read_package, make_key
        self._now_s, self._send = now_s, send
        self._key: Key | None = None
        self._of: dict[str, tuple[int, tuple[bytes, bytes, tuple[str, ...]]]] = {}
        """Guest to the counter of its launch, and digest of its key, digest of its certificate, whom to tell."""

    @property
    def authority(self) -> bytes:
        """SubjectPublicKeyInfo of the key that issues; empty while no guest has asked for anything."""
        return b"" if self._key is None else self._key.spki

    def stated(self) -> tuple[GuestRecord, ...]:
        """Return what is stated of the guests, with their channels."""
        return tuple(self._with_channel(record) for record in self._records())

    def guest_of(self, domain_id: int) -> GuestRecord | None:
        """Return the guest that runs in that domain; None for one that was never released, or broke a rule."""
        return next(
            (item for item in self._records() if item.domain_id == domain_id and item.state == RUNNING),
            None,
        )

    def papers(self, guest: str) -> dict[str, Any]:
        """Return the answer to a guest's ``papers``."""
        record = self._running(guest)
        from ..model.guestaddress import mac_of_address

        shown = self._papers.read_all()
        return {
            "host_id": self._host_id,
            "guest": record.id,
            "mac": mac_of_address(_packed(record.channel.address)),
            "address": record.channel.address,
            "package": encode_base64(self._read_package(record.package)),
            "credential": encode_base64(shown["credential"]),
            "release": encode_base64(shown["release"]),
            "manifest": encode_base64(shown["manifest"]),
            "keys": [encode_base64(key) for key in self._papers.items(KEYS)],
            "former": [encode_base64(release) for release in self._papers.items(FORMER)],
            "channel_authority": encode_base64(self._authority().spki),
        }

    def certify(self, guest: str, spki: bytes) -> dict[str, Any]:
        """Return the answer to a guest's ``certify``; its peers are told that the certificate before is over."""
        record = self._running(guest)
        require_p256(spki)
        now_s = self._now_s()
        channel = Channel(self._host_id, guest, spki, now_s - SKEW_S, now_s + LIFE_S)
        made = certificate(channel, serial=os.urandom(SERIAL_BYTES), sign=self._authority().sign)
        _, before, told = self._entry(record)
        if before:
            self._notify(guest, before, told, RENEWED)
        self._of[guest] = (record.counter, (sha256_of(spki), sha256_of(made), told))
        return {"certificate": encode_base64(made), "expires_at": channel.not_after_s}

    def tell(self, guest: str, address: str) -> None:
        """Tell that address of the guest's end from now on; the oldest goes when there are too many."""
        record = self._running(guest)
        key, made, told = self._entry(record)
        kept = tuple(item for item in told if item != address)[-(MAX_TOLD - 1) :]
        self._of[guest] = (record.counter, (key, made, (*kept, address)))

    def ended(self, guest: str, kind: str) -> None:
        """Tell the peers of a guest that it broke a rule (``guest.violation``) or was stopped (``guest.stop``)."""
        _, (_, made, told) = self._of.pop(guest, (0, (b"", b"", ())))
        if made:
            self._notify(guest, made, told, VIOLATION if kind == VIOLATION else STOP)

    def _notify(self, guest: str, made: bytes, told: tuple[str, ...], reason: str) -> None:
        if told:
            statement = Revocation(self._host_id, guest, made, reason, self._now_s()).to_bytes()
            self._send(Notice(told, statement, self._authority().sign(statement)))

    def _authority(self) -> Key:
        if self._key is None:
            self._key = self._make_key()
        return self._key

    def _running(self, guest: str) -> GuestRecord:
        for record in self._records():
            if record.id == guest and record.state == RUNNING and record.channel.address:
                return record
        raise UnreachableError(f"guest {guest} has no channel now", code="channel.unavailable")

    def _entry(self, record: GuestRecord) -> tuple[bytes, bytes, tuple[str, ...]]:
        """Return what is known of this life of the guest: one that was started again begins with nothing."""
        counter, entry = self._of.get(record.id, (record.counter, (b"", b"", ())))
        return entry if counter == record.counter else (b"", b"", ())

    def _with_channel(self, record: GuestRecord) -> GuestRecord:
        if record.state == VIOLATED:
            return record._replace(channel=NO_CHANNEL)
        key, made, told = self._entry(record)
        return record._replace(channel=record.channel._replace(key=key, certificate=made, told=tuple(sorted(told))))


def blob_reader(folder: str, limit_bytes: int) -> Callable[[bytes], bytes]:
    """Return what reads a file of ``folder`` that is named by its digest, compared."""
    import hashlib

    def read(digest: bytes) -> bytes:
        path = os.path.join(folder, digest.hex())
        try:
            with open(path, "rb", buffering=0) as stream:
                data = stream.read(limit_bytes + 1) or b""
        except OSError as error:
            raise UnreachableError(f"{path}: {error.strerror}", code="store.missing") from None
        if hashlib.sha256(data).digest() != digest:
            raise VouchError(f"{path} was changed on the host", code="store.digest")
        return data

    return read


def _packed(address: str) -> bytes:
    import socket

    return socket.inet_pton(socket.AF_INET6, address)

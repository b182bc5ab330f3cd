# SPDX-License-Identifier: GPL-3.0-or-later
"""What one quote covers besides the registers: the host, its counters, its channel key, the heads of its logs.

The attester hashes the bytes it sends; the appraiser hashes the bytes it received. Neither writes them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields, encode_base64
from .digest import sha256
from .gueststate import GuestRecord, read_guests
from .key import check_ssh_host_key

HOST_STATEMENT_TYPE = "urn:vouch:host-statement:1"
MAX_STATEMENT_BYTES = 1 << 20
"""A guest takes 700 bytes, and some more with violations."""

MAX_LOG_ENTRIES = 2**31
MAX_AUTHORITY_BYTES = 256

MAX_COUNTER = 2**32 - 1
"""resetCount and restartCount are UINT32 (TPM 2.0 Part 2, 10.11.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmCounters:
    """The TPM's clock and counters, as TPM2_ReadClock or a quote gives them.

    Attributes:
        clock_ms: Milliseconds the TPM was powered since its clock was last cleared.
        reset_count: Boots since TPM2_Clear.
        restart_count: Resumes since the last boot.
    """

    clock_ms: int
    reset_count: int
    restart_count: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"clock_ms": self.clock_ms, "reset_count": self.reset_count, "restart_count": self.restart_count}

    @classmethod
    def read(cls, fields: Fields) -> TpmCounters:
        """Take the three members of ``fields``."""
        counters = cls(
            clock_ms=fields.integer("clock_ms"),
            reset_count=fields.integer("reset_count", maximum=MAX_COUNTER),
            restart_count=fields.integer("restart_count", maximum=MAX_COUNTER),
        )
        fields.done()
        return counters


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatement:
    """The host's part of the evidence that a quote covers by its digest.

    Attributes:
        host_id: UUID the installer gave the host.
        release_id: SHA-256 of the signed release file; empty when the host knows none.
        ssh_host_key: ``ssh-ed25519 AAAA...``: the key of the channel the asker came through.
        time_s: The host's clock, Unix seconds. A hint: the TPM counters are what counts.
        tpm: Counters read right before the quote.
        event_log_count: Entries of the VM verifier's event log.
        event_log_head: PCR 14 after them.
        ima_bytes: Length of dom0's measurement list when it was read.
        guests: Every guest of the host, ascending by id.
        channel_authority: SubjectPublicKeyInfo of the key that the host certifies its guests' channels with; empty
            when it has none.
    """

    host_id: str
    release_id: bytes
    ssh_host_key: str
    time_s: int
    tpm: TpmCounters
    event_log_count: int
    event_log_head: bytes
    ima_bytes: int
    guests: tuple[GuestRecord, ...] = ()
    channel_authority: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": HOST_STATEMENT_TYPE,
            "host_id": self.host_id,
            "release_id": self.release_id.hex(),
            "ssh_host_key": self.ssh_host_key,
            "time": self.time_s,
            "tpm": self.tpm.to_json(),
            "event_log": {"count": self.event_log_count, "head": self.event_log_head.hex()},
            "ima": {"bytes": self.ima_bytes},
            "guests": [guest.to_json() for guest in self.guests],
            "channel_authority": encode_base64(self.channel_authority),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is hashed and sent."""
        return dump_canonical(self.to_json())

    def digest(self) -> bytes:
        """Return SHA-256 of ``to_bytes``: for the attester. An appraiser hashes what it received."""
        return sha256(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> HostStatement:
        """Return the statement of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.

        Trust: verify the quote that covers ``sha256(data)`` first.
        """
        return cls.from_json(load_canonical(data, limit_bytes=MAX_STATEMENT_BYTES))

    @classmethod
    def from_json(cls, value: Any) -> HostStatement:
        """Return the statement of a JSON value; raises and trusts as ``from_bytes``."""
        fields = Fields(value, "host-statement")
        fields.literal("type", HOST_STATEMENT_TYPE)
        event_log, ima = fields.object("event_log"), fields.object("ima")
        statement = cls(
            host_id=fields.uuid("host_id"),
            release_id=fields.hex("release_id", 32, empty=True),
            ssh_host_key=check_ssh_host_key(fields.text("ssh_host_key")),
            time_s=fields.integer("time"),
            tpm=TpmCounters.read(fields.object("tpm")),
            event_log_count=event_log.integer("count", maximum=MAX_LOG_ENTRIES),
            event_log_head=event_log.hex("head", 32),
            ima_bytes=ima.integer("bytes"),
            guests=read_guests(fields, "guests"),
            channel_authority=fields.blob("channel_authority", limit_bytes=MAX_AUTHORITY_BYTES, empty=True),
        )
        for part in (event_log, ima, fields):
            part.done()
        return statement

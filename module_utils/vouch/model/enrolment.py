# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller remembers of one host: its keys, its firmware's state, and how far it was judged.

Everything here was proven once (EK certificate chain, credential activation, install proof) or was taken over from
evidence that was accepted. Nothing is learned from evidence that was not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError, UsageError
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields, encode_base64
from .guestreference import GuestReference
from .gueststate import MAX_GUESTS
from .ima import ImaResume
from .key import check_ssh_host_key
from .statement import TpmCounters

ENROLMENT_TYPE = "urn:vouch:enrolment:1"

MAX_ENROLMENT_BYTES = 1 << 20
"""As many guests as a host has take half of it."""

MAX_AK_PUBLIC_BYTES = 1024

FIRMWARE_PCRS = (0, 1, 2, 3, 5, 6, 7)
"""Registers of the firmware, its set-up and its Secure Boot state. PCR 4 is not among them: it is predicted."""

FIRST_BOOT_PCRS = (1, 5)
"""Registers that the installation itself changes (boot entry, partitions): the first accepted evidence pins them."""


MAX_RETIRED = 256
"""Releases that a host ran once; far more than updates between two installations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRelease:
    """A release that the host may run besides its own, for a while: an update is being made.

    Attributes:
        release_id: Its id.
        until_s: Unix seconds; from then on it is not expected any more.
        accepted_at_s: Unix seconds of the last accepted evidence of it; 0 before any.
    """

    release_id: bytes
    until_s: int
    accepted_at_s: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"release_id": self.release_id.hex(), "until": self.until_s, "accepted_at": self.accepted_at_s}

    @classmethod
    def read(cls, fields: Fields) -> NextRelease:
        """Take the members of ``fields``."""
        release = cls(
            release_id=fields.hex("release_id", 32),
            until_s=fields.integer("until"),
            accepted_at_s=fields.integer("accepted_at"),
        )
        fields.done()
        return release


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """One enrolled host; immutable.

    Attributes:
        host_id: UUID the installer gave it.
        ek_sha256: SHA-256 of the endorsement key's SubjectPublicKeyInfo: names the TPM.
        ak_public: TPMT_PUBLIC of the attestation key that was activated for that endorsement key.
        ssh_host_key: Key of the host's SSH server, from the install proof.
        release_id: Release that is meant to run: the one that was installed, or the last confirmed update.
        baseline: Firmware registers to their pinned values; those of ``FIRST_BOOT_PCRS`` may not be pinned yet.
        counters: TPM clock and counters of the last accepted evidence (of the installer's quote before any).
        ima: Where the measurement list was judged up to, or None.
        enrolled_at_s: Unix seconds.
        accepted_at_s: Unix seconds of the last accepted evidence; 0 before any.
        installed: Release that the install proof is about; empty means ``release_id``.
        next: Release of an update that is being made, or None.
        retired: Releases that this host ran before; it must not run them again.
        guests: Guests that are meant to run one package each, ascending by id.
    """

    host_id: str
    ek_sha256: bytes
    ak_public: bytes
    ssh_host_key: str
    release_id: bytes
    baseline: Mapping[int, bytes]
    counters: TpmCounters
    ima: ImaResume | None
    enrolled_at_s: int
    accepted_at_s: int = 0
    installed: bytes = b""
    next: NextRelease | None = None
    retired: tuple[bytes, ...] = ()
    guests: tuple[GuestReference, ...] = ()

    def __post_init__(self) -> None:
        names = [item.guest for item in self.guests]
        if names != sorted(set(names)) or len(names) > MAX_GUESTS:
            raise UsageError("guests are in the order of their ids, each once", code="enrolment.guests")
        object.__setattr__(self, "installed", self.installed or self.release_id)
        if any(len(item) != 32 for item in (self.ek_sha256, self.release_id, self.installed, *self.retired)):
            raise UsageError("endorsement key and releases are named by SHA-256")
        missing = set(FIRMWARE_PCRS) - set(FIRST_BOOT_PCRS) - set(self.baseline)
        if missing or not set(self.baseline) <= set(FIRMWARE_PCRS):
            raise UsageError(f"a baseline pins PCRs {FIRMWARE_PCRS}", code="enrolment.baseline")
        if any(len(value) != 32 for value in self.baseline.values()):
            raise UsageError("a baseline holds SHA-256 registers", code="enrolment.baseline")
        object.__setattr__(self, "baseline", MappingProxyType(dict(sorted(self.baseline.items()))))

    @property
    def unpinned(self) -> tuple[int, ...]:
        """Firmware registers whose value the first accepted evidence will pin."""
        return tuple(index for index in FIRMWARE_PCRS if index not in self.baseline)

    def ima_start(self, *, reset_count: int, restart_count: int) -> ImaResume:
        """Return where the measurement list of that boot is to be judged from."""
        if self.ima is not None and self.ima.same_boot(reset_count=reset_count, restart_count=restart_count):
            return self.ima
        return ImaResume.start(reset_count=reset_count, restart_count=restart_count)

    def expecting(self, release_id: bytes, *, until_s: int) -> Enrolment:
        """Return the enrolment of a host that is to be updated to a release until then.

        The same release again only moves the time. The release that runs already is none to expect.

        Raises:
            UsageError: ``update.retired`` for a release that the host ran before: there is no way back but a new
                installation.
        """
        if release_id in self.retired:
            raise UsageError(
                f"host {self.host_id} ran release {release_id.hex()} before, and was updated since",
                code="update.retired",
                hint="an older state is installed, not updated to",
            )
        if release_id == self.release_id:
            return dataclasses.replace(self, next=None)
        known = self.next if self.next is not None and self.next.release_id == release_id else None
        accepted_at_s = 0 if known is None else known.accepted_at_s
        release = NextRelease(release_id=release_id, until_s=until_s, accepted_at_s=accepted_at_s)
        return dataclasses.replace(self, next=release)

    def updated(self, release_id: bytes) -> Enrolment:
        """Return the enrolment of a host whose update was confirmed: the release before is retired.

        Raises:
            UsageError: ``update.unproven`` when no evidence of that release was accepted.
        """
        if release_id == self.release_id:
            return dataclasses.replace(self, next=None)
        if self.next is None or self.next.release_id != release_id or not self.next.accepted_at_s:
            raise UsageError(
                f"no evidence was accepted that host {self.host_id} runs release {release_id.hex()}",
                code="update.unproven",
                hint="appraise the host while it runs the new release",
            )
        retired = (*self.retired, self.release_id)[-MAX_RETIRED:]
        return dataclasses.replace(self, release_id=release_id, next=None, retired=retired)

    def guest(self, guest: str) -> GuestReference | None:
        """Return which package a guest is meant to run, None when nothing is recorded."""
        return next((item for item in self.guests if item.guest == guest), None)

    def with_guest(self, guest: str, reference: GuestReference | None) -> Enrolment:
        """Return the enrolment with another record of one guest; None forgets it."""
        others = {item.guest: item for item in self.guests if item.guest != guest}
        if reference is not None:
            others[guest] = reference
        return dataclasses.replace(self, guests=tuple(others[name] for name in sorted(others)))

    def advanced(
        self,
        *,
        counters: TpmCounters,
        ima: ImaResume,
        pinned: Mapping[int, bytes],
        accepted_at_s: int,
        release_id: bytes = b"",
        packages: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Enrolment:
        """Return the enrolment after accepted evidence of a release; values pinned before stay as they are.

        ``packages`` are those with which guests were affirming.
        """
        ahead = self.next
        if ahead is not None and ahead.release_id == release_id:
            ahead = dataclasses.replace(ahead, accepted_at_s=accepted_at_s)
        return dataclasses.replace(
            self,
            next=ahead,
            counters=counters,
            ima=ima,
            baseline={**{index: pinned[index] for index in self.unpinned if index in pinned}, **self.baseline},
            accepted_at_s=accepted_at_s,
            guests=tuple(item.accepted(packages.get(item.guest, b""), at_s=accepted_at_s) for item in self.guests),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": ENROLMENT_TYPE,
            "host_id": self.host_id,
            "ek_sha256": self.ek_sha256.hex(),
            "ak_public": encode_base64(self.ak_public),
            "ssh_host_key": self.ssh_host_key,
            "release_id": self.release_id.hex(),
            "baseline": {str(index): value.hex() for index, value in self.baseline.items()},
            "counters": self.counters.to_json(),
            "ima": None if self.ima is None else self.ima.to_json(),
            "enrolled_at": self.enrolled_at_s,
            "accepted_at": self.accepted_at_s,
            "installed": self.installed.hex(),
            "next": None if self.next is None else self.next.to_json(),
            "retired": [item.hex() for item in self.retired],
            "guests": [item.to_json() for item in self.guests],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form, as stored."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> Enrolment:
        """Return the enrolment of its JSON form.

        Raises:
            ParseError: for an unknown, missing or malformed member.
        """
        return cls.from_json(load_json(data, limit_bytes=MAX_ENROLMENT_BYTES))

    @classmethod
    def from_json(cls, value: Any) -> Enrolment:
        """Return the enrolment of a JSON value; raises as ``from_bytes``."""
        fields = Fields(value, "enrolment")
        fields.literal("type", ENROLMENT_TYPE)
        ima = fields.take("ima")
        # Recorded before there were updates: the last four are missing then.
        ahead = fields.object("next") if fields.has("next") and fields.given("next") else None
        retired = fields.array("retired", maximum=MAX_RETIRED) if fields.has("retired") else []
        guests = fields.array("guests", maximum=MAX_GUESTS) if fields.has("guests") else []
        try:
            enrolment = cls(
                host_id=fields.uuid("host_id"),
                ek_sha256=fields.hex("ek_sha256", 32),
                ak_public=fields.blob("ak_public", limit_bytes=MAX_AK_PUBLIC_BYTES),
                ssh_host_key=check_ssh_host_key(fields.text("ssh_host_key")),
                release_id=fields.hex("release_id", 32),
                baseline=_baseline(fields.object("baseline")),
                counters=TpmCounters.read(fields.object("counters")),
                ima=None if ima is None else ImaResume.read(Fields(ima, "enrolment.ima")),
                enrolled_at_s=fields.integer("enrolled_at"),
                accepted_at_s=fields.integer("accepted_at"),
                installed=fields.hex("installed", 32) if fields.has("installed") else b"",
                next=None if ahead is None else NextRelease.read(ahead),
                retired=tuple(fields.decode_hex("retired", item, 32) for item in retired),
                guests=tuple(GuestReference.read(Fields(item, "enrolment.guests")) for item in guests),
            )
        except UsageError as error:
            raise ParseError("enrolment", 0, error.message, code="parse.field.value") from None
        fields.done()
        return enrolment


def _baseline(fields: Fields) -> dict[int, bytes]:
    baseline = {index: fields.hex(str(index), 32) for index in FIRMWARE_PCRS if fields.has(str(index))}
    fields.done()
    return baseline

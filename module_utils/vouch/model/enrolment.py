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

from ..errors import ParseError, UsageError
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields, encode_base64
from .ima import ImaResume
from .key import check_ssh_host_key
from .statement import TpmCounters

ENROLMENT_TYPE = "urn:vouch:enrolment:1"

MAX_ENROLMENT_BYTES = 64 << 10
MAX_AK_PUBLIC_BYTES = 1024

FIRMWARE_PCRS = (0, 1, 2, 3, 5, 6, 7)
"""Registers of the firmware, its set-up and its Secure Boot state. PCR 4 is not among them: it is predicted."""

FIRST_BOOT_PCRS = (1, 5)
"""Registers that the installation itself changes (boot entry, partitions): the first accepted evidence pins them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """One enrolled host; immutable.

    Attributes:
        host_id: UUID the installer gave it.
        ek_sha256: SHA-256 of the endorsement key's SubjectPublicKeyInfo: names the TPM.
        ak_public: TPMT_PUBLIC of the attestation key that was activated for that endorsement key.
        ssh_host_key: Key of the host's SSH server, from the install proof.
        release_id: Release that was installed last.
        baseline: Firmware registers to their pinned values; those of ``FIRST_BOOT_PCRS`` may not be pinned yet.
        counters: TPM clock and counters of the last accepted evidence (of the installer's quote before any).
        ima: Where the measurement list was judged up to, or None.
        enrolled_at_s: Unix seconds.
        accepted_at_s: Unix seconds of the last accepted evidence; 0 before any.
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

    def __post_init__(self) -> None:
        if len(self.ek_sha256) != 32 or len(self.release_id) != 32:
            raise UsageError("endorsement key and release are named by SHA-256")
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

    def advanced(
        self, *, counters: TpmCounters, ima: ImaResume, pinned: Mapping[int, bytes], accepted_at_s: int
    ) -> Enrolment:
        """Return the enrolment after accepted evidence; values pinned before stay as they are."""
        return dataclasses.replace(
            self,
            counters=counters,
            ima=ima,
            baseline={**{index: pinned[index] for index in self.unpinned if index in pinned}, **self.baseline},
            accepted_at_s=accepted_at_s,
        )

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form, as stored."""
        return dump_canonical(
            {
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
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Enrolment:
        """Return the enrolment of its JSON form.

        Raises:
            ParseError: for an unknown, missing or malformed member.
        """
        fields = Fields(load_json(data, limit_bytes=MAX_ENROLMENT_BYTES), "enrolment")
        fields.literal("type", ENROLMENT_TYPE)
        ima = fields.take("ima")
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
            )
        except UsageError as error:
            raise ParseError("enrolment", 0, error.message, code="parse.field.value") from None
        fields.done()
        return enrolment


def _baseline(fields: Fields) -> dict[int, bytes]:
    baseline = {index: fields.hex(str(index), 32) for index in FIRMWARE_PCRS if fields.has(str(index))}
    fields.done()
    return baseline

# SPDX-License-Identifier: GPL-3.0-or-later
"""The appraisal policy: declared in one file, nothing in it learned, nothing accepted by default.

An unknown key is refused (a misspelt limit would otherwise not limit), and so is an empty set (it would mean either
everything or nothing, and readers differ on which).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..check.bootpcrs import MAX_FAILED_ATTEMPTS
from ..errors import ParseError, UsageError
from ..model.digest import PcrSelection, sha256
from ..model.key import PublicKey
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields

POLICY_TYPE = "urn:vouch:appraisal-policy:1"

MAX_POLICY_BYTES = 1 << 20
MAX_TTL_S = 24 * 60 * 60
"""A proof older than a day says nothing about now."""

MAX_ITEMS = 256
GUEST_MAX_AGE_S = 60
"""Light checks come every second, heavy ones twice a minute."""


NEEDED_PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14)
"""Boot, everything the boot aggregate is made of, the measurement list, the VM verifier's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """What one relying party demands of a host.

    Attributes:
        name: For people.
        ttl_s: Seconds a result counts after it was issued.
        release_keys: Who may sign host releases; never empty.
        releases: Ids (SHA-256 of the signed file) of the releases that are accepted; never empty. None accepts each
            release that one of ``release_keys`` signed, old ones with known holes included.
        installer_pcr4: PCR 4 of the trusted installers; never empty.
        retired: Ids of releases that no host may run any more, whoever signed them.
        max_failed_boot_attempts: Boot options that may have failed before xen.efi was started.
        allow_debug: Appraise a debug release at all; its verdict is then WARNING, never better.
        pcrs: Registers asked for; at least ``NEEDED_PCRS``.
        package_keys: Who may sign guest packages; empty: no guest is trusted.
        packages: Ids of the packages that are accepted; None accepts each that one of ``package_keys`` signed.
        guest_max_age_s: Seconds that the last check of a guest may lie back when its host answers.
    """

    name: str
    ttl_s: int
    release_keys: tuple[PublicKey, ...]
    installer_pcr4: tuple[bytes, ...]
    releases: tuple[bytes, ...] | None = None
    max_failed_boot_attempts: int = 0
    allow_debug: bool = False
    pcrs: tuple[int, ...] = NEEDED_PCRS
    package_keys: tuple[PublicKey, ...] = ()
    packages: tuple[bytes, ...] | None = None
    guest_max_age_s: int = GUEST_MAX_AGE_S
    retired: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.ttl_s <= MAX_TTL_S:
            raise _invalid(f"ttl_s runs from 1 to {MAX_TTL_S}")
        if not self.release_keys or not self.installer_pcr4:
            raise _invalid("release_keys and installer_pcr4 may not be empty")
        if self.releases is not None and not self.releases:
            raise _invalid("releases may not be empty; leave it out to accept every signed release")
        if self.packages is not None and not self.packages:
            raise _invalid("packages may not be empty; leave it out to accept every signed package")
        named = (*self.installer_pcr4, *self.retired, *(self.releases or ()), *(self.packages or ()))
        if any(len(item) != 32 for item in named):
            raise _invalid("releases, packages and registers are 32 bytes long")
        if not 1 <= self.guest_max_age_s <= MAX_TTL_S:
            raise _invalid(f"guest_max_age_s runs from 1 to {MAX_TTL_S}")
        if not 0 <= self.max_failed_boot_attempts <= MAX_FAILED_ATTEMPTS:
            raise _invalid(f"max_failed_boot_attempts runs from 0 to {MAX_FAILED_ATTEMPTS}")
        missing = set(NEEDED_PCRS) - set(self.pcrs)
        if missing:
            raise _invalid(f"pcrs lacks {sorted(missing)}: what is not quoted cannot be judged")
        _ = self.selection

    @property
    def selection(self) -> PcrSelection:
        """The registers a quote has to cover, no more and no less."""
        return PcrSelection("sha256", self.pcrs)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: keys as hex SubjectPublicKeyInfo, whatever form they were declared in."""
        return {
            "type": POLICY_TYPE,
            "name": self.name,
            "ttl_s": self.ttl_s,
            "release_keys": [key.spki.hex() for key in self.release_keys],
            "releases": None if self.releases is None else [item.hex() for item in self.releases],
            "installer_pcr4": [item.hex() for item in self.installer_pcr4],
            "max_failed_boot_attempts": self.max_failed_boot_attempts,
            "allow_debug": self.allow_debug,
            "pcrs": list(self.pcrs),
            "package_keys": [key.spki.hex() for key in self.package_keys],
            "packages": None if self.packages is None else [item.hex() for item in self.packages],
            "guest_max_age_s": self.guest_max_age_s,
            "retired": [item.hex() for item in self.retired],
        }

    def digest(self) -> bytes:
        """Return the SHA-256 that names this policy in results."""
        return sha256(dump_canonical(self.to_json()))

    @classmethod
    def from_bytes(cls, data: bytes) -> AppraisalPolicy:
        """Return the policy of a JSON file.

        Raises:
            UsageError: ``policy.invalid``, naming the member that is wrong.
        """
        try:
            return cls.from_json(load_json(data, limit_bytes=MAX_POLICY_BYTES))
        except ParseError as error:
            raise _invalid(error.message) from None

    @classmethod
    def from_json(cls, value: Any) -> AppraisalPolicy:
        """Return the policy of a JSON value (or of module arguments); raises ``UsageError``.

        Keys are PEM blocks or hex SubjectPublicKeyInfo. What has a default may be left out.
        """
        try:
            return cls._read(Fields(value, "policy"))
        except ParseError as error:
            raise _invalid(error.message) from None

    @classmethod
    def _read(cls, fields: Fields) -> AppraisalPolicy:
        fields.literal("type", POLICY_TYPE)
        releases, packages = (_optional_digests(fields, name) for name in ("releases", "packages"))
        keys = fields.array("package_keys", maximum=MAX_ITEMS) if fields.has("package_keys") else []
        debug = fields.take("allow_debug") if fields.has("allow_debug") else False
        if not isinstance(debug, bool):
            raise fields.fail("allow_debug", "is no boolean")
        pcrs = fields.array("pcrs", maximum=24) if fields.has("pcrs") else list(NEEDED_PCRS)
        if not all(type(item) is int for item in pcrs):
            raise fields.fail("pcrs", "holds something that is no register")
        attempts, age = "max_failed_boot_attempts", "guest_max_age_s"
        policy = cls(
            name=fields.text("name", maximum_chars=128),
            ttl_s=fields.integer("ttl_s", minimum=1, maximum=MAX_TTL_S),
            release_keys=tuple(_key(item, fields) for item in fields.array("release_keys", maximum=MAX_ITEMS)),
            releases=releases,
            installer_pcr4=_digests(fields.array("installer_pcr4", maximum=MAX_ITEMS), "installer_pcr4", fields),
            max_failed_boot_attempts=fields.integer(attempts) if fields.has(attempts) else 0,
            allow_debug=debug,
            pcrs=tuple(pcrs),
            package_keys=tuple(_key(item, fields) for item in keys),
            packages=packages,
            guest_max_age_s=fields.integer(age) if fields.has(age) else GUEST_MAX_AGE_S,
            retired=_digests(fields.array("retired", maximum=MAX_ITEMS), "retired", fields)
            if fields.has("retired")
            else (),
        )
        fields.done()
        return policy


def _digests(items: list[Any], name: str, fields: Fields) -> tuple[bytes, ...]:
    if len(items) > MAX_ITEMS:
        raise fields.fail(name, f"{len(items)} items, more than {MAX_ITEMS}")
    return tuple(fields.decode_hex(name, item, 32) for item in items)


def _optional_digests(fields: Fields, name: str) -> tuple[bytes, ...] | None:
    items = fields.take(name) if fields.has(name) else None
    if items is not None and not isinstance(items, list):
        raise fields.fail(name, "is no list")
    return None if items is None else _digests(items, name, fields)


def _key(item: Any, fields: Fields) -> PublicKey:
    if isinstance(item, str) and "BEGIN" in item:
        return PublicKey.from_pem(item)
    return PublicKey.from_der(fields.decode_hex("release_keys", item))


def _invalid(problem: str) -> UsageError:
    return UsageError(f"appraisal policy: {problem}", code="policy.invalid")

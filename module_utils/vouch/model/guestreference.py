# SPDX-License-Identifier: GPL-3.0-or-later
"""Which package a guest of a host is meant to run: the current one, the next one for a while, and those before.

Recorded when a guest is brought from one package to another (docs/updates.md). A guest that nothing is recorded of may
run each package that the policy accepts. Nothing here is learned from a running guest: packages are named by who
orders the update.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..parse.fields import Fields
from .gueststate import GUEST_ID, MAX_NAME_CHARS

MAX_RETIRED_PACKAGES = 32
"""Packages that one guest ran before. One that is forgotten is still not the expected one."""

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPackage:
    """A package that the guest may run besides its own, for a while.

    Attributes:
        package: Its id.
        until_s: Unix seconds; from then on it is not expected any more.
        accepted_at_s: Unix seconds of the last evidence by which the guest was affirming with it; 0 before any.
    """

    package: bytes
    until_s: int
    accepted_at_s: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"package": self.package.hex(), "until": self.until_s, "accepted_at": self.accepted_at_s}

    @classmethod
    def read(cls, fields: Fields) -> NextPackage:
        """Take the members of ``fields``."""
        found = cls(
            package=fields.hex("package", DIGEST_BYTES),
            until_s=fields.integer("until"),
            accepted_at_s=fields.integer("accepted_at"),
        )
        fields.done()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReference:
    """What one guest is meant to run.

    Attributes:
        guest: Its id on its host.
        package: Id of its package.
        next: Of an update that is being made, or None.
        retired: Packages that it ran before and must not run again, oldest first.
    """

    guest: str
    package: bytes
    next: NextPackage | None = None
    retired: tuple[bytes, ...] = ()

    def expecting(self, package: bytes, *, until_s: int) -> GuestReference:
        """Return what is recorded while the guest is brought to ``package``; the current one only ends a plan.

        Raises:
            UsageError: ``guest.package.retired``: the guest ran it before.
        """
        if package in self.retired:
            raise UsageError(
                f"guest {self.guest} ran package {package.hex()} before, and was updated since",
                code="guest.package.retired",
                hint="sign the older content as a new package",
            )
        if package == self.package:
            return dataclasses.replace(self, next=None)
        known = self.next if self.next is not None and self.next.package == package else None
        accepted_at_s = 0 if known is None else known.accepted_at_s
        ahead = NextPackage(package=package, until_s=until_s, accepted_at_s=accepted_at_s)
        return dataclasses.replace(self, next=ahead)

    def accepted(self, package: bytes, *, at_s: int) -> GuestReference:
        """Return what is recorded after evidence by which the guest is affirming with ``package``."""
        if self.next is None or self.next.package != package:
            return self
        return dataclasses.replace(self, next=dataclasses.replace(self.next, accepted_at_s=at_s))

    def updated(self, package: bytes) -> GuestReference:
        """Return what is recorded after the update: the package before is retired.

        Raises:
            UsageError: ``guest.package.unproven``: no evidence was accepted that the guest runs it.
        """
        if package == self.package:
            return dataclasses.replace(self, next=None)
        if self.next is None or self.next.package != package or not self.next.accepted_at_s:
            raise UsageError(
                f"no evidence was accepted that guest {self.guest} runs package {package.hex()}",
                code="guest.package.unproven",
                hint="appraise the host while the guest runs the new package",
            )
        retired = (*self.retired, self.package)[-MAX_RETIRED_PACKAGES:]
        return dataclasses.replace(self, package=package, next=None, retired=retired)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "guest": self.guest,
            "package": self.package.hex(),
            "next": None if self.next is None else self.next.to_json(),
            "retired": [item.hex() for item in self.retired],
        }

    @classmethod
    def read(cls, fields: Fields) -> GuestReference:
        """Take the members of ``fields``.

        Raises:
            ParseError: for an unknown, missing or malformed member.
        """
        ahead = fields.object("next") if fields.given("next") else fields.take("next")
        retired = fields.array("retired", maximum=MAX_RETIRED_PACKAGES)
        found = cls(
            guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
            package=fields.hex("package", DIGEST_BYTES),
            next=None if ahead is None else NextPackage.read(ahead),
            retired=tuple(fields.decode_hex("retired", item, DIGEST_BYTES) for item in retired),
        )
        fields.done()
        return found

# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a guest talks to: the criteria that the evidence of a peer has to meet.

===========================  =========================================================================
member                       meaning
===========================  =========================================================================
``hosts.installer_pcr4``     PCR 4 of the installers that may have written the peer's host
``hosts.releases``           ids of host releases that it may run
``hosts.release_keys``       ids of keys; it may run any host release that one of them signed
``hosts.enrolment_keys``     ids of keys; one of them must have signed the host's credential
``guests.names``             names of the guest packages that the peer may be
``guests.package_keys``      ids of keys; one of them must have signed the peer's package
===========================  =========================================================================

Either all lists are empty: the guest talks to nobody. Or each question has an answer: an installer, a release or a
key of releases, an enrolment authority, a name, a key of packages. Half an answer would let in what nobody thought of.

Source: Schiffman et al., ACSAC 2009, V-C (criteria of the application policy for remote systems).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ..errors import ParseError, shown
from ..parse.fields import Fields
from .image import NAME

MAX_ITEMS = 1024
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Criteria for peers; sets, in order.

    Attributes:
        installer_pcr4: PCR 4 of trusted installers.
        releases: Ids (SHA-256 of the signed file) of host releases.
        release_keys: Ids (SHA-256 of the SubjectPublicKeyInfo) of keys that sign host releases.
        enrolment_keys: Ids of keys that sign credentials of hosts: who enrolled the peer's host.
        names: Names of guest packages.
        package_keys: Ids of keys that sign guest packages.

    Raises:
        ParseError: when some questions have an answer and some have none.
    """

    installer_pcr4: tuple[bytes, ...] = ()
    releases: tuple[bytes, ...] = ()
    release_keys: tuple[bytes, ...] = ()
    enrolment_keys: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
    package_keys: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, tuple(sorted(set(getattr(self, field.name)))))
        hosts = (self.installer_pcr4, self.releases or self.release_keys, self.enrolment_keys)
        answers = (*hosts, self.names, self.package_keys)
        if any(answers) and not all(answers):
            raise ParseError(
                "guest-package.peers",
                0,
                "names an installer, a release or its key, an enrolment key, a guest's name and a key of packages, "
                "or nothing at all",
                code="parse.field.value",
            )

    @property
    def nobody(self) -> bool:
        """Whether the guest talks to no other guest."""
        return not self.names

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "hosts": {
                "installer_pcr4": _hex(self.installer_pcr4),
                "releases": _hex(self.releases),
                "release_keys": _hex(self.release_keys),
                "enrolment_keys": _hex(self.enrolment_keys),
            },
            "guests": {"names": list(self.names), "package_keys": _hex(self.package_keys)},
        }

    @classmethod
    def read(cls, reader: Fields) -> Peers:
        """Take the members of ``reader``."""
        hosts, guests = reader.object("hosts"), reader.object("guests")
        peers = cls(
            installer_pcr4=_digests(hosts, "installer_pcr4"),
            releases=_digests(hosts, "releases"),
            release_keys=_digests(hosts, "release_keys"),
            enrolment_keys=_digests(hosts, "enrolment_keys"),
            names=_names(guests, "names"),
            package_keys=_digests(guests, "package_keys"),
        )
        for part in (hosts, guests, reader):
            part.done()
        return peers


NOBODY = Peers()
"""What a guest has that talks to no other."""


def _hex(items: Iterable[bytes]) -> list[str]:
    return [item.hex() for item in items]


def _digests(reader: Fields, name: str) -> tuple[bytes, ...]:
    return tuple(reader.decode_hex(name, item, DIGEST_BYTES) for item in reader.array(name, maximum=MAX_ITEMS))


def _names(reader: Fields, name: str) -> tuple[str, ...]:
    found = reader.array(name, maximum=MAX_ITEMS)
    for item in found:
        if not isinstance(item, str) or NAME.fullmatch(item) is None:
            raise reader.fail(name, f"has a name we do not accept: {shown(item)}")
    return tuple(found)

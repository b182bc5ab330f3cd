# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolments wherever they are kept: a folder for one controller, the result store for several."""

from __future__ import annotations

from typing import Protocol

from ..model.enrolment import Enrolment
from .enrolments import EnrolmentStore
from .schema import open_store
from .sqlenrolments import SqlEnrolments


class Enrolments(Protocol):
    """What both can do; errors as ``EnrolmentStore`` documents them."""

    def find(self, host_id: str) -> Enrolment | None:
        """Return the enrolment of a host, or None."""
        ...

    def find_by_ek(self, ek_sha256: bytes) -> Enrolment | None:
        """Return the enrolment of the host with that TPM, or None."""
        ...

    def get(self, host_id: str) -> Enrolment:
        """Return the enrolment of a host, or raise."""
        ...

    def all(self) -> tuple[Enrolment, ...]:
        """Return every enrolment, by host id."""
        ...

    def add(self, enrolment: Enrolment) -> bool:
        """Return when the host is enrolled; says whether anything changed."""
        ...

    def update(self, old: Enrolment, new: Enrolment) -> None:
        """Replace ``old`` by ``new`` unless somebody else replaced it meanwhile."""
        ...

    def remove(self, host_id: str) -> bool:
        """Return when the host is not enrolled; says whether it was."""
        ...


def open_enrolments(place: str) -> Enrolments:
    """Return the enrolments at ``place``: the URL of a store, or a folder.

    Raises:
        UsageError: ``store.url``.
        UnreachableError: as ``open_store``; a store that is not there yet is made.
    """
    if "://" in place:
        return SqlEnrolments(open_store(place, make=True))
    return EnrolmentStore(place)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolments wherever they are kept: a folder for one controller, the result store for several."""

from __future__ import annotations

from typing import Protocol

from ..errors import UnreachableError
from ..model.enrolment import Enrolment
from .enrolments import EnrolmentStore, enrolment_missing
from .schema import open_store
from .sqlenrolments import SqlEnrolments

MISSING = "store.missing"


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


class NoEnrolments:
    """The enrolments of a store that is not there, for whoever must not make it: there are none, and none is kept."""

    def __init__(self, missing: UnreachableError) -> None:
        self._missing = missing

    def find(self, _host_id: str) -> Enrolment | None:
        """Return None."""
        return None

    def find_by_ek(self, _ek_sha256: bytes) -> Enrolment | None:
        """Return None."""
        return None

    def get(self, host_id: str) -> Enrolment:
        """Raise ``UsageError`` ``enrolment.missing``."""
        raise enrolment_missing(host_id, self._missing.message)

    def all(self) -> tuple[Enrolment, ...]:
        """Return none."""
        return ()

    def add(self, _enrolment: Enrolment) -> bool:
        """Raise ``UnreachableError`` ``store.missing``."""
        raise self._missing

    def update(self, _old: Enrolment, _new: Enrolment) -> None:
        """Raise ``UnreachableError`` ``store.missing``."""
        raise self._missing

    def remove(self, _host_id: str) -> bool:
        """Return False: the host is not enrolled."""
        return False


def open_enrolments(place: str, *, make: bool = True) -> Enrolments:
    """Return the enrolments at ``place``: the URL of a store, or a folder.

    Args:
        place: Where.
        make: Make a store that is not there yet.

    Raises:
        UsageError: ``store.url``.
        UnreachableError: as ``open_store``.
    """
    if "://" in place:
        return SqlEnrolments(open_store(place, make=make))
    return EnrolmentStore(place)


def peek_enrolments(place: str) -> Enrolments:
    """Return the enrolments at ``place`` for whoever only looks: a store that is not there has none, and is not made.

    Raises:
        UsageError: ``store.url``.
        UnreachableError: as ``open_store``, but for ``store.missing``.
    """
    try:
        return open_enrolments(place, make=False)
    except UnreachableError as error:
        if error.code != MISSING:
            raise
        return NoEnrolments(error)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolments in the result store: what ``enrolments.EnrolmentStore`` keeps in files, for several controllers at once.

The database holds what the folder holds by its lock: one TPM, one attestation key and one SSH host key belong to one
host, and an update replaces only what it was made from.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..errors import ParseError, UnreachableError, UsageError
from ..model.digest import sha256
from ..model.enrolment import Enrolment
from .database import Database
from .enrolments import check_same_identity, enrolment_missing, refuse_other_tpm, refuse_shared
from .tables import ENROLMENTS


class SqlEnrolments:
    """Enrolments of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, host_id: str) -> Enrolment | None:
        """Return the enrolment of a host, or None."""
        with self._database.reading() as connection:
            return _find(connection, host_id)

    def find_by_ek(self, ek_sha256: bytes) -> Enrolment | None:
        """Return the enrolment of the host with that TPM, or None."""
        query = select(ENROLMENTS.c.enrolment).where(ENROLMENTS.c.ek_sha256 == ek_sha256.hex())
        with self._database.reading() as connection:
            data = connection.execute(query).scalar_one_or_none()
        return None if data is None else _read(data)

    def get(self, host_id: str) -> Enrolment:
        """Return the enrolment of a host; raises ``UsageError`` ``enrolment.missing``."""
        found = self.find(host_id)
        if found is None:
            raise enrolment_missing(host_id, f"nothing of it is in {self._database.shown}")
        return found

    def all(self) -> tuple[Enrolment, ...]:
        """Return every enrolment, by host id."""
        query = select(ENROLMENTS.c.enrolment).order_by(ENROLMENTS.c.host_id)
        with self._database.reading() as connection:
            return tuple(_read(data) for data in connection.execute(query).scalars())

    def add(self, enrolment: Enrolment) -> bool:
        """Return when the host is enrolled; says whether anything changed. Raises as ``EnrolmentStore.add``."""
        row = _row(enrolment)
        with self._database.writing() as connection:
            known = _find(connection, enrolment.host_id)
            if known is not None:
                refuse_other_tpm(enrolment, known)
            if known == enrolment:
                return False
            try:
                with connection.begin_nested():
                    if known is None:
                        connection.execute(insert(ENROLMENTS).values(host_id=enrolment.host_id, **row))
                    else:
                        where = ENROLMENTS.c.host_id == enrolment.host_id
                        connection.execute(update(ENROLMENTS).where(where).values(**row))
            except IntegrityError:
                self._refuse(connection, enrolment, row)
        return True

    def update(self, old: Enrolment, new: Enrolment) -> None:
        """Replace ``old`` by ``new`` unless somebody else did meanwhile; raises as ``EnrolmentStore.update``."""
        check_same_identity(old, new)
        where = and_(ENROLMENTS.c.host_id == old.host_id, ENROLMENTS.c.enrolment == old.to_bytes())
        with self._database.writing() as connection:
            done = connection.execute(update(ENROLMENTS).where(where).values(**_row(new)))
            if done.rowcount != 1:
                raise UsageError(
                    f"the enrolment of {old.host_id} changed meanwhile", code="enrolment.changed", hint="appraise again"
                )

    def remove(self, host_id: str) -> bool:
        """Return when the host is not enrolled; says whether it was."""
        with self._database.writing() as connection:
            return connection.execute(delete(ENROLMENTS).where(ENROLMENTS.c.host_id == host_id)).rowcount > 0

    @staticmethod
    def _refuse(connection: Connection, enrolment: Enrolment, row: dict[str, Any]) -> None:
        shared = or_(*(ENROLMENTS.c[name] == row[name] for name in ("ek_sha256", "ak_sha256", "ssh_host_key")))
        query = select(ENROLMENTS.c.enrolment).where(and_(shared, ENROLMENTS.c.host_id != enrolment.host_id))
        for data in connection.execute(query).scalars():
            refuse_shared(enrolment, _read(data))
        raise UsageError(
            f"host {enrolment.host_id} was enrolled by somebody else just now", code="enrolment.changed"
        ) from None


def _row(enrolment: Enrolment) -> dict[str, Any]:
    return {
        "ek_sha256": enrolment.ek_sha256.hex(),
        "ak_sha256": sha256(enrolment.ak_public).hex(),
        "ssh_host_key": enrolment.ssh_host_key,
        "enrolment": enrolment.to_bytes(),
    }


def _find(connection: Connection, host_id: str) -> Enrolment | None:
    query = select(ENROLMENTS.c.enrolment).where(ENROLMENTS.c.host_id == host_id)
    data = connection.execute(query).scalar_one_or_none()
    return None if data is None else _read(data)


def _read(data: bytes) -> Enrolment:
    try:
        return Enrolment.from_bytes(bytes(data))
    except ParseError as error:
        raise UnreachableError(
            f"an enrolment in the store: {error.message}",
            code="enrolment.malformed",
            hint="restore it, or remove it and enrol again",
        ) from None

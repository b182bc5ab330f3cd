# SPDX-License-Identifier: GPL-3.0-or-later
"""The revisions of the store's schema, oldest first. One that was released is never changed: add another.

Together they lead to ``tables``; a test compares the two.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
)

_SERIAL = BigInteger().with_variant(Integer, "sqlite")


def _results(op: Operations) -> None:
    """Hosts, results, standings with their seals, events, enrolments."""
    op.create_table(
        "hosts",
        Column("host_id", String(36), nullable=False),
        Column("name", String(128), nullable=False),
        Column("added_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("host_id", name="pk_hosts"),
        UniqueConstraint("name", name="uq_hosts_name"),
    )
    op.create_table(
        "appraisals",
        Column("id", _SERIAL, autoincrement=True, nullable=False),
        Column("host_id", String(36), nullable=False),
        Column("issued_at", BigInteger, nullable=False),
        Column("result", LargeBinary, nullable=False),
        Column("ear", Text, nullable=False),
        Column("bundle", String(64), nullable=False),
        PrimaryKeyConstraint("id", name="pk_appraisals"),
        ForeignKeyConstraint(["host_id"], ["hosts.host_id"], name="fk_appraisals_host_id", ondelete="CASCADE"),
    )
    op.create_index("ix_appraisals_host_id_issued_at", "appraisals", ["host_id", "issued_at"])
    op.create_table(
        "seals",
        Column("id", _SERIAL, autoincrement=True, nullable=False),
        Column("envelope", LargeBinary, nullable=False),
        PrimaryKeyConstraint("id", name="pk_seals"),
    )
    op.create_table(
        "standings",
        Column("id", _SERIAL, autoincrement=True, nullable=False),
        Column("host_id", String(36), nullable=False),
        Column("guest", String(63), nullable=False),
        Column("verdict", String(16), nullable=False),
        Column("issued_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("standing", LargeBinary, nullable=False),
        Column("seal_id", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
        Column("seal_index", Integer, nullable=False),
        Column("seal_path", LargeBinary, nullable=False),
        PrimaryKeyConstraint("id", name="pk_standings"),
        ForeignKeyConstraint(["host_id"], ["hosts.host_id"], name="fk_standings_host_id", ondelete="CASCADE"),
        ForeignKeyConstraint(["seal_id"], ["seals.id"], name="fk_standings_seal_id"),
    )
    op.create_index("ix_standings_host_id_guest_id", "standings", ["host_id", "guest", "id"])
    op.create_table(
        "heads",
        Column("host_id", String(36), nullable=False),
        Column("guest", String(63), nullable=False),
        Column("standing_id", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
        PrimaryKeyConstraint("host_id", "guest", name="pk_heads"),
        ForeignKeyConstraint(["host_id"], ["hosts.host_id"], name="fk_heads_host_id", ondelete="CASCADE"),
        ForeignKeyConstraint(["standing_id"], ["standings.id"], name="fk_heads_standing_id", ondelete="CASCADE"),
    )
    op.create_table(
        "events",
        Column("id", _SERIAL, autoincrement=True, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("host_id", String(36), nullable=False),
        Column("subject", String(128), nullable=False),
        Column("kind", String(64), nullable=False),
        Column("code", String(128), nullable=False),
        Column("detail", Text, nullable=False),
        PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_host_id_id", "events", ["host_id", "id"])
    op.create_table(
        "enrolments",
        Column("host_id", String(36), nullable=False),
        Column("ek_sha256", String(64), nullable=False),
        Column("ak_sha256", String(64), nullable=False),
        Column("ssh_host_key", Text, nullable=False),
        Column("enrolment", LargeBinary, nullable=False),
        PrimaryKeyConstraint("host_id", name="pk_enrolments"),
        UniqueConstraint("ek_sha256", name="uq_enrolments_ek_sha256"),
        UniqueConstraint("ak_sha256", name="uq_enrolments_ak_sha256"),
        UniqueConstraint("ssh_host_key", name="uq_enrolments_ssh_host_key"),
    )


def _watches(op: Operations) -> None:
    """Which watch process looks after which host."""
    op.create_table(
        "watches",
        Column("host_id", String(36), nullable=False),
        Column("owner", String(64), nullable=False),
        Column("claimed_until", BigInteger, nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("state", String(16), nullable=False),
        Column("state_since", BigInteger, nullable=False),
        Column("window_until", BigInteger, nullable=False),
        PrimaryKeyConstraint("host_id", name="pk_watches"),
    )
    op.create_index("ix_watches_due_at", "watches", ["due_at"])


def _no_windows(op: Operations) -> None:
    """Until when a host may be away stands in its enrolment, with the update that it is for."""
    op.drop_column("watches", "window_until")


REVISIONS = (_results, _watches, _no_windows)

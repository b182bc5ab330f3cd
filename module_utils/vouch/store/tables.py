# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the store, as the newest revision of ``schema`` leaves them.

Times are Unix seconds, digests lower-case hexadecimal, what was signed or parsed once is kept byte for byte. Nothing
in a table is trusted because it is there: what steers plays is sealed (``check.seal``).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SERIAL = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column of exactly this type."""

HOSTS = Table(
    "hosts",
    METADATA,
    Column("host_id", String(36), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("added_at", BigInteger, nullable=False),
)

APPRAISALS = Table(
    "appraisals",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("host_id", ForeignKey("hosts.host_id", ondelete="CASCADE"), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("ear", Text, nullable=False),
    Column("bundle", String(64), nullable=False),
    Index(None, "host_id", "issued_at"),
)
"""Results as they were appraised. ``bundle`` names the evidence bundle; empty when none was kept."""

SEALS = Table(
    "seals",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("envelope", LargeBinary, nullable=False),
)

STANDINGS = Table(
    "standings",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("host_id", ForeignKey("hosts.host_id", ondelete="CASCADE"), nullable=False),
    Column("guest", String(63), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("standing", LargeBinary, nullable=False),
    Column("seal_id", ForeignKey("seals.id"), nullable=False),
    Column("seal_index", Integer, nullable=False),
    Column("seal_path", LargeBinary, nullable=False),
    Index(None, "host_id", "guest", "id"),
)
"""One row per subject and appraisal. The columns before ``standing`` are for queries; what counts is what is sealed."""

HEADS = Table(
    "heads",
    METADATA,
    Column("host_id", ForeignKey("hosts.host_id", ondelete="CASCADE"), primary_key=True),
    Column("guest", String(63), primary_key=True),
    Column("standing_id", ForeignKey("standings.id", ondelete="CASCADE"), nullable=False),
)
"""The last standing of each subject."""

EVENTS = Table(
    "events",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("host_id", String(36), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("code", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    Index(None, "host_id", "id"),
)
"""What happened, in order: changes of state, violations, updates. Kept also when the host is removed."""

ENROLMENTS = Table(
    "enrolments",
    METADATA,
    Column("host_id", String(36), primary_key=True),
    Column("ek_sha256", String(64), nullable=False, unique=True),
    Column("ak_sha256", String(64), nullable=False, unique=True),
    Column("ssh_host_key", Text, nullable=False, unique=True),
    Column("enrolment", LargeBinary, nullable=False),
)

WATCHES = Table(
    "watches",
    METADATA,
    Column("host_id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("claimed_until", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_since", BigInteger, nullable=False),
    Index(None, "due_at"),
)
"""Who watches which host: a claim that runs out by itself."""

# SPDX-License-Identifier: GPL-3.0-or-later
r"""The VM verifier's event log: CEL-JSON, one canonical object per line.

One line, ended by ``\n`` (shown in several)::

    {"content":{"event":"verifier.start",...},
     "content_type":"vouch",
     "digests":[{"digest":"<64 hex digits>","hashAlg":"sha256"}],
     "pcr":14,
     "recnum":0}

The digest is SHA-256 of the canonical JSON of ``content``; the register was extended by it. Whether digests, numbers
and register agree with anything is not looked at here but in ``check.eventlog14``.

Source: TCG Canonical Event Log Format 1.0 rev 0.41, 4 (records), 5.3 (JSON encoding); RFC 8785.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError
from .canonical import dump_canonical, load_canonical
from .fields import Fields

MAX_LOG_BYTES = 4 << 20
"""A start, launch or violation is some 300 bytes: room for ten thousand."""

MAX_RECORD_BYTES = 64 << 10
MAX_RECORDS = 65_536
MAX_CONTENT_DEPTH = 8

CONTENT_TYPE = "vouch"
HASH = "sha256"

_EVENT = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class CelRecord:
    """One event as logged; nothing in it is proven before a replay.

    Attributes:
        recnum: Number the record gives itself.
        pcr: Register it says it extended.
        digest: SHA-256 it says it extended.
        event: Name of the event, ``verifier.start`` for instance.
        content: All members of the content, ``event`` included.
        content_bytes: Canonical JSON of the content: what the digest is of.
        offset_bytes: Where the line begins.
    """

    recnum: int
    pcr: int
    digest: bytes
    event: str
    content: Mapping[str, Any]
    content_bytes: bytes
    offset_bytes: int


def parse_cel(data: bytes, *, max_records: int = MAX_RECORDS) -> tuple[CelRecord, ...]:
    """Return every record of a log; an empty log has none.

    Raises:
        ParseError: naming record and offset, for a line that is not one canonical record, an unended last line, or a
            log beyond the limits.

    Trust: ``data`` is the attester's.
    """
    if len(data) > MAX_LOG_BYTES:
        raise ParseError("cel", 0, f"{len(data)} bytes, more than {MAX_LOG_BYTES}", code="parse.too-large")
    if not data:
        return ()
    if not data.endswith(b"\n"):
        raise ParseError("cel", len(data), "the last line does not end", code="parse.truncated")
    lines = data[:-1].split(b"\n")
    if len(lines) > max_records:
        raise ParseError("cel", 0, f"{len(lines)} records, more than {max_records}", code="parse.too-large")
    records: list[CelRecord] = []
    at = 0
    for index, line in enumerate(lines):
        records.append(_record(line, index, at))
        at += len(line) + 1
    return tuple(records)


def encode_record(recnum: int, pcr: int, digest: bytes, content: Mapping[str, Any]) -> bytes:
    """Return the line of one record, its end included.

    Args:
        recnum: Its number, from 0.
        pcr: Register that is extended.
        digest: SHA-256 of ``dump_canonical(content)``.
        content: The event: ``event`` and its members.
    """
    return (
        dump_canonical(
            {
                "content": content,
                "content_type": CONTENT_TYPE,
                "digests": [{"digest": digest.hex(), "hashAlg": HASH}],
                "pcr": pcr,
                "recnum": recnum,
            }
        )
        + b"\n"
    )


def _record(line: bytes, index: int, at: int) -> CelRecord:
    try:
        return _read(line, at)
    except ParseError as error:
        # The reader of one line counts from its beginning; a person looks for the place in the whole log.
        raise ParseError(
            f"cel[{index}].{error.field}", at + error.offset_bytes, error.problem, code=error.code
        ) from None


def _read(line: bytes, at: int) -> CelRecord:
    fields = Fields(load_canonical(line, limit_bytes=MAX_RECORD_BYTES, max_depth=MAX_CONTENT_DEPTH), "record")
    fields.literal("content_type", CONTENT_TYPE)
    digests = fields.array("digests", maximum=1)
    if len(digests) != 1:
        raise fields.fail("digests", "a record has one digest")
    digest_fields = Fields(digests[0], "record.digests")
    digest_fields.literal("hashAlg", HASH)
    digest = digest_fields.hex("digest", 32)
    digest_fields.done()
    content = fields.take("content")
    event = Fields(content, "record.content").text("event", maximum_chars=64, pattern=_EVENT)
    record = CelRecord(
        recnum=fields.integer("recnum", maximum=MAX_RECORDS),
        pcr=fields.integer("pcr", maximum=23),
        digest=digest,
        event=event,
        content=MappingProxyType(content),
        content_bytes=dump_canonical(content),
        offset_bytes=at,
    )
    fields.done()
    return record

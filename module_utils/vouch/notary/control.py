# SPDX-License-Identifier: GPL-3.0-or-later
"""The dispatcher's control socket: what it is doing, and builds to be sealed.

=====================  =====================================================================================
request                result
=====================  =====================================================================================
``status`` {}          ``nodes``: addresses that may be used now; ``statements``, ``dropped``: counts
``objects`` {objects}  ``objects``: how many this connection named so far; digests, at most 800 a request
``seal`` {subjects}    ``parts``: list of ``name``, ``size``; subjects are a list of ``name``, ``sha256``
``part`` {name}        ``content``: of one part of what was sealed, base64
=====================  =====================================================================================

Frames and envelope are those of the ``vouch`` subsystem (docs/proof.md); the socket's mode says who may ask.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from ..errors import ParseError, UnreachableError, UsageError, VouchError
from ..model.image import MAX_SUBJECTS, NAME
from ..model.provenance import MAX_OBJECTS
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields, encode_base64
from ..parse.frame import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, FrameReader, encode_frame
from .journal import Journal
from .roster import Roster
from .sealing import Sealer

SOCKET = "/run/vouch/notary.sock"
MAX_REQUEST_OBJECTS = 800
MAX_WORD_CHARS = 128
CHUNK_BYTES = 1 << 16
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Control:
    """Serves connections of ``asyncio.start_unix_server``."""

    def __init__(self, *, roster: Roster, journal: Journal, sealer: Sealer) -> None:
        self._roster = roster
        self._journal = journal
        self._sealer = sealer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends or says something that is no request."""
        frames = FrameReader(limit_bytes=MAX_REQUEST_BYTES)
        session = _Session(self._roster, self._journal, self._sealer)
        try:
            while data := await reader.read(CHUNK_BYTES):
                frames.feed(data)
                while (body := frames.next_body()) is not None:
                    writer.write(await session.answer(body))
                    await writer.drain()
        except (ParseError, OSError):
            writer.transport.abort()
        finally:
            writer.close()


class _Session:
    """What one connection has named so far."""

    def __init__(self, roster: Roster, journal: Journal, sealer: Sealer) -> None:
        self._roster = roster
        self._journal = journal
        self._sealer = sealer
        self._objects: list[bytes] = []
        self._parts: dict[str, bytes] = {}

    async def answer(self, body: bytes) -> bytes:
        """Return the frame of the answer; raises ``ParseError`` for what is no request at all."""
        fields = Fields(load_canonical(body, limit_bytes=MAX_REQUEST_BYTES), "request")
        fields.literal("version", 1)
        ident = fields.text("id", maximum_chars=64, pattern=_ID)
        kind = fields.choice("request", "status", "objects", "seal", "part")
        head = {"version": 1, "id": ident}
        try:
            result = await self._result(kind, fields)
            return encode_frame(dump_canonical({**head, "ok": True, "result": result}), limit_bytes=MAX_RESPONSE_BYTES)
        except (ParseError, UsageError, UnreachableError) as error:
            return _error(head, error)

    async def _result(self, kind: str, fields: Fields) -> dict[str, Any]:
        if kind == "status":
            fields.done()
            nodes = sorted(self._roster.addresses)
            return {"nodes": nodes, "statements": len(self._journal), "dropped": self._journal.dropped}
        if kind == "objects":
            found = [
                fields.decode_hex("objects", item, 32) for item in fields.array("objects", maximum=MAX_REQUEST_OBJECTS)
            ]
            fields.done()
            if len(self._objects) + len(found) > MAX_OBJECTS:
                raise fields.fail("objects", f"more than {MAX_OBJECTS} objects")
            self._objects += found
            return {"objects": len(self._objects)}
        if kind == "seal":
            subjects = _subjects(fields)
            fields.done()
            self._parts = await self._sealer.seal(subjects, self._objects)
            return {"parts": [{"name": name, "size": len(content)} for name, content in sorted(self._parts.items())]}
        name = fields.text("name", maximum_chars=MAX_WORD_CHARS)
        fields.done()
        if name not in self._parts:
            raise fields.fail("name", "no such part was sealed")
        return {"content": encode_base64(self._parts[name])}


def _subjects(fields: Fields) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for item in fields.array("subjects", maximum=MAX_SUBJECTS):
        entry = Fields(item, "request.subjects")
        name = entry.text("name", pattern=NAME)
        if name in found:
            raise entry.fail("name", "stands twice")
        found[name] = entry.hex("sha256", 32)
        entry.done()
    return found


def _error(head: dict[str, Any], error: VouchError) -> bytes:
    body = dump_canonical({**head, "ok": False, "error": {"code": error.code, "message": error.message}})
    return encode_frame(body, limit_bytes=MAX_RESPONSE_BYTES)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The build's end of the control socket: name files and objects, take the provenance bundle away."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import ParseError, UnreachableError, UsageError
from ..make.provenance import write_provenance_bundle
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from ..parse.frame import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, FrameReader, encode_frame
from ..parse.provenancebundle import MAX_PARTS, part_limit
from ..port.files import file_digest
from .control import MAX_REQUEST_OBJECTS, SOCKET

ANSWER_LIMIT_S = 480.0
"""The dispatcher waits for its host (``sealing.OWN_LIMIT_S``)."""

CHUNK_BYTES = 1 << 16


def seal_build(subjects: Sequence[str], objects: Sequence[str], *, path: str = SOCKET) -> bytes:
    """Return the provenance bundle of files, made of object files.

    Args:
        subjects: Paths of the files that were built; named in the statement by their last part.
        objects: Paths of the object files.
        path: The dispatcher's control socket.

    Raises:
        UsageError: ``seal.names``, two files of one name.
        UnreachableError: ``files.missing``, ``files.unreadable``; of the dispatcher ``seal.unreachable``,
            ``seal.answer``, ``seal.refused``.
    """
    named = {os.path.basename(subject): file_digest(subject) for subject in subjects}
    if len(named) != len(subjects):
        raise UsageError("two of the files have one name", code="seal.names")
    digests = [file_digest(name) for name in objects]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_LIMIT_S)
        try:
            connection.connect(path)
            client = _Client(connection)
            for begin in range(0, len(digests), MAX_REQUEST_OBJECTS):
                client.ask("objects", objects=[item.hex() for item in digests[begin : begin + MAX_REQUEST_OBJECTS]])
            listed = client.ask("seal", subjects=[{"name": n, "sha256": d.hex()} for n, d in named.items()])
            return write_provenance_bundle(dict(_parts(client, listed)))
        except OSError as error:
            raise UnreachableError(f"{path}: {error.strerror or error}", code="seal.unreachable") from None
        except ParseError as error:
            raise UnreachableError(f"what the dispatcher answers is wrong: {error}", code="seal.answer") from None


def _parts(client: _Client, listed: Fields) -> Iterator[tuple[str, bytes]]:
    for item in listed.array("parts", maximum=MAX_PARTS):
        name = Fields(item, "part").text("name")
        yield name, client.ask("part", name=name).blob("content", limit_bytes=part_limit(name) or 0)


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def ask(self, request: str, **members: Any) -> Fields:
        """Return the result of one request."""
        body = dump_canonical({"version": 1, "id": request, "request": request, **members})
        self._connection.sendall(encode_frame(body, limit_bytes=MAX_REQUEST_BYTES))
        frames = FrameReader(limit_bytes=MAX_RESPONSE_BYTES)
        while (answer := frames.next_body()) is None:
            if not (data := self._connection.recv(CHUNK_BYTES)):
                raise ConnectionError("the dispatcher hung up")
            frames.feed(data)
        fields = Fields(load_canonical(answer, limit_bytes=MAX_RESPONSE_BYTES), "answer")
        if fields.take("ok") is True:
            return fields.object("result")
        error = fields.object("error")
        code, message = error.text("code"), error.text("message", empty=True)
        raise UnreachableError(f"the dispatcher refuses: {message} ({code})", code="seal.refused")

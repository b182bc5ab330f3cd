# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build made, given out: the built files and their provenance bundle in one tar (``parse.buildresult``).

Whoever connects is sent the tar and nothing else, and is not read from: there is nothing to ask. So the service may be
declared for anybody, and what comes out of it is believed for its provenance alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from ..errors import UsageError
from ..make.bundle import write_tar
from ..parse.buildresult import BUILD_RESULT_TYPE, FAILED, FILES, PROVENANCE, part_limit
from ..port.files import read_bounded

RESULT_PORT = 3634
MAX_READERS = 4
SEND_LIMIT_S = 60.0


def result_of(files: Sequence[str], provenance: bytes) -> bytes:
    """Return the tar of built files and the provenance bundle about them.

    Args:
        files: Their paths; in the tar they are named by the last part.
        provenance: The bundle.

    Raises:
        UsageError: ``result.part``, a file has no name that a result may have, or a part is too long.
        UnreachableError: a file cannot be read.
    """
    parts = {PROVENANCE: provenance}
    for path in files:
        name = f"{FILES}/{os.path.basename(path)}"
        limit = part_limit(name)
        if limit is None or name in parts:
            raise UsageError(f"{path} cannot stand in a result", code="result.part")
        parts[name] = read_bounded(path, limit_bytes=limit)
    if len(provenance) > (part_limit(PROVENANCE) or 0):
        raise UsageError(f"the provenance bundle has {len(provenance)} bytes", code="result.part")
    return write_tar(BUILD_RESULT_TYPE, parts)


def failure_of(code: str) -> bytes:
    """Return what is given out in place of a result: one line."""
    return FAILED + code.encode() + b"\n"


async def serve_result(result: bytes, *, port: int = RESULT_PORT, address: str = "::") -> None:
    """Send ``result`` to whoever connects, for ever; who is slow is dropped after a minute.

    Raises:
        OSError: the port is taken.
    """
    readers = 0

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal readers
        if readers >= MAX_READERS:
            writer.transport.abort()
            return
        readers += 1
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                writer.write(result)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except OSError:  # and TimeoutError
            writer.transport.abort()
        finally:
            readers -= 1

    server = await asyncio.start_server(send, address, port)
    async with server:
        await server.serve_forever()

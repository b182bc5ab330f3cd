# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build gives out: the tar, and who gets it."""

from __future__ import annotations

import asyncio
import pathlib
import socket

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.notary import results
from ansible.module_utils.vouch.notary.results import result_of, serve_result
from ansible.module_utils.vouch.parse.buildresult import parse_build_result

from notaryparts import free_port


def test_files_and_bundle_in_one_tar(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app").write_bytes(b"program")
    found = parse_build_result(result_of([str(tmp_path / "app")], b"bundle"))
    assert (found.files, found.provenance) == ({"app": b"program"}, b"bundle")


def test_files_that_cannot_stand_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError):
        result_of([str(tmp_path / "missing")], b"")
    (tmp_path / "a b").write_bytes(b"")
    (tmp_path / "app").write_bytes(b"")
    for files in (["a b"], ["app", "app"]):
        with pytest.raises(UsageError) as caught:
            result_of([str(tmp_path / name) for name in files], b"")
        assert caught.value.code == "result.part"


async def fetched(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read()
    finally:
        writer.close()


async def tried(port: int) -> bytes:
    """Return what was sent, or nothing where the connection was broken off."""
    try:
        return await asyncio.wait_for(fetched(port), 20)
    except ConnectionError:
        return b""


async def up(port: int) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.01)


def test_whoever_connects_is_sent_it() -> None:
    async def scenario() -> None:
        port, result = free_port(), bytes(range(256)) * 4096
        serving = asyncio.ensure_future(serve_result(result, port=port, address="127.0.0.1"))
        await up(port)
        assert await asyncio.wait_for(asyncio.gather(fetched(port), fetched(port)), 20) == [result, result]
        serving.cancel()

    asyncio.run(scenario())


def test_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        port, result = free_port(), bytes(32 << 20)
        serving = asyncio.ensure_future(serve_result(result, port=port, address="127.0.0.1"))
        await up(port)
        idle = [await asyncio.open_connection("127.0.0.1", port, limit=1) for _ in range(results.MAX_READERS)]
        assert await tried(port) == b"", "one more than are served"
        while await tried(port) != result:
            await asyncio.sleep(0.05)
        for _, writer in idle:
            writer.close()
        serving.cancel()

    monkeypatch.setattr(results, "SEND_LIMIT_S", 0.5)
    asyncio.run(scenario())

# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: both notaries as processes, a job through them, a build sealed, and an end at SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from ansible.module_utils.vouch.cli.verify import UNANCHORED
from ansible.module_utils.vouch.cli.verify import main as verify
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary.__main__ import main
from ansible.module_utils.vouch.notary.jobio import read_answer, read_request
from ansible.module_utils.vouch.parse.distcc import encode_answer, encode_request

from notaryparts import compile_by_hash, free_port, unlimited
from sim.portauthority import SimAuthority, SimGuest, accepted_with

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = "import sys; from vouch.notary.__main__ import main; sys.exit(main(sys.argv[1:]))"


@contextlib.asynccontextmanager
async def started(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Hold a notary until its listening line was said; it ends by SIGTERM, with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, *words),
        env={"PYTHONPATH": str(ROOT / "module_utils"), "PATH": "/usr/bin:/bin"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    line = await process.stderr.readline()
    assert b"work key" in line, line + await process.stderr.read()
    try:
        yield process
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def job(port: int, source: bytes) -> bytes:
    """Return the object of a job."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(encode_request(("gcc", "-c", "a.c"), source))
    answer = await read_answer(reader, unlimited(), notarised=False)
    writer.close()
    assert answer.status == 0, answer.stderr
    return answer.object


async def compiler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stand in for distccd."""
    writer.write(encode_answer(compile_by_hash(await read_request(reader, unlimited()))))
    writer.close()


def test_from_a_job_to_a_bundle(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        now_s = int(time.time())
        node, controller = SimGuest("node1", "127.0.0.2", now_s=now_s), SimGuest("control", "fd00::1", now_s=now_s)
        authorities = [
            SimAuthority(guest, str(tmp_path / f"{guest.guest}.sock"), time.time) for guest in (node, controller)
        ]
        for authority in authorities:
            await authority.start()
        authorities[1].peers = [node.listed(now_s)]
        authorities[1].accepted[controller.address] = accepted_with(controller, controller, now_s)
        backend = await asyncio.start_server(compiler, "127.0.0.2", 0)
        port, node_port = free_port(), free_port("127.0.0.2")
        control = str(tmp_path / "notary.sock")
        node_words = (
            *("node", "--authority", authorities[0].path, "--listen", "127.0.0.2", "--port", str(node_port)),
            *("--backend", "127.0.0.2", "--backend-port", str(backend.sockets[0].getsockname()[1])),
            *("--compiler", sys.executable),
        )
        dispatch_words = (
            *("dispatch", "--authority", authorities[1].path, "--port", str(port), "--node-port", str(node_port)),
            *("--control", control, "--wait", "10"),
        )
        async with started(*node_words), started(*dispatch_words):
            assert stat.S_IMODE(os.stat(control).st_mode) == 0o660
            made = await job(port, b"int a;")
            assert made == sha256(b"int a;")
            (tmp_path / "a.o").write_bytes(made)
            (tmp_path / "app").write_bytes(b"app of " + made)
            out = str(tmp_path / "build.tar")
            words = ["seal", "--control", control, "--out", out, "--file", str(tmp_path / "app"), str(tmp_path / "a.o")]
            assert await asyncio.to_thread(main, words) == 0
            # A second dispatcher takes the place of a socket that was left, not of one's port.
            (tmp_path / "b.o").write_bytes(b"made elsewhere")
            assert await asyncio.to_thread(main, [*words[:-1], str(tmp_path / "b.o")]) == 1
            assert await asyncio.to_thread(main, list(dispatch_words)) == 1
        assert verify([out, "--file", str(tmp_path / "app")]) == UNANCHORED
        for authority in authorities:
            authority.stop()
        backend.close()

    asyncio.run(scenario())


def test_a_node_whose_work_key_is_not_endorsed_yet(tmp_path: pathlib.Path) -> None:
    """It serves plain clients; what has to be notarised gets no answer."""

    async def scenario() -> None:
        backend = await asyncio.start_server(compiler, "127.0.0.2", 0)
        port = free_port("127.0.0.2")
        words = (
            *("node", "--authority", str(tmp_path / "none.sock"), "--listen", "127.0.0.2", "--port", str(port)),
            *("--wait", "0", "--backend", "127.0.0.2", "--backend-port", str(backend.sockets[0].getsockname()[1])),
            *("--compiler", sys.executable),
        )
        async with started(*words):
            for nonce, answered in ((None, True), (bytes(32), False)):
                reader, writer = await asyncio.open_connection("127.0.0.2", port)
                writer.write(encode_request(("gcc",), b"x", nonce))
                assert bool(await reader.read(4)) is answered
                writer.close()
        backend.close()

    asyncio.run(scenario())


def test_a_node_is_reached_by_both_versions_of_ip(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        backend = await asyncio.start_server(compiler, "127.0.0.2", 0)
        port = free_port()
        words = (
            *("node", "--authority", str(tmp_path / "none.sock"), "--listen", "::", "--port", str(port)),
            *("--backend", "127.0.0.2", "--backend-port", str(backend.sockets[0].getsockname()[1])),
            *("--compiler", sys.executable),
        )
        async with started(*words):
            for address in ("127.0.0.1", "::1"):
                reader, writer = await asyncio.open_connection(address, port)
                writer.write(encode_request(("gcc",), b"x"))
                assert await reader.read(4)
                writer.close()
        backend.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("words", [[], ["other"], ["seal"], ["node", "--port", "x"]])
def test_wrong_options(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_what_cannot_start(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "--compiler", str(tmp_path / "none")]) == 1
    assert main(["dispatch", "--port", "0", "--control", str(tmp_path / "none" / "s")]) == 1
    told = capsys.readouterr().err
    assert "compilers.none" in told
    assert "notary.listen" in told


def test_it_needs_only_python_and_cryptography() -> None:
    """What every guest that compiles has to carry."""
    program = (
        "import sys; import cryptography.hazmat.primitives.serialization; "
        "before = set(sys.modules); import vouch.notary.__main__; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "module_utils"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {"vouch", "cryptography"}

# SPDX-License-Identifier: GPL-3.0-or-later
"""Real distcc, distccd and gcc around dispatcher and notaries: objects equal those of a local build, bit for bit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary.compilers import PATTERNS, measure_compilers

from notaryparts import Farm, client_environment, distccd, farm, missing_programs, run
from sim.portauthority import SimAuthority, SimGuest

ROOT = pathlib.Path(__file__).resolve().parents[3]

SOURCE = """
#include <stdio.h>
#include <string.h>
struct item {{ int key; char name[16]; }};
static struct item table[{number} + 3];
int fill_{number}(const char *name)
{{
    for (int i = 0; i < {number} + 3; i++) {{
        table[i].key = i * {number};
        strncpy(table[i].name, name, sizeof table[i].name - 1);
    }}
    return printf("%s %d\\n", table[1].name, table[2].key);
}}
"""


@pytest.fixture(autouse=True)
def programs() -> None:
    """Skip where distcc or gcc is missing, fail where CI says that they must be there."""
    missing = missing_programs()
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.asynccontextmanager
async def real_farm(
    folder: pathlib.Path, addresses: tuple[str, ...] = ("127.0.0.2", "127.0.0.3")
) -> AsyncIterator[Farm]:
    """Hold a dispatcher and nodes, each with a distccd of its own."""
    compilers = measure_compilers()
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(farm(folder, wait_limit_s=1.0))
        for address in addresses:
            backend = await stack.enter_async_context(distccd(address, folder))
            await site.add_node(address, backend=backend, compilers=compilers)
        yield site


def sources(folder: pathlib.Path, count: int) -> list[str]:
    """Write C files; return their names."""
    names = [f"part{number}.c" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_text(SOURCE.format(number=number))
    return names


def compiling(site: Farm, folder: pathlib.Path) -> Callable[..., Coroutine[Any, Any, tuple[int, str]]]:
    """Return what runs distcc in ``folder``."""
    environment = client_environment(site.port, folder / ".distcc")

    async def compile_one(name: str, *options: str) -> tuple[int, str]:
        command = ("distcc", "gcc", "-O2", *options, "-c", name, "-o", name.replace(".c", ".o"))
        return await run(command, folder=folder, environment=environment)

    return compile_one


async def locally(folder: pathlib.Path, name: str, *options: str) -> bytes:
    """Return the object that gcc makes here."""
    # distcc replaces "gcc" by its name with the target: the same program.
    out = folder / "local.o"
    command = ("gcc", "-O2", *options, "-c", name, "-o", str(out))
    assert (await run(command, folder=folder, environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}))[0] == 0
    return out.read_bytes()


@pytest.mark.parametrize("options", [(), ("-fPIC", "-Wall", "-funroll-loops")], ids=["plain", "shared"])
def test_objects_are_those_of_a_local_build(tmp_path: pathlib.Path, options: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with real_farm(tmp_path) as site:
            names = sources(tmp_path, 8)
            compile_one = compiling(site, tmp_path)
            done = await asyncio.gather(*(compile_one(name, *options) for name in names))
            assert done == [(0, "")] * len(names)
            made = [(tmp_path / name.replace(".c", ".o")).read_bytes() for name in names]
            assert made == [await locally(tmp_path, name, *options) for name in names]
            entries = list(site.journal.of_objects(sha256(content) for content in made))
            assert {entry.verified.work_key.owner.guest for entry in entries} == {"node1", "node2"}
            compilers = entries[0].verified.job.compilers
            assert any(path.endswith("/cc1") for path in compilers)
            for path, digest in compilers.items():
                assert sha256(pathlib.Path(path).read_bytes()) == digest
            sources_of = {entry.verified.job.arguments[-1] for entry in entries}
            assert sources_of == {name.replace(".c", ".o") for name in names}

    asyncio.run(scenario())


def test_a_source_that_does_not_compile(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with real_farm(tmp_path, ("127.0.0.2",)) as site:
            (tmp_path / "bad.c").write_text("int x = ;\n")
            code, told = await compiling(site, tmp_path)("bad.c")
            assert code == 1
            assert "bad.c:1:9: error: expected expression" in told
            assert len(site.journal) == 1
            assert not (tmp_path / "bad.o").exists()

    asyncio.run(scenario())


def long_source(folder: pathlib.Path) -> str:
    """Write a file whose thousands of initialisers keep a compiler busy for a second, on any machine."""
    rows = ",".join(f"{{{n}, &t[{n}]}}" for n in range(60_000))
    (folder / "long.c").write_text(f"struct s {{ int n; struct s *p; }}; struct s t[60000] = {{{rows}}};\n")
    return "long.c"


@contextlib.asynccontextmanager
async def node_process(site: Farm, folder: pathlib.Path, backend: tuple[str, int]) -> AsyncIterator[Process]:
    """Hold a node's notary that is a process of its own, and accepted."""
    guest = SimGuest("node1", backend[0], now_s=int(time.time()))
    authority = SimAuthority(guest, str(folder / "node1.sock"), time.time)
    await authority.start()
    site.closing.callback(authority.stop)
    program = "import sys; from vouch.notary.__main__ import main; sys.exit(main(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "node", "--authority", authority.path, "--listen", backend[0]),
        *("--port", str(site.node_port), "--backend", backend[0], "--backend-port", str(backend[1])),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "module_utils")},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        assert b"work key" in await process.stderr.readline()
        site.authority.peers.append(guest.listed(int(time.time())))
        await site.settle()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("victim", ["notary", "distccd"])
def test_a_node_that_is_killed_in_mid_job(tmp_path: pathlib.Path, victim: str) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            site = await stack.enter_async_context(farm(tmp_path, wait_limit_s=20.0))
            daemon = await stack.enter_async_context(contextlib.AsyncExitStack())
            backend = await daemon.enter_async_context(distccd("127.0.0.2", tmp_path))
            process = await stack.enter_async_context(node_process(site, tmp_path, backend))
            name = long_source(tmp_path)
            job = asyncio.create_task(compiling(site, tmp_path)(name))
            async with asyncio.timeout(20):
                while not any(seat.leases for seat in site.roster._seats.values()):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert not job.done()
            if victim == "notary":
                process.kill()
            else:
                await daemon.aclose()
            second = await stack.enter_async_context(distccd("127.0.0.3", tmp_path))
            await site.add_node("127.0.0.3", backend=second)
            assert await job == (0, "")
            assert (tmp_path / "long.o").read_bytes() == await locally(tmp_path, name)
            assert any("127.0.0.2 was lost" in line for line in site.said)
            (entry,) = site.journal.of_objects([sha256((tmp_path / "long.o").read_bytes())])
            assert entry.address == "127.0.0.3"

    asyncio.run(scenario())


def test_the_client_never_compiles_by_itself(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1) as site:
            (name,) = sources(tmp_path, 1)
            code, told = await compiling(site, tmp_path)(name)
            assert code == 116
            assert "vouch: no attested node" in told
            assert not (tmp_path / "part0.o").exists()

    asyncio.run(scenario())


def test_a_plain_client_of_a_node_gets_the_plain_answer(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with real_farm(tmp_path, ("127.0.0.2",)) as site:
            (name,) = sources(tmp_path, 1)
            environment = client_environment(site.port, tmp_path / ".distcc")
            environment["DISTCC_HOSTS"] = f"127.0.0.2:{site.node_port}"
            command = ("distcc", "gcc", "-O2", "-c", name, "-o", "part0.o")
            assert await run(command, folder=tmp_path, environment=environment) == (0, "")
            assert (tmp_path / "part0.o").read_bytes() == await locally(tmp_path, name)
            assert len(site.journal) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("form", [",lzo", ",lzo,cpp"])
def test_compression_and_pump_mode_are_refused(tmp_path: pathlib.Path, form: str) -> None:
    async def scenario() -> None:
        async with real_farm(tmp_path, ("127.0.0.2",)) as site:
            (name,) = sources(tmp_path, 1)
            environment = client_environment(site.port, tmp_path / ".distcc")
            environment["DISTCC_HOSTS"] += form
            command = ("distcc", "gcc", "-O2", "-c", name, "-o", "part0.o")
            code, _ = await run(command, folder=tmp_path, environment=environment)
            assert code != 0
            if "cpp" not in form:
                assert any("distcc.version" in line for line in site.said)

    asyncio.run(scenario())


def test_the_compilers_of_this_machine_are_found() -> None:
    found = measure_compilers(PATTERNS)
    assert any(re.search(r"/cc1\Z", path) for path in found)
    assert all(os.path.realpath(path) == path for path in found)

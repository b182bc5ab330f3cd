# SPDX-License-Identifier: GPL-3.0-or-later
"""What provenance costs: one build through distcc alone, and through dispatcher and notary, in turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator

from .harness import ROOT, Measured, NotMeasuredError, at_most, row, use_tests

FILES, MANY_FILES, FUNCTIONS = 16, 162, 18
PAIRS = 5
JOBS = 2
NOTARIES = ("node", "dispatch")


BASELINE = "the same build, distcc straight to distccd, in turn"


@row("provenance.overhead", "ratio", target=at_most(1.15), baseline=BASELINE)
def provenance_overhead() -> Measured:
    """Wall time of a build whose every object has a verified statement, through that of the same build without."""
    return _overhead(FILES)


@row("provenance.overhead.large", "ratio", target=at_most(1.0365), baseline=BASELINE, slow=True)
def provenance_overhead_large() -> Measured:
    """The same of a project of more than 60,000 lines."""
    return _overhead(MANY_FILES)


def _overhead(files: int) -> Measured:
    use_tests()
    from notaryparts import missing_programs

    missing = [*missing_programs()]
    if missing:
        raise NotMeasuredError(f"not installed: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="vouch-bench-") as folder:
        return asyncio.run(_measure(pathlib.Path(folder), files))


async def _measure(folder: pathlib.Path, files: int) -> Measured:
    from notaryparts import distccd

    from .cproject import write_project

    project = folder / "project"
    lines = write_project(project, files=files, functions=FUNCTIONS)
    async with distccd("127.0.0.2", folder, jobs=JOBS) as backend, _notaries(folder, backend) as (port, pids):
        plain = f"{backend[0]}:{backend[1]}"
        await _build(project, folder, plain)
        wanted = _objects(project)
        await _build(project, folder, f"127.0.0.1:{port}")
        if _objects(project) != wanted:
            raise RuntimeError("the two ways make different objects")
        pairs = []
        worked_s = _processor_s(pids)
        for _ in range(PAIRS):
            without = await _build(project, folder, plain)
            pairs.append((await _build(project, folder, f"127.0.0.1:{port}"), without))
        each_ms = (_processor_s(pids) - worked_s) * 1000 / PAIRS / (files + 1)
    ratio = statistics.median(with_it / without for with_it, without in pairs)
    seconds, baseline = (statistics.median(side) for side in zip(*pairs, strict=True))
    note = (
        f"median of {PAIRS} pairs of builds: {seconds:.2f} s and {baseline:.2f} s; {files + 1} files, {lines:,} lines, "
        f"make -j{JOBS}, one node; {each_ms:.1f} ms of processor time a job in both "
        "notaries; client, dispatcher, notary, distccd and compiler share the machine"
    )
    return Measured(value=ratio, baseline_value=1.0, note=note)


@contextlib.asynccontextmanager
async def _notaries(folder: pathlib.Path, backend: tuple[str, int]) -> AsyncIterator[tuple[int, list[int]]]:
    """Hold a node's notary and a dispatcher, processes of their own as in guests, between simulated authorities.

    Yields the dispatcher's port, and the two process ids.
    """
    from notaryparts import free_port
    from sim.portauthority import SimAuthority, SimGuest

    node = SimGuest("node1", backend[0], now_s=int(time.time()))
    controller = SimGuest("control", "fd00::1", now_s=int(time.time()))
    authorities = [SimAuthority(guest, str(folder / f"{guest.guest}.sock"), time.time) for guest in (node, controller)]
    authorities[1].peers = [node.listed(int(time.time()), ttl_s=3600)]
    port, node_port = free_port(), free_port(backend[0])
    options = {
        "node": (*("--listen", backend[0], "--port", str(node_port)), *_backend(backend)),
        "dispatch": ("--port", str(port), "--node-port", str(node_port), "--control", str(folder / "notary.sock")),
    }
    running = []
    try:
        for authority, verb in zip(authorities, NOTARIES, strict=True):
            await authority.start()
            program = "import sys; from vouch.notary.__main__ import main; sys.exit(main(sys.argv[1:]))"
            running.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", program, verb, "--authority", authority.path, "--slots", str(JOBS)),
                    *options[verb],
                    env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "module_utils")},
                    stderr=(folder / f"{verb}.log").open("wb"),
                )
            )
        for address, number in ((backend[0], node_port), ("127.0.0.1", port)):
            await _listening(address, number)
        yield port, [process.pid for process in running]
    finally:
        for process in running:
            if process.returncode is None:
                process.terminate()
            await process.wait()
        for authority in authorities:
            authority.stop()


def _backend(backend: tuple[str, int]) -> tuple[str, ...]:
    return ("--backend", backend[0], "--backend-port", str(backend[1]))


async def _listening(address: str, port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise NotMeasuredError(f"nothing listens on {address}:{port}")


async def _build(project: pathlib.Path, folder: pathlib.Path, host: str) -> float:
    """Return the seconds of a build from nothing, every object by ``host``."""
    from notaryparts import client_environment, run

    for path in (*project.glob("*.o"), project / "app"):
        path.unlink(missing_ok=True)
    environment = client_environment(0, folder / "distcc")
    environment["DISTCC_HOSTS"] = f"{host}/{JOBS}"
    began = time.monotonic()
    code, told = await run(("make", f"-j{JOBS}", "CC=distcc gcc"), folder=project, environment=environment)
    seconds = time.monotonic() - began
    if code:
        logs = "".join((folder / f"{verb}.log").read_text() for verb in NOTARIES)
        raise RuntimeError(f"{told[-2000:]}\n{logs[-2000:]}")
    return seconds


def _processor_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _objects(project: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.glob("*.o")}

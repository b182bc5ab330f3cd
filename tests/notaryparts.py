# SPDX-License-Identifier: GPL-3.0-or-later
"""A dispatcher, its nodes, and simulated port authorities around them, on the loopback of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary.authority import AuthorityClient, Bell
from ansible.module_utils.vouch.notary.control import Control
from ansible.module_utils.vouch.notary.dispatch import Dispatcher
from ansible.module_utils.vouch.notary.jobio import Budget, Share, read_answer, read_request
from ansible.module_utils.vouch.notary.journal import Journal
from ansible.module_utils.vouch.notary.node import NodeNotary
from ansible.module_utils.vouch.notary.roster import Roster
from ansible.module_utils.vouch.notary.sealing import Sealer
from ansible.module_utils.vouch.notary.signer import WorkSigner
from ansible.module_utils.vouch.notary.standing import StandingKeeper
from ansible.module_utils.vouch.parse.distcc import DistccAnswer, DistccRequest, encode_answer, encode_request

from sim.portauthority import SimAuthority, SimGuest, accepted_with

COMPILERS = {"/usr/bin/gcc": sha256(b"gcc")}
Compile = Callable[[DistccRequest], DistccAnswer]


def compile_by_hash(request: DistccRequest) -> DistccAnswer:
    """Stand in for a compiler: the object is the source's digest; a source ``error`` does not compile."""
    if request.source == b"error":
        return DistccAnswer(status=1 << 8, stderr=b"no", stdout=b"", object=b"")
    return DistccAnswer(status=0, stderr=b"", stdout=b"", object=sha256(request.source))


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port where nothing listens now."""
    with socket.create_server((address, 0)) as probe:
        return int(probe.getsockname()[1])


def unlimited() -> Share:
    """Return a share that nobody else has to do with."""
    return Share(Budget(1 << 28))


@dataclasses.dataclass
class SimNode:
    """One node: its guest, its authority, its notary, and what compiles behind it."""

    guest: SimGuest
    authority: SimAuthority
    keeper: StandingKeeper
    signer: WorkSigner
    server: asyncio.Server
    compiled: list[DistccRequest]


class Farm:
    """Everything around one dispatcher.

    Attributes:
        now_s: Time of day that all parts share.
        said: Lines that were told to journals.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.nodes: dict[str, SimNode] = {}
        self.port, self.node_port = free_port(), free_port("127.0.0.2")
        self.journal = Journal()
        self.closing = contextlib.AsyncExitStack()
        self.shift_s = 0

    def now_s(self) -> float:
        """Return the time of day, as far as the test moved it."""
        return time.time() + self.shift_s

    async def start(self, *, slots: int = 2, wait_limit_s: float = 5.0, watch: bool = True) -> None:
        """Start authority and dispatcher of the controller."""
        self.controller = SimGuest("control", "fd00::1", now_s=int(self.now_s()))
        self.authority = SimAuthority(self.controller, str(self.folder / "control.sock"), self.now_s)
        await self.authority.start()
        self.closing.callback(self.authority.stop)
        self.roster = Roster(slots=slots, now_s=self.now_s)
        client, archive = AuthorityClient(self.authority.path), AuthorityClient(self.authority.path)
        self.dispatcher = Dispatcher(
            authority=client,
            archive=archive,
            roster=self.roster,
            journal=self.journal,
            budget=Budget(1 << 28),
            say=self.said.append,
            node_port=self.node_port,
            wait_limit_s=wait_limit_s,
        )
        self.signer = WorkSigner()
        self.keeper = StandingKeeper(client, self.signer, self.said.append)
        self.sealer = Sealer(
            archive=archive,
            journal=self.journal,
            keeper=self.keeper,
            signer=self.signer,
            say=self.said.append,
            now_s=self.now_s,
        )
        self.control = str(self.folder / "notary.sock")
        control = Control(roster=self.roster, journal=self.journal, sealer=self.sealer)
        self._close_at_end(await asyncio.start_server(self.dispatcher.serve, "127.0.0.1", self.port))
        self._close_at_end(await asyncio.start_unix_server(control.serve, self.control))
        if watch:
            task = asyncio.create_task(self.dispatcher.watch_nodes(Bell(self.authority.path)))
            self.closing.callback(task.cancel)

    async def add_node(
        self,
        address: str,
        *,
        backend: tuple[str, int] | None = None,
        compile_job: Compile = compile_by_hash,
        **changes: Any,
    ) -> SimNode:
        """Start a node at ``address`` and have the controller's authority accept it.

        Args:
            address: One of the loopback.
            backend: A real distccd; a stand-in where None.
            compile_job: What the stand-in does.
            changes: Other arguments of its notary.
        """
        guest = SimGuest(f"node{len(self.nodes) + 1}", address, now_s=int(self.now_s()))
        authority = SimAuthority(guest, str(self.folder / f"{guest.guest}.sock"), self.now_s)
        await authority.start()
        self.closing.callback(authority.stop)
        compiled: list[DistccRequest] = []
        if backend is None:
            backend = await self._stand_in(address, compile_job, compiled)
        signer = WorkSigner()
        keeper = StandingKeeper(AuthorityClient(authority.path), signer, self.said.append)
        await keeper.refresh()
        notary = NodeNotary(
            **{
                "backend": backend,
                "compilers": COMPILERS,
                "signer": signer,
                "keeper": keeper,
                "slots": 4,
                "budget": Budget(1 << 28),
                "say": self.said.append,
                "now_s": self.now_s,
                **changes,
            }
        )
        server = await asyncio.start_server(notary.serve, address, self.node_port)
        self._close_at_end(server)
        node = SimNode(guest, authority, keeper, signer, server, compiled)
        self.nodes[address] = node
        await self.accept(node)
        return node

    async def accept(self, node: SimNode) -> None:
        """Have the controller's authority accept a node, by evidence of now."""
        now_s = int(self.now_s())
        self.authority.peers = [item for item in self.authority.peers if item["address"] != node.guest.address]
        self.authority.peers.append(node.guest.listed(now_s))
        await self.settle()

    async def refuse(self, node: SimNode, reason: str = "guest.violated") -> None:
        """Have the controller's authority refuse a node."""
        self.authority.peers = [
            node.guest.refused(reason) if item["address"] == node.guest.address else item
            for item in self.authority.peers
        ]
        await self.settle()

    async def settle(self) -> None:
        """Have the dispatcher know what the authority says now."""
        await self.dispatcher._refresh()

    async def job(self, source: bytes, *arguments: str) -> DistccAnswer:
        """Send one job as a plain client does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(encode_request(arguments or ("gcc", "-c", "a.c", "-o", "a.o"), source))
            return await read_answer(reader, unlimited(), notarised=False)
        finally:
            writer.close()

    def accepted(self, guest: SimGuest, papers: dict[str, bytes] | None = None) -> None:
        """Have the controller's authority know by what a guest was accepted."""
        self.authority.accepted[guest.address] = accepted_with(guest, self.controller, int(self.now_s()), papers)

    async def _stand_in(self, address: str, compile_job: Compile, compiled: list[DistccRequest]) -> tuple[str, int]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = await read_request(reader, unlimited())
                compiled.append(request)
                answer = await asyncio.to_thread(compile_job, request)
                writer.write(encode_answer(answer))
                await writer.drain()
            finally:
                writer.close()

        server = await asyncio.start_server(serve, address, 0)
        self._close_at_end(server)
        host, port = server.sockets[0].getsockname()[:2]
        return host, port

    def _close_at_end(self, server: asyncio.Server) -> None:
        self.closing.callback(server.close)


@contextlib.asynccontextmanager
async def farm(folder: pathlib.Path, **options: Any) -> AsyncIterator[Farm]:
    """Hold a farm without nodes."""
    made = Farm(folder)
    async with made.closing:
        await made.start(**options)
        yield made


# --- the real thing -------------------------------------------------------------------------------------------------

PROGRAMS = ("distcc", "distccd", "gcc")


def missing_programs() -> list[str]:
    """Return what real jobs need and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextlib.asynccontextmanager
async def distccd(address: str, folder: pathlib.Path, *, jobs: int = 2) -> AsyncIterator[tuple[str, int]]:
    """Hold a real distccd at a free port of ``address``."""
    port = free_port(address)
    daemon = await asyncio.create_subprocess_exec(
        *("distccd", "--no-detach", "--daemon", "--listen", address, "--port", str(port), "--allow", "127.0.0.0/8"),
        *("--jobs", str(jobs), "--user", "nobody", "--log-file", str(folder / f"distccd-{address}.log")),
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        stderr=asyncio.subprocess.DEVNULL,
        process_group=0,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield address, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, 15)
        await daemon.wait()


def client_environment(port: int, folder: pathlib.Path, *, slots: int = 4) -> dict[str, str]:
    """Return the environment in which distcc uses the server at ``port`` and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C",
        "HOME": str(folder),
        "DISTCC_DIR": str(folder),
        "DISTCC_HOSTS": f"127.0.0.1:{port}/{slots}",
        "DISTCC_FALLBACK": "0",
        "DISTCC_SKIP_LOCAL_RETRY": "1",
    }


async def run(command: Sequence[str], *, folder: pathlib.Path, environment: dict[str, str]) -> tuple[int, str]:
    """Return exit code and standard error of a program."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, told = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode("utf-8", "replace")

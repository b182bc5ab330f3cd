# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a notary: ``node`` before a distccd, ``dispatch`` before all nodes; ``seal`` ends a build.

Exit codes: 0 after SIGTERM or a sealed build, 1 when it could not be done (stderr says why), 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from ..errors import UnreachableError, VouchError
from ..port.files import PUBLIC_MODE, write_atomic
from ..port.servicemanager import notify
from .authority import SOCKET as AUTHORITY_SOCKET
from .authority import AuthorityClient, Bell
from .buildseal import seal_build
from .compilers import PATTERNS, measure_compilers
from .control import SOCKET as CONTROL_SOCKET
from .control import Control
from .dispatch import NODE_PORT, WAIT_LIMIT_S, Dispatcher
from .jobio import Budget
from .journal import Journal
from .node import WAIT_LIMIT_S as NODE_WAIT_S
from .node import NodeNotary
from .roster import Roster
from .sealing import Sealer
from .signer import WorkSigner
from .standing import StandingKeeper

BACKLOG = 256
BACKEND_PORT = 3633
CONTROL_MODE = 0o660
MEMORY_MIB = 192
"""Three of the longest messages; sources and objects of C are a hundredth of that."""


def main(arguments: Sequence[str]) -> int:
    """Do one verb; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.verb == "seal":
            bundle = seal_build(chosen.file, chosen.object, path=chosen.control)
            write_atomic(chosen.out, bundle, mode=PUBLIC_MODE)
        else:
            asyncio.run(_node(chosen) if chosen.verb == "node" else _dispatch(chosen))
    except VouchError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.filename or 'socket'}: {error.strerror}")
        return 1
    return 0


def say(line: str) -> None:
    """Tell the journal one line."""
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notary", description="Compile jobs with signed statements about them.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    node = verbs.add_parser("node", help="stand before a distccd and sign")
    dispatch = verbs.add_parser("dispatch", help="stand before all attested nodes and check")
    seal = verbs.add_parser("seal", help="sign what a build was made of; write its provenance bundle")
    for verb in (node, dispatch):
        verb.add_argument("--authority", default=AUTHORITY_SOCKET, metavar="PATH", help="control socket to ask")
        verb.add_argument("--port", type=int, default=NODE_PORT, help="where to listen")
        verb.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)), help="jobs at once, for each node")
        verb.add_argument("--memory", type=int, default=MEMORY_MIB, metavar="MIB", help="messages under way, together")
    node.add_argument("--listen", default="::", metavar="ADDRESS")
    node.add_argument("--backend", default="127.0.0.1", metavar="ADDRESS", help="where distccd listens")
    node.add_argument("--backend-port", type=int, default=BACKEND_PORT)
    node.add_argument("--wait", type=float, default=NODE_WAIT_S, metavar="SECONDS", help="for the first endorsement")
    node.add_argument("--compiler", action="append", metavar="PATTERN", help="files to name in statements")
    dispatch.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS")
    dispatch.add_argument("--node-port", type=int, default=NODE_PORT, help="where nodes listen")
    dispatch.add_argument("--wait", type=float, default=WAIT_LIMIT_S, metavar="SECONDS", help="for a node that is free")
    for verb in (dispatch, seal):
        verb.add_argument("--control", default=CONTROL_SOCKET, metavar="PATH", help="control socket to serve, or ask")
    seal.add_argument("--out", required=True, metavar="FILE", help="the bundle")
    seal.add_argument("--file", action="append", required=True, metavar="FILE", help="what was built")
    seal.add_argument("object", nargs="+", help="object files that it was made of")
    return parser


async def _node(chosen: argparse.Namespace) -> None:
    signer = WorkSigner()
    keeper = StandingKeeper(AuthorityClient(chosen.authority), signer, say)
    notary = NodeNotary(
        backend=(chosen.backend, chosen.backend_port),
        compilers=measure_compilers(chosen.compiler or PATTERNS),
        signer=signer,
        keeper=keeper,
        slots=chosen.slots,
        budget=Budget(chosen.memory << 20),
        say=say,
        wait_limit_s=chosen.wait,
    )
    server = await asyncio.start_server(notary.serve, sock=_listen(chosen.listen, chosen.port))
    say(f"node: work key {signer.public.keyid}")
    notify("READY=1")
    await _until_stopped(keeper.keep(Bell(chosen.authority)), server)


async def _dispatch(chosen: argparse.Namespace) -> None:
    signer, journal = WorkSigner(), Journal()
    archive = AuthorityClient(chosen.authority)
    keeper = StandingKeeper(AuthorityClient(chosen.authority), signer, say)
    roster = Roster(slots=chosen.slots, now_s=time.time)
    dispatcher = Dispatcher(
        authority=AuthorityClient(chosen.authority),
        archive=archive,
        roster=roster,
        journal=journal,
        budget=Budget(chosen.memory << 20),
        say=say,
        node_port=chosen.node_port,
        wait_limit_s=chosen.wait,
    )
    sealer = Sealer(archive=archive, journal=journal, keeper=keeper, signer=signer, say=say)
    control = Control(roster=roster, journal=journal, sealer=sealer)
    jobs = await asyncio.start_server(dispatcher.serve, sock=_listen(chosen.listen, chosen.port))
    builds = await asyncio.start_unix_server(control.serve, sock=_listen_unix(chosen.control))
    say(f"dispatcher: work key {signer.public.keyid}")
    notify("READY=1")
    await _until_stopped(dispatcher.watch_nodes(Bell(chosen.authority)), jobs, builds)


async def _until_stopped(work: Coroutine[Any, Any, None], *servers: asyncio.Server) -> None:
    """Run ``work`` beside the servers until SIGTERM or SIGINT; jobs that run then are broken off."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for server in servers:
            server.close()
        task.cancel()
        stopped.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


def _listen(address: str, port: int) -> socket.socket:
    six = ":" in address
    try:
        return socket.create_server(
            (address, port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
            # ``::`` is every address of the guest, as it is for distccd.
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise UnreachableError(f"cannot listen on [{address}]:{port}: {error.strerror}", code="notary.listen") from None


def _listen_unix(path: str) -> socket.socket:
    """Return a listening socket in place of one that an earlier process left; never readable for others."""
    listening = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o777 ^ CONTROL_MODE)
    try:
        if os.path.exists(path):
            os.unlink(path)
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise UnreachableError(f"cannot listen on {path}: {error.strerror}", code="notary.listen") from None
    finally:
        os.umask(mask)
    return listening


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

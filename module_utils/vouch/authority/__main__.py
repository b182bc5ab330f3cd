# SPDX-License-Identifier: GPL-3.0-or-later
"""The port authority of a guest, as a program.

 1. the card is set up; the host is asked for the papers until it answers
 2. the card gets its address, and a route over the host
 3. a channel key is made, and certified
 4. charon is told to forget what an earlier run left, and gets key and certificate
 5. peers and programs are served, until SIGTERM: then every channel ends

Files and sockets: ``/run/charon.vici`` (connects), ``/run/vouch/authority.sock`` (listens), TCP 4460 (listens), TCP
4461 of the host and 4460 of peers (connects), route netlink. Needs CAP_NET_ADMIN, for address and route alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..appraise.peer import TTL_S
from ..errors import UnreachableError, VouchError
from ..model.guestaddress import HOST_MAC, link_local
from ..port.clock import SystemClock
from ..port.rtnetlink import Rtnetlink
from ..port.vici import SOCKET
from . import host, peering
from .channels import Channels
from .control import PEER_REQUESTS, PROGRAM_REQUESTS, PeerDesk, ProgramDesk
from .host import Host
from .ike import DEAD_PEER_S, Ike
from .own import ChannelKey, Own
from .server import PEERS, PROGRAMS, Server

CARD = "eth0"
CONTROL = "/run/vouch/authority.sock"
CONTROL_MODE = 0o660
T = TypeVar("T")

FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; return the exit code: 0, or 1 when something that is needed is missing."""
    options = read_options(argv)
    try:
        asyncio.run(serve(options))
    except VouchError as error:
        report(str(error))
        return 1
    return 0


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; a guest starts it without any."""
    parser = argparse.ArgumentParser(prog="authority", description="The port authority of a guest.")
    parser.add_argument("--card", default=CARD, help="network card (default: %(default)s)")
    parser.add_argument("--host", default=link_local(HOST_MAC), help="link-local address of the host")
    parser.add_argument("--host-port", type=int, default=host.PORT)
    parser.add_argument("--port", type=int, default=peering.PORT, help="of this authority and of others")
    parser.add_argument("--vici", default=SOCKET, help="socket of charon (default: %(default)s)")
    parser.add_argument("--control", default=CONTROL, help="our own socket (default: %(default)s)")
    parser.add_argument("--tunnel", action="store_true", help="for a kernel without ESP: charon's kernel-libipsec")
    parser.add_argument(
        "--silence", type=int, default=DEAD_PEER_S, help="seconds until a silent peer is asked (default: %(default)s)"
    )
    parser.add_argument("--ttl", type=int, default=TTL_S, help="seconds an acceptance counts (default: %(default)s)")
    return parser.parse_args(argv)


async def serve(options: argparse.Namespace) -> None:
    """Do all five steps."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    clock, ike = SystemClock(), Ike(options.vici, tunnel=options.tunnel, dead_peer_s=options.silence)
    started = loop.create_task(_start(options, ike, clock))
    stopping = loop.create_task(stopped.wait())
    await asyncio.wait({started, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        started.cancel()
        return
    channels = started.result()
    peers = Server(PeerDesk(channels).answer, PEERS, known=PEER_REQUESTS)
    programs = Server(ProgramDesk(channels, clock).answer, PROGRAMS, known=PROGRAM_REQUESTS)
    await peers.listen_tcp("::", options.port)
    await programs.listen_unix(options.control, mode=CONTROL_MODE)
    report(f"{channels.own.papers.name} at {channels.own.papers.address}")
    keeping = loop.create_task(channels.keep())
    try:
        await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
    finally:
        keeping.cancel()
        for server in (peers, programs):
            await server.close()
        with contextlib.suppress(UnreachableError):
            await channels.close()


async def _start(options: argparse.Namespace, ike: Ike, clock: SystemClock) -> Channels:
    upstream = Host(f"{options.host}%{options.card}", options.host_port)
    own = await _until_there("the host", lambda: _certified(options.card, upstream, clock))
    await _until_there("charon", lambda: asyncio.to_thread(_load, ike, own))
    return Channels(
        own=own, host=upstream, ike=ike, clock=clock, report=report, ttl_s=options.ttl, peer_port=options.port
    )


async def _certified(card: str, upstream: Host, clock: SystemClock) -> Own:
    with Rtnetlink() as network:
        network.set_up(card)
        papers = await upstream.papers()
        network.add_address(card, papers.address)
        network.add_default_route(card, link_local(HOST_MAC))
    return await upstream.certified(ChannelKey(), now_s=int(clock.now().timestamp()))


def _load(ike: Ike, own: Own) -> None:
    ike.started_anew()
    ike.forget_all()
    ike.load_own(own.key.private_der, own.certificate)


async def _until_there(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Return what ``work`` returns, however long the surroundings take: a guest starts before much else is there."""
    pause_s, told = FIRST_PAUSE_S, ""
    while True:
        try:
            return await work()
        except UnreachableError as error:
            if error.code != told:
                report(f"waiting for {what}: {error}")
                told = error.code
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


def report(line: str) -> None:
    """Say something to the journal."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

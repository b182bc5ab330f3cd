# SPDX-License-Identifier: GPL-3.0-or-later
"""Two guests without Xen: each a network namespace with a real charon and the real port authority as its own process.

Between them a third namespace is dom0: it routes, and answers on TCP 4461 for two simulated hosts, one behind each
card. Addresses, cards' MACs, routes, IKE, IPsec and the authorities are real; the hosts' TPMs are software keys.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.vouch.authority.messages import encode_question
from ansible.module_utils.vouch.model.guestaddress import HOST_MAC
from ansible.module_utils.vouch.parse.canonical import load_json
from ansible.module_utils.vouch.parse.frame import MAX_RESPONSE_BYTES, FrameReader
from ansible.module_utils.vouch.parse.vici import section_of, text_of
from ansible.module_utils.vouch.port.vici import Vici

from netns_harness import Charon, Namespace, charon_in, namespace
from sim.attester import SimRelease
from sim.channelhost import SimChannelHost, sim_peers
from sim.guestport import SimGuestPort
from sim.updates import installed_with

ROOT = pathlib.Path(__file__).resolve().parents[1]
READY_S = 15.0
LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from vouch.authority.__main__ import main; sys.exit(main(sys.argv[2:]))"
)


class LabGuest:
    """One guest: a namespace, charon, the authority.

    Args:
        space: Its namespace; the card is there.
        charon: Runs in it.
        folder: For sockets and output.
        options: More of them, for the authority.
    """

    def __init__(self, space: Namespace, charon: Charon, folder: pathlib.Path, *options: str) -> None:
        self.space, self.charon, self.folder, self.options = space, charon, folder, options
        self.control = folder / "authority.sock"
        self.address = ""
        self.start()

    def start(self) -> None:
        """Start the authority as a guest does, but for its sockets' places."""
        self._output = (self.folder / "authority.out").open("ab")
        self.process = subprocess.Popen(
            self.space.command(
                *(sys.executable, "-IB", "-c", LAUNCH, str(ROOT / "module_utils")),
                *("--vici", str(self.charon.socket), "--control", str(self.control), *self.options),
            ),
            stdout=self._output,
            stderr=self._output,
            stdin=subprocess.DEVNULL,
        )
        self.wait_for(lambda: self.control.exists() and bool(self.ask("identity")))
        self.address = self.ask("identity")["address"]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the authority."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()
        self.control.unlink(missing_ok=True)

    @property
    def said(self) -> str:
        """What the authority reported so far."""
        return (self.folder / "authority.out").read_text()

    def ask(self, kind: str, timeout_s: float = 20, **members: Any) -> dict[str, Any]:
        """Return the result of a request to the authority's control socket; an error's code in ``error``."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(timeout_s)
            try:
                stream.connect(str(self.control))
            except OSError:
                return {}
            stream.sendall(encode_question("1", kind, members))
            frames = FrameReader(limit_bytes=MAX_RESPONSE_BYTES)
            while (body := frames.next_body()) is None:
                data = stream.recv(1 << 16)
                assert data, f"{kind}: the authority closed the connection\n{self.said}"
                frames.feed(data)
        answer = load_json(body, limit_bytes=MAX_RESPONSE_BYTES)
        found: dict[str, Any] = answer["result"] if answer["ok"] else {"error": answer["error"]["code"]}
        return found

    def peer(self, address: str) -> dict[str, Any]:
        """Return how a peer is listed."""
        return next((item for item in self.ask("list")["peers"] if item["address"] == address), {"state": "unknown"})

    def channels(self) -> list[str]:
        """Return the names of charon's connections that are up."""
        with Vici(str(self.charon.socket)) as vici:
            return sorted(name for event in vici.ask("list-sas", event="list-sa").events for name in event)

    def reaches(self, other: LabGuest, *, timeout_s: float = 3.0) -> bool:
        """Say whether bytes get to another guest and back over TCP, now."""
        listener = other.space.call(lambda: socket.create_server((other.address, 0), family=socket.AF_INET6))
        port = listener.getsockname()[1]

        def echo() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(connection.recv(64))

        def speak() -> bytes:
            with socket.create_connection((other.address, port), timeout_s) as connection:
                connection.sendall(b"are you there?")
                return connection.recv(64)

        listener.settimeout(timeout_s)
        with listener, concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(echo)
            try:
                return self.space.call(speak) == b"are you there?"
            except OSError:
                return False

    def protected_bytes(self) -> int:
        """Return how many bytes came and went through channels, as charon counts them."""
        found = 0
        with Vici(str(self.charon.socket)) as vici:
            for event in vici.ask("list-sas", event="list-sa").events:
                for section in event.values():
                    for child in section_of(section_of(section).get("child-sas")).values():
                        counted = section_of(child)
                        found += int(text_of(counted["bytes-in"])) + int(text_of(counted["bytes-out"]))
        return found

    def wait_for(self, what: Callable[[], Any], timeout_s: float = READY_S) -> float:
        """Return how long it took until ``what`` was true."""
        began = time.monotonic()
        while not what():
            assert self.process.poll() is None, f"the authority ended\n{self.said}"
            assert time.monotonic() - began < timeout_s, f"not within {timeout_s} s\n{self.said}"
            time.sleep(0.01)
        return time.monotonic() - began


class Lab:
    """Two guests, ``a`` and ``b``, on two simulated hosts.

    Args:
        folder: For everything.
        stack: Takes everything down again.
        names: Names of the two packages.
        peers: What each takes for a peer's name; by default the other's.
        ttl_s: How long an acceptance counts.
        before: What both hosts were installed with, where they were updated since.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        stack: contextlib.ExitStack,
        *,
        names: tuple[str, str] = ("builder", "node"),
        peers: tuple[tuple[str, ...], tuple[str, ...]] | None = None,
        ttl_s: int = 60,
        before: SimRelease | None = None,
    ) -> None:
        taken = peers or ((names[1],), (names[0],))
        self.dom0 = stack.enter_context(namespace("dom0"))
        self.dom0.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.port = SimGuestPort(self.dom0)
        stack.callback(self.port.close)
        guests = []
        for at, (name, accepts) in enumerate(zip(names, taken, strict=True), 1):
            host = SimChannelHost(seed=at, now_s=int(time.time()))
            if before is not None:
                host.attester = installed_with(before, now_s=host.now_s, seed=at)
                host.former = (before.envelope,)
            guest = host.start(f"g{at}", name, sim_peers(*accepts))
            space = stack.enter_context(namespace(f"g{at}"))
            self._card(space, f"vif{at}.0", guest.mac, guest.address)
            self.port.vifs[f"vif{at}.0"] = (host, guest.guest)
            place = folder / f"g{at}"
            place.mkdir(parents=True)
            charon = stack.enter_context(charon_in(space, place))
            options = ("--tunnel",) if charon.user_space else ()
            found = LabGuest(space, charon, place, "--ttl", str(ttl_s), *options)
            stack.callback(found.stop)
            guests.append(found)
        self.a, self.b = guests

    def connect(self) -> tuple[dict[str, Any], float]:
        """Have ``a`` open a channel to ``b``; return the answer, and the seconds until it came."""
        began = time.monotonic()
        outcome = self.a.ask("connect", address=self.b.address)
        return outcome, time.monotonic() - began

    def _card(self, space: Namespace, vif: str, mac: str, address: str) -> None:
        self.dom0.ip("link", "add", vif, "address", HOST_MAC, "type", "veth", "peer", "eth0", "netns", space.name)
        space.ip("link", "set", "eth0", "address", mac)
        for where, card in ((self.dom0, vif), (space, "eth0")):
            # sysctl(8) takes a dot in a card's name for a separator, unless the separators are slashes.
            where.run("sysctl", "-qw", f"net/ipv6/conf/{card}/accept_dad=0")
        self.dom0.ip("link", "set", vif, "up")
        self.dom0.ip("-6", "route", "add", f"{address}/128", "dev", vif)


@contextlib.contextmanager
def lab(folder: pathlib.Path, **options: Any) -> Iterator[Lab]:
    """Give a lab for a while."""
    with contextlib.ExitStack() as stack:
        yield Lab(folder, stack, **options)

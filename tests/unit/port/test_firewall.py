# SPDX-License-Identifier: GPL-3.0-or-later
"""What nft is told about a guest, and what the kernel makes of it: packets between network namespaces.

One namespace is dom0, with the image's own nftables.conf; the others are guests, each behind a card as Xen's has it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.model.guestaddress import HOST_MAC, address_of, derived_mac, link_local
from ansible.module_utils.vouch.port.firewall import AUTHORITY_PORT, NftFirewall, Opening, closing, rules
from ansible.module_utils.vouch.port.tool import ToolError

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONF = ROOT / "roles/host_image/files/nftables.conf"
HOST_ID = "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11"
GUESTS = {"a": "vif7.0", "b": "vif8.0"}
HOST = link_local(HOST_MAC)


def test_opening_begins_with_closing_and_drops_the_rest() -> None:
    lines = rules(Opening("g1", "vif3.0", (("tcp", 3632), ("udp", 68)))).splitlines()
    assert lines[:5] == closing("g1", "vif3.0").splitlines()
    assert "add rule inet vouch to-g1 tcp dport 3632 return" in lines
    assert "add rule inet vouch from-g1 tcp dport 3632 return" not in lines
    for chain in ("from-g1", "to-g1"):
        assert [line for line in lines if line.startswith(f"add rule inet vouch {chain} ")][
            -1
        ] == f"add rule inet vouch {chain} drop"
    assert lines[-3:] == [
        'add element inet vouch from_guest { "vif3.0" : goto from-g1 }',
        'add element inet vouch to_guest { "vif3.0" : goto to-g1 }',
        'add element inet vouch cards { "vif3.0" }',
    ]


def test_a_guest_is_held_to_its_card_and_its_address_before_anything_else() -> None:
    opening = Opening("g1", "vif3.0", mac="02:00:00:00:00:01", address="fd00::1", talks=True)
    sent = [line.partition("from-g1 ")[2] for line in rules(opening).splitlines() if " from-g1 " in line]
    assert sent[:3] == [
        "ether saddr != 02:00:00:00:00:01 drop",
        "ip6 saddr != fd00::1 drop",
        "meta nfproto != ipv6 drop",
    ]
    assert f"tcp dport {AUTHORITY_PORT} return" in sent
    assert f"to-g1 tcp dport {AUTHORITY_PORT} return" in rules(opening)
    assert f"tcp dport {AUTHORITY_PORT} return" not in rules(opening._replace(talks=False))


def test_a_guest_without_a_card_has_chains_alone() -> None:
    assert closing("g1", "").splitlines() == [
        "destroy chain inet vouch from-g1",
        "destroy chain inet vouch to-g1",
    ]


def test_the_program_gets_the_transaction_and_its_failure_is_told(tmp_path: pathlib.Path) -> None:
    nft = tmp_path / "nft"
    nft.write_text(f'#!/bin/sh\ncat > {tmp_path}/said\necho "$@" >> {tmp_path}/said\n')
    nft.chmod(0o755)
    NftFirewall(str(nft)).close("g1", "vif3.0")
    assert (tmp_path / "said").read_text() == closing("g1", "vif3.0") + "-f -\n"
    NftFirewall(str(nft), str(nft)).open(Opening("g1", "vif3.0", address="fd00::1"))
    assert (tmp_path / "said").read_text() == "-6 route replace fd00::1/128 dev vif3.0\n"
    nft.write_text("#!/bin/sh\necho no such table >&2\nexit 1\n")
    with pytest.raises(ToolError) as caught:
        NftFirewall(str(nft)).open(Opening("g1", "vif3.0"))
    assert (caught.value.code, "no such table" in caught.value.message) == ("tool.failed", True)
    with pytest.raises(ToolError) as caught:
        NftFirewall(str(tmp_path / "none")).close("g1", "")
    assert caught.value.code == "tool.missing"


class Network:
    """dom0 and two guests, as network namespaces of this process's id."""

    def __init__(self) -> None:
        self.dom0 = f"vouch-dom0-{os.getpid()}"
        self.names = {guest: f"vouch-{guest}-{os.getpid()}" for guest in GUESTS}
        self.mac = {guest: derived_mac(HOST_ID, guest) for guest in GUESTS}
        self.address = {guest: address_of(HOST_ID, self.mac[guest]) for guest in GUESTS}

    def run(self, where: str, *argv: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a program in a namespace."""
        name = self.names.get(where, self.dom0)
        return subprocess.run(
            ["ip", "netns", "exec", name, *argv], capture_output=True, text=True, check=False, timeout=30, **options
        )  # type: ignore[call-overload, no-any-return]

    def must(self, where: str, *argv: str, **options: object) -> str:
        """Run a program that has to succeed."""
        done = self.run(where, *argv, **options)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def make(self) -> None:
        """Make the namespaces and the cards between them."""
        for name in (self.dom0, *self.names.values()):
            subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, timeout=30)
        self.must("dom0", "nft", "-f", str(CONF))
        self.must("dom0", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
        for guest, card in GUESTS.items():
            self.must(
                "dom0",
                "ip",
                "link",
                "add",
                card,
                "address",
                HOST_MAC,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                self.names[guest],
                "address",
                self.mac[guest],
            )
            self.must("dom0", "ip", "link", "set", card, "up")
            self.must(guest, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
            self.must(guest, "ip", "link", "set", "lo", "up")
            self.must(guest, "ip", "link", "set", "eth0", "up")
            self.must(guest, "ip", "-6", "addr", "add", f"{self.address[guest]}/128", "dev", "eth0", "nodad")
            self.must(guest, "ip", "-6", "route", "add", "default", "via", HOST, "dev", "eth0")

    def open(self, guest: str, **changes: Any) -> None:
        """Let a guest be reached, by the rules under test."""
        opening = Opening(guest, GUESTS[guest], mac=self.mac[guest], address=self.address[guest])._replace(**changes)
        self.apply(rules(opening))
        self.must("dom0", "ip", "-6", "route", "replace", f"{opening.address}/128", "dev", opening.card)

    def apply(self, transaction: str) -> None:
        """Have nft do it. One before 1.0.7 has no ``destroy``: there, what can be deleted is, line by line."""
        lines = transaction.splitlines()
        gone = [line.replace("destroy", "delete", 1) for line in lines if line.startswith("destroy")]
        for line in gone:
            self.run("dom0", "nft", line)
        rest = [line for line in lines if not line.startswith("destroy")]
        self.must("dom0", "nft", "-f", "-", input="\n".join(rest) + "\n")

    def remove(self) -> None:
        """Take all of it away."""
        for name in (self.dom0, *self.names.values()):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)

    def reaches(self, sender: str, port: int, *, kind: str = "tcp", address: str = "", receiver: str = "b") -> bool:
        """Say whether what one guest sends arrives at the other (or at dom0): a TCP connection, or one datagram."""
        number = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        target = address or self.address[receiver]
        listen = [sys.executable, "-c", LISTEN, str(port), str(int(number))]
        listening = subprocess.Popen(
            ["ip", "netns", "exec", self.names.get(receiver, self.dom0), *listen], stdout=subprocess.PIPE, text=True
        )
        try:
            assert listening.stdout is not None
            assert listening.stdout.readline() == "listening\n"
            self.run(sender, sys.executable, "-c", SEND, target, str(port), str(int(number)))
            return listening.communicate(timeout=10)[0] == "came\n"
        finally:
            listening.kill()
            listening.wait()


LISTEN = """
import socket, sys
s = socket.socket(socket.AF_INET6, int(sys.argv[2]))
s.bind(("::", int(sys.argv[1])))
if int(sys.argv[2]) == socket.SOCK_STREAM: s.listen()
print("listening", flush=True)
s.settimeout(1.5)
try:
    s.accept() if int(sys.argv[2]) == socket.SOCK_STREAM else s.recv(10)
    print("came")
except TimeoutError:
    print("nothing")
"""

SEND = """
import socket, sys
where = sys.argv[1].partition("%")
s = socket.socket(socket.AF_INET6, int(sys.argv[3]))
s.settimeout(1.2)
scope = socket.if_nametoindex(where[2]) if where[2] else 0
try:
    s.connect((where[0], int(sys.argv[2]), 0, scope))
    s.send(b"x")
except OSError:
    pass
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or not shutil.which("nft", path="/usr/sbin:/sbin") or not shutil.which("ip"):
        pytest.skip("needs root, nft and ip")
    network = Network()
    with contextlib.ExitStack() as stack:
        stack.callback(network.remove)
        try:
            network.make()
        except (AssertionError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces with nftables and veth here: {error}")
        yield network


@pytest.fixture
def opened(network: Network) -> Network:
    """Both guests as their packages say; ``b`` declares port 3632."""
    network.open("a", talks=True)
    network.open("b", talks=True, services=(("tcp", 3632),))
    return network


def test_declared_services_are_reached_and_nothing_else(opened: Network) -> None:
    assert not opened.reaches("a", 3632), "declared, and the sender may speak to port authorities alone"
    assert not opened.reaches("a", 22)


def test_port_authorities_reach_each_other(opened: Network) -> None:
    assert opened.reaches("a", AUTHORITY_PORT)
    assert opened.reaches("b", AUTHORITY_PORT, receiver="a")


def test_ike_passes(opened: Network) -> None:
    assert opened.reaches("a", 500, kind="udp")
    assert opened.reaches("b", 4500, kind="udp", receiver="a")
    assert not opened.reaches("a", 501, kind="udp")


def test_a_guest_that_talks_to_nobody_reaches_no_authority_and_is_reached_by_none(opened: Network) -> None:
    opened.open("a", talks=False)
    assert not opened.reaches("a", AUTHORITY_PORT)
    assert not opened.reaches("b", AUTHORITY_PORT, receiver="a")


def test_another_senders_address_goes_nowhere(opened: Network) -> None:
    wrong = address_of(HOST_ID, derived_mac(HOST_ID, "someone"))
    opened.must("a", "ip", "-6", "addr", "del", f"{opened.address['a']}/128", "dev", "eth0")
    opened.must("a", "ip", "-6", "addr", "add", f"{wrong}/128", "dev", "eth0", "nodad")
    try:
        assert not opened.reaches("a", 500, kind="udp")
    finally:
        opened.must("a", "ip", "-6", "addr", "del", f"{wrong}/128", "dev", "eth0")
        opened.must("a", "ip", "-6", "addr", "add", f"{opened.address['a']}/128", "dev", "eth0", "nodad")
    assert opened.reaches("a", 500, kind="udp")


def test_another_cards_address_goes_nowhere(opened: Network) -> None:
    opened.must("a", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    try:
        assert not opened.reaches("a", 500, kind="udp")
    finally:
        opened.must("a", "ip", "link", "set", "eth0", "address", opened.mac["a"])
    assert opened.reaches("a", 500, kind="udp")


def test_a_guest_that_is_cut_off_reaches_nobody(opened: Network) -> None:
    opened.apply(closing("a", GUESTS["a"]))
    assert not opened.reaches("a", 500, kind="udp")
    assert not opened.reaches("b", 500, kind="udp", receiver="a")
    assert not opened.reaches("a", 4461, address=f"{HOST}%eth0", receiver="dom0")


def test_of_its_host_a_guest_reaches_one_port(opened: Network) -> None:
    where = f"{HOST}%eth0"
    assert opened.reaches("a", 4461, address=where, receiver="dom0")
    assert not opened.reaches("a", 22, address=where, receiver="dom0")
    assert not opened.reaches("a", 4461, kind="udp", address=where, receiver="dom0")


def test_its_host_reaches_what_a_guest_declares(opened: Network) -> None:
    """The answers come in, on a card that lets nothing else in but the one port of the host."""
    assert opened.reaches("dom0", 3632, receiver="b")

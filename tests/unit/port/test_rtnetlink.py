# SPDX-License-Identifier: GPL-3.0-or-later
"""A card's address and route, in a network namespace of a real kernel; ip(8) says what became of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.port.rtnetlink import Rtnetlink

from netns_harness import Namespace, namespace

ADDRESS, GATEWAY = "fd00::16:3eff:fe00:1", "fe80::fcff:ffff:feff:ffff"


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace("rtnl") as space:
        space.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other")
        yield space


def test_a_card_gets_its_address_and_route(space: Namespace) -> None:
    def work() -> None:
        with Rtnetlink() as network:
            # Twice: a service that starts again finds what it left.
            for _ in range(2):
                network.set_up("eth0")
                network.add_address("eth0", ADDRESS)
                network.add_default_route("eth0", GATEWAY)

    space.call(work)
    assert "UP" in space.ip("link", "show", "eth0").split(">")[0]
    shown = space.ip("-6", "address", "show", "dev", "eth0")
    assert f"inet6 {ADDRESS}/128 scope global" in shown
    assert "tentative" not in next(line for line in shown.splitlines() if ADDRESS in line)
    routes = [line for line in space.ip("-6", "route").splitlines() if line.startswith("default")]
    assert len(routes) == 1
    assert f"via {GATEWAY} dev eth0" in routes[0]


def test_no_such_card(space: Namespace) -> None:
    with Rtnetlink() as network, pytest.raises(UnreachableError) as caught:
        space.call(lambda: network.set_up("eth9"))
    assert caught.value.code == "rtnetlink.card"


def test_what_the_kernel_refuses(space: Namespace) -> None:
    """A route over a card that is down."""

    def work() -> None:
        with Rtnetlink() as network:
            network.add_default_route("eth0", GATEWAY)

    with pytest.raises(UnreachableError) as caught:
        space.call(work)
    assert caught.value.code == "netlink.refused"


def test_no_address() -> None:
    with Rtnetlink() as network, pytest.raises(UsageError) as caught:
        network.add_address("lo", "192.0.2.1")
    assert caught.value.code == "rtnetlink.address"

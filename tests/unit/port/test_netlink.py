# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink's acknowledgements, and IPsec state that is forgotten; in a network namespace of a real kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.port.netlink import HEADER, Netlink, read_error
from ansible.module_utils.vouch.port.xfrm import forget_ipsec

from netns_harness import Namespace, namespace


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace("xfrm") as space:
        yield space


def test_what_a_charon_left_is_forgotten(space: Namespace) -> None:
    ends = ("src", "fd00::1/128", "dst", "fd00::2/128")
    for direction in ("in", "out"):
        space.ip("xfrm", "policy", "add", *ends, "dir", direction, "tmpl", "proto", "esp", "mode", "transport")
    assert space.ip("xfrm", "policy").count("fd00::1/128") == 2
    space.call(forget_ipsec)
    assert space.ip("xfrm", "policy") == ""
    # Where nothing is, nothing is refused.
    space.call(forget_ipsec)


def test_what_the_kernel_does_not_know_is_refused(space: Namespace) -> None:
    def work() -> None:
        with Netlink(socket.NETLINK_ROUTE) as kernel:
            kernel.ask(0xFFF0, 0, bytes(16))

    with pytest.raises(UnreachableError) as caught:
        space.call(work)
    assert caught.value.code == "netlink.refused"


def test_a_family_that_is_none() -> None:
    with pytest.raises(UnreachableError) as caught:
        Netlink(31)
    assert caught.value.code == "netlink.answer"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HEADER.pack(20, 2, 0, 7, 0),
        HEADER.pack(20, 2, 0, 8, 0) + bytes(4),
        HEADER.pack(20, 3, 0, 7, 0) + bytes(4),
        HEADER.pack(99, 2, 0, 7, 0) + bytes(4),
    ],
)
def test_an_answer_that_is_none(answer: bytes) -> None:
    with pytest.raises(UnreachableError) as caught:
        read_error(answer, 7)
    assert caught.value.code == "netlink.answer"

# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of guests, held against Python's own reading and writing of them."""

from __future__ import annotations

import ipaddress

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.guestaddress import (
    HOST_MAC,
    address_of,
    address_text,
    derived_mac,
    link_local,
    prefix_of,
)
from hypothesis import given
from hypothesis import strategies as st

HOST_A, HOST_B = "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11", "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a12"


@given(st.lists(st.sampled_from([0, 0, 0, 1, 0x10, 0xFFFF]), min_size=8, max_size=8))
def test_text_is_what_python_writes(groups: list[int]) -> None:
    raw = b"".join(group.to_bytes(2, "big") for group in groups)
    # Python writes an embedded IPv4 address as such from 3.13 on; ours never are one.
    assert address_text(raw).lower() == ipaddress.IPv6Address._string_from_ip_int(int.from_bytes(raw, "big"))  # type: ignore[attr-defined]


@given(st.binary(min_size=1, max_size=20), st.text(alphabet="abc-", min_size=1, max_size=20))
def test_a_card_is_local_and_of_one(host: bytes, guest: str) -> None:
    first = bytes.fromhex(derived_mac(host.hex(), guest).replace(":", ""))[0]
    assert first & 0b11 == 0b10


def test_an_address_is_of_its_host_and_its_card() -> None:
    mac = "02:00:5e:10:20:30"
    address = ipaddress.IPv6Address(address_of(HOST_A, mac))
    assert address.packed[:8] == prefix_of(HOST_A)
    assert address.packed[8:].hex() == "00005efffe102030"
    assert address in ipaddress.ip_network("fd00::/8")
    assert address_of(HOST_A, mac) == str(address)
    assert prefix_of(HOST_A) != prefix_of(HOST_B)
    assert ipaddress.IPv6Address(link_local(mac)).is_link_local


def test_where_a_guest_finds_its_host() -> None:
    assert link_local(HOST_MAC) == "fe80::fcff:ffff:feff:ffff"


def test_guests_of_one_host_have_addresses_of_their_own() -> None:
    cards = {derived_mac(HOST_A, f"g{number}") for number in range(256)}
    assert len({address_of(HOST_A, card) for card in cards}) == len(cards) == 256


@pytest.mark.parametrize(
    "mac", ["", "02:00:5e:10:20", "02:00:5E:10:20:30", "02-00-5e-10-20-30", "02:00:5e:10:20:30\n", "02:00:5e:10:20:3g"]
)
def test_malformed(mac: str) -> None:
    with pytest.raises(UsageError) as caught:
        address_of(HOST_A, mac)
    assert caught.value.code == "address.mac"

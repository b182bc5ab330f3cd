# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a domain: from the package alone, and never more than one value a line."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.vouch.daemon.domainconfig import domain_config, kind_of, mac_of
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.model.grant import Network, Resources
from ansible.module_utils.vouch.model.order import GuestOrder

from guestparts import Guest

ORDER = GuestOrder(
    "start", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "g1", bytes(32), package=bytes(32), store="http://a/"
)


def test_an_address_is_the_guests_own_and_stays_the_same() -> None:
    package = Guest().package()
    mac = mac_of(package, ORDER)
    assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)
    assert int(mac[:2], 16) & 3 == 2, "locally administered, and of one card"
    assert mac == mac_of(package, ORDER)
    assert mac != mac_of(package, ORDER._replace(guest="g2"))
    assert mac != mac_of(package, ORDER._replace(host_id=ORDER.host_id.replace("6f", "7f")))


def test_who_chooses_the_address_is_the_packages_to_say() -> None:
    asked = ORDER._replace(mac="0a:00:00:00:00:01")
    assert mac_of(Guest().package(network=Network(mac="requested")), asked) == "0a:00:00:00:00:01"
    assert mac_of(Guest().package(network=Network(mac="none")), ORDER) == ""
    for network, order in (("derived", asked), ("none", asked), ("requested", ORDER)):
        with pytest.raises(VouchError) as caught:
            mac_of(Guest().package(network=Network(mac=network)), order)
        assert caught.value.code == "launch.mac"


def test_the_kind_is_one_that_the_package_allows() -> None:
    both = Guest().package()
    assert (kind_of(both, ORDER), kind_of(both, ORDER._replace(kind="pv"))) == ("pvh", "pv")
    only = Guest().package(resources=Resources(memory_mb=64, vcpus=1, types=("pv",)))
    assert kind_of(only, ORDER) == "pv"
    with pytest.raises(VouchError) as caught:
        kind_of(only, ORDER._replace(kind="pvh"))
    assert caught.value.code == "launch.kind"


def config(**changes: str) -> str:
    return domain_config(
        Guest().package(),
        name=changes.get("name", "g1"),
        uuid=bytes(range(16)),
        kind=changes.get("kind", "pvh"),
        kernel="/proc/self/fd/5",
        initrd="/proc/self/fd/6",
        disk="/dev/loop0",
        mac=changes.get("mac", ""),
        tsc_mode=changes.get("tsc_mode", "native"),
    )


def test_every_line_is_one_setting() -> None:
    lines = config().splitlines()
    assert all(re.fullmatch(r'[a-z_]+=(?:\d+|"[^"]*"|\[(?:"[^"]*")?\])', line) for line in lines)
    assert 'uuid="00010203-0405-0607-0809-0a0b0c0d0e0f"' in lines
    assert "vif=[]" in lines
    assert 'on_crash="preserve"' in lines
    assert 'vif=["mac=0a:00:00:00:00:01,script=vif-vouch"]' in config(mac="0a:00:00:00:00:01")
    assert 'tsc_mode="native"' in lines
    assert "tsc_mode" not in config(tsc_mode="")
    for hostile in ('a"', "a\nname=b", "a\\"):
        with pytest.raises(VouchError):
            config(name=hostile)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest packages: written and read back as the same; any other bytes are another package or none."""

from __future__ import annotations

from dataclasses import replace

from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.grant import Network, Resources, Service
from ansible.module_utils.vouch.model.image import Package
from ansible.module_utils.vouch.model.package import GuestPackage
from ansible.module_utils.vouch.model.peers import NOBODY, Peers
from hypothesis import given, settings
from hypothesis import strategies as st

from guestparts import Guest
from thorough import examples

BASE = Guest().package()
DIGESTS = st.binary(min_size=32, max_size=32)
SOME = st.lists(DIGESTS, min_size=1, max_size=3).map(tuple)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)
REASONS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(lambda text: text.strip())
WORDS = st.from_regex(r"[!#-~]{1,12}", fullmatch=True)
PEERS = st.just(NOBODY) | st.builds(
    Peers,
    installer_pcr4=SOME,
    releases=SOME,
    release_keys=st.lists(DIGESTS, max_size=2).map(tuple),
    enrolment_keys=SOME,
    names=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    package_keys=SOME,
)
SERVICES = st.lists(
    st.builds(Service, protocol=st.sampled_from(["tcp", "udp"]), port=st.integers(1, 65535), reason=REASONS),
    max_size=4,
    unique_by=lambda item: (item.protocol, item.port),
).map(tuple)
PACKAGES = st.builds(
    lambda cmdline, **changes: replace(BASE, cmdline=" ".join(cmdline), **changes),
    cmdline=st.lists(WORDS, min_size=1, max_size=20),
    name=NAMES,
    variant=st.sampled_from(["production", "debug"]),
    resources=st.builds(
        Resources,
        memory_mb=st.integers(32, 4096),
        vcpus=st.integers(1, 128),
        types=st.sampled_from([("pv",), ("pvh",), ("pvh", "pv")]),
    ),
    network=st.builds(Network, mac=st.sampled_from(["derived", "requested"]), services=SERVICES),
    on_violation=st.sampled_from(["pause", "destroy"]),
    peers=PEERS,
    packages=st.lists(st.builds(Package, name=NAMES, version=NAMES), max_size=5).map(tuple),
    source_date_epoch=st.integers(0, 2**40),
)


@given(PACKAGES)
@settings(max_examples=examples(100), deadline=None)
def test_round_trip(package: GuestPackage) -> None:
    data = package.to_bytes()
    assert GuestPackage.from_bytes(data) == package
    assert GuestPackage.from_bytes(data).to_bytes() == data


@given(PACKAGES, st.data())
@settings(max_examples=examples(200), deadline=None)
def test_one_changed_byte_is_another_package_or_none(package: GuestPackage, draw: st.DataObject) -> None:
    data = bytearray(package.to_bytes())
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    try:
        found = GuestPackage.from_bytes(bytes(data))
    except ParseError:
        return
    assert found != package
    assert found.to_bytes() == bytes(data)


@given(st.binary(max_size=300))
@settings(max_examples=examples(100), deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        GuestPackage.from_bytes(data)
    except ParseError:
        return
    raise AssertionError("no such package exists")

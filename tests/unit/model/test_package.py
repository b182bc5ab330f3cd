# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest packages: one spelling, and a code for each fault. That each member is needed and typed: test_evidence.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.grant import Network, Resources, Service
from ansible.module_utils.vouch.model.image import Verity
from ansible.module_utils.vouch.model.package import GuestPackage, package_id
from ansible.module_utils.vouch.model.peers import NOBODY, Peers
from ansible.module_utils.vouch.parse.canonical import dump_canonical

from guestparts import DIGEST, PEERS, SERVICES, Guest

PACKAGE = Guest().package(network=Network(services=SERVICES), peers=PEERS)
VALUE = "parse.field.value"


def test_there_is_one_spelling() -> None:
    data = PACKAGE.to_bytes()
    again = Guest().package(
        network=Network(services=SERVICES[::-1]),
        peers=PEERS,
        resources=Resources(memory_mb=512, vcpus=1, types=("pvh", "pv", "pv")),
    )
    assert again.to_bytes() == data
    assert GuestPackage.from_bytes(data) == PACKAGE
    assert [item.name for item in PACKAGE.packages] == ["libc6", "systemd"]


def test_a_guest_talks_to_nobody_unless_told() -> None:
    assert NOBODY.nobody
    assert Guest().package().peers == NOBODY
    assert not PEERS.nobody


def test_the_id_is_that_of_the_signed_file() -> None:
    assert package_id(b"file") == sha256(b"file")


def predicate(**members: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of members of the predicate; a name with dots goes deeper."""

    def change(statement: dict[str, Any]) -> None:
        for name, value in members.items():
            at = statement["predicate"]
            *path, last = name.split("__")
            for key in path:
                at = at[key]
            at[last] = value

    return change


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        statement["subject"] = [item for item in statement["subject"] if item["name"] != name]

    return change


def doubled(statement: dict[str, Any]) -> None:
    statement["subject"].append(statement["subject"][0])


def extra(statement: dict[str, Any]) -> None:
    statement["subject"].append({"name": "extra", "digest": {"sha256": "00" * 32}})


def reversed_services(statement: dict[str, Any]) -> None:
    statement["predicate"]["network"]["services"].reverse()


def another_type(statement: dict[str, Any]) -> None:
    statement["predicateType"] = "urn:vouch:host-release:1"


SERVICE = SERVICES[0].to_json()
HEX = DIGEST.hex()
FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another type": (another_type, VALUE),
    "no kernel": (without("vmlinuz"), "parse.field.unknown"),
    "a sixth file": (extra, "parse.field.unknown"),
    "a file twice": (doubled, VALUE),
    "an empty file": (predicate(sizes__policy=0), VALUE),
    "a huge kernel": (predicate(sizes__vmlinuz=65 << 20), VALUE),
    "a size of no file": (predicate(sizes__extra=1), "parse.field.unknown"),
    "no profile": (predicate(introspection=None), "parse.field.type"),
    "another profile than the subject": (predicate(introspection__profile_sha256=HEX), VALUE),
    "a profile of another kernel": (predicate(introspection__release="6.1.0"), VALUE),
    "an unknown member": (predicate(comment="hello"), "parse.field.unknown"),
    "a name that leaves its folder": (predicate(name="../base"), VALUE),
    "a variant of its own": (predicate(variant="test"), VALUE),
    "two blanks": (predicate(cmdline="a  b"), VALUE),
    "a line break": (predicate(cmdline="a\nb"), VALUE),
    "a quotation mark": (predicate(cmdline='a="b c"'), VALUE),
    "a line too long for Xen": (predicate(cmdline="a" * 1024), VALUE),
    "another policy than the subject": (predicate(policy__sha256=HEX), VALUE),
    "another proof than the subject": (predicate(cwlite__proof_sha256=HEX), VALUE),
    "booleans of its own": (predicate(policy__boolean_mode="some"), VALUE),
    "too little memory": (predicate(resources__memory_mb=1), VALUE),
    "no processor": (predicate(resources__vcpus=0), VALUE),
    "no type": (predicate(resources__types=[]), VALUE),
    "an unknown type": (predicate(resources__types=["hvm"]), VALUE),
    "types out of order": (predicate(resources__types=["pvh", "pv"]), "parse.json.not-canonical"),
    "a disk to write to": (predicate(resources__disk__access="w"), VALUE),
    "allowed by default": (predicate(network__default="allow"), VALUE),
    "a service without a reason": (predicate(network__services=[{**SERVICE, "reason": "  "}]), VALUE),
    "a port twice": (predicate(network__services=[SERVICE, {**SERVICE, "reason": "zz"}]), VALUE),
    "port 65536": (predicate(network__services=[{**SERVICE, "port": 65536}]), VALUE),
    "services without a network": (predicate(network__mac="none"), VALUE),
    "services out of order": (reversed_services, "parse.json.not-canonical"),
    "another answer": (predicate(on_violation="ignore"), VALUE),
    "half of the criteria": (predicate(peers__guests__names=[]), VALUE),
    "criteria twice": (predicate(peers__guests__names=["base", "base"]), "parse.json.not-canonical"),
    "a short digest": (predicate(peers__hosts__releases=["11"]), VALUE),
    "a peer that is no name": (predicate(peers__guests__names=["a b"]), VALUE),
    "salt too long": (predicate(verity__salt="00" * 257), VALUE),
    "no data": (predicate(verity__data_blocks=0), VALUE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    change, code = FAULTS[fault]
    statement = copy.deepcopy(PACKAGE.to_json())
    change(statement)
    with pytest.raises(ParseError) as caught:
        GuestPackage.from_bytes(dump_canonical(statement))
    assert caught.value.code == code


def test_white_space_is_another_spelling() -> None:
    with pytest.raises(ParseError) as caught:
        GuestPackage.from_bytes(PACKAGE.to_bytes() + b"\n")
    assert caught.value.code == "parse.json.not-canonical"
    with pytest.raises(ParseError) as caught:
        GuestPackage.from_bytes(b" " * (4 << 20) + PACKAGE.to_bytes())
    assert caught.value.code == "parse.too-large"


def test_half_of_the_criteria_is_no_criterion() -> None:
    with pytest.raises(ParseError):
        Peers(names=("base",), package_keys=(DIGEST,))
    hosts = {"installer_pcr4": (DIGEST,), "release_keys": (DIGEST,)}
    with pytest.raises(ParseError):
        Peers(names=("base",), package_keys=(DIGEST,), **hosts)
    Peers(names=("base",), package_keys=(DIGEST,), enrolment_keys=(DIGEST,), **hosts)


def test_services_are_in_order() -> None:
    later, sooner = Service(protocol="tcp", port=80, reason="b"), Service(protocol="tcp", port=7, reason="a")
    assert Network(services=(later, sooner)).services == (sooner, later)


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [(1, ()), (2, (1,)), (128, (1,)), (129, (1, 2)), (128 * 128, (1, 128)), (128 * 128 + 1, (1, 2, 129))],
)
def test_levels_of_a_tree(blocks: int, levels: tuple[int, ...]) -> None:
    verity = Verity(root_hash=bytes(32), salt=b"\0", data_blocks=blocks)
    assert verity.levels() == levels
    assert verity.image_bytes == (blocks + sum(levels)) * 4096

# SPDX-License-Identifier: GPL-3.0-or-later
"""A package out of a description and what its owner wants."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.guestpackage import (
    GuestImage,
    changed_members,
    network_of,
    peers_of,
    resources_of,
)
from ansible.module_utils.vouch.model.grant import Network, Resources
from ansible.module_utils.vouch.model.package import GuestPackage
from ansible.module_utils.vouch.model.peers import NOBODY

from guestparts import DIGEST, PEERS, Guest

IMAGE = Guest().image


def test_a_description_survives() -> None:
    value = json.loads(json.dumps(IMAGE.to_json()))
    assert GuestImage.from_json(value) == IMAGE


def test_a_package_is_one_that_readers_take() -> None:
    package = IMAGE.package()
    assert GuestPackage.from_bytes(package.to_bytes()) == package
    assert (package.name, package.resources.memory_mb, package.peers) == ("base", 512, NOBODY)
    assert Guest(variant="debug").image.package().name == "base-debug"
    assert IMAGE.package("other").name == "other"


BAD: dict[str, dict[str, Any]] = {
    "another format": {"version": 2},
    "no name": {"name": ""},
    "an unknown member": {"comment": ""},
    "a digest that is none": {"files": {**IMAGE.to_json()["files"], "policy": "00"}},
    "no size": {"sizes": {}},
    "a size without a file": {"sizes": {**IMAGE.to_json()["sizes"], "more": 1}},
    "statistics that are none": {"statistics": [1]},
    "too many files": {"files": {str(at): "00" * 32 for at in range(65)}},
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_no_description(fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        GuestImage.from_json({**IMAGE.to_json(), **BAD[fault]})
    assert caught.value.code == "guest.description"


def test_a_file_may_not_be_missing() -> None:
    value = IMAGE.to_json()
    del value["files"]["proof.json"], value["sizes"]["proof.json"]
    with pytest.raises(UsageError) as caught:
        GuestImage.from_json(value).package()
    assert caught.value.code == "package.inputs"


def test_what_an_owner_leaves_out_is_the_default() -> None:
    assert resources_of({}) == resources_of({"memory_mb": None}) == Resources(memory_mb=512, vcpus=1)
    assert network_of({}) == Network()
    assert peers_of({}) == peers_of({"names": None}) == NOBODY
    written = {**PEERS.to_json()["hosts"], **PEERS.to_json()["guests"]}
    assert peers_of(written) == PEERS


@pytest.mark.parametrize("service", [{}, {"protocol": "tcp", "port": 1}, "tcp/1"])
def test_a_service_has_three_members(service: Any) -> None:
    with pytest.raises(UsageError):
        network_of({"services": [service]})


def test_changed_members_are_told_by_name() -> None:
    old = IMAGE.package()
    new = IMAGE.package(peers=PEERS, on_violation="destroy")
    before, after = changed_members(old, new)
    assert "on_violation: pause\n" in before
    assert f"peers.guests.package_keys: {DIGEST.hex()}\n" in after
    assert changed_members(old, old) == ("", "")
    assert changed_members(None, old)[0] == ""
    assert "packages.systemd: 257.8-1\n" in changed_members(None, old)[1]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter about guests: the core's addresses, one clear error for anything else, and its documentation."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Callable

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.vouch.model.guestaddress import address_of, derived_mac

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "filter_plugins"
HOST_ID = "5b0f2c1e-0d38-4c57-9a51-0c1f6a3d7701"
MAC = "02:00:5e:10:20:30"


@pytest.fixture(scope="module")
def filters() -> dict[str, Callable[..., str]]:
    spec = importlib.util.spec_from_file_location("vouch_guest", FOLDER / "vouch_guest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()


@pytest.mark.parametrize("guest", ["node1", "node2", "distcc-controller"])
def test_an_address_is_that_of_the_core(filters: dict[str, Callable[..., str]], guest: str) -> None:
    address = filters["vouch_guest_address"]
    assert address(guest, HOST_ID) == address_of(HOST_ID, derived_mac(HOST_ID, guest))
    assert address(guest, HOST_ID, "") == address(guest, HOST_ID)
    assert address(guest, HOST_ID, MAC) == address_of(HOST_ID, MAC)
    assert address(guest, HOST_ID, mac=MAC) != address(guest, HOST_ID)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", HOST_ID), "the guest must be a string that is not empty"),
        ((None, HOST_ID), "the guest must be a string"),
        ((["node1"], HOST_ID), "the guest must be a string"),
        (("node1", ""), "host_id must be a string that is not empty"),
        (("node1", 7), "host_id must be a string"),
        (("node1", HOST_ID, None), "mac must be a string"),
        (("node1", HOST_ID, "02:00"), "is no address of a network card"),
        (("node1", HOST_ID, MAC.upper()), "is no address of a network card"),
    ],
)
def test_refusals(filters: dict[str, Callable[..., str]], arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"vouch_guest_address: .*{message}"):
        filters["vouch_guest_address"](*arguments)


def test_every_filter_has_its_documentation(filters: dict[str, Callable[..., str]]) -> None:
    for name in filters:
        text = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
        assert set(text) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
        assert text["DOCUMENTATION"]["name"] == name
        assert yaml.safe_load(text["EXAMPLES"])

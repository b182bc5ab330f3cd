# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements, releases and evidence: written, read back, and refused with any member wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.digest import PcrBank
from ansible.module_utils.vouch.model.evidence import Evidence, Roti, UpdateProof
from ansible.module_utils.vouch.model.grant import Network
from ansible.module_utils.vouch.model.image import Package, Verity
from ansible.module_utils.vouch.model.package import GuestPackage
from ansible.module_utils.vouch.model.release import HostRelease, InstallStatement
from ansible.module_utils.vouch.model.statement import HostStatement, TpmCounters
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json

from guestparts import PEERS, SERVICES, Guest

HOST = "11111111-2222-3333-4444-555555555555"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
STATEMENT = HostStatement(
    host_id=HOST,
    release_id=b"\x01" * 32,
    ssh_host_key=SSH_KEY,
    time_s=1,
    tpm=TpmCounters(clock_ms=1, reset_count=2, restart_count=3),
    event_log_count=1,
    event_log_head=bytes(32),
    ima_bytes=5,
)
ROTI = Roti(
    statement=b"s", attest=b"a", signature=b"g", pcrs=PcrBank("sha256", {0: bytes(32), 10: bytes(32)}), event_log=b"l"
)
EVIDENCE = Evidence(
    nonce=bytes(32),
    statement=b"s",
    attest=b"a",
    signature=b"g",
    pcrs=PcrBank("sha256", {0: bytes(32)}),
    leaf_index=0,
    leaf_count=2,
    path=(bytes(32),),
    ima_offset=0,
    ima_log=b"",
    event_log=b"",
    roti=ROTI,
    updates=(UpdateProof(statement=b"s", attest=b"a", signature=b"g", pcrs=PcrBank("sha256", {0: bytes(32)})),),
)
INSTALL = InstallStatement(
    host_id=HOST,
    release_id=bytes(32),
    slot="b",
    disk_id="d",
    disk_bytes=1,
    xen_efi_sha256=bytes(32),
    root_img_sha256=bytes(32),
    boot_entry="e",
    ssh_host_key=SSH_KEY,
    ak_name=bytes(34),
    installer_pcr4=bytes(32),
    time_s=0,
)
RELEASE = HostRelease(
    subjects={"xen.efi": bytes(32), "root.img": bytes(32), "manifest": bytes(32)},
    name="n",
    variant="debug",
    authenticode_sha256=bytes(32),
    pcr4=bytes(32),
    verity=Verity(root_hash=bytes(32), salt=b"\x01", data_blocks=1),
    manifest_sha256=bytes(32),
    manifest_files=1,
    ssh_user="vouch",
    packages=(Package(name="p", version="1"),),
    xen="x",
    kernel="k",
    source_date_epoch=0,
)
PACKAGE = Guest().package(network=Network(services=SERVICES), peers=PEERS)
DOCUMENTS: dict[str, tuple[Any, Callable[[bytes], Any]]] = {
    "host statement": (STATEMENT, HostStatement.from_bytes),
    "install statement": (INSTALL, InstallStatement.from_bytes),
    "host release": (RELEASE, HostRelease.from_bytes),
    "guest package": (PACKAGE, GuestPackage.from_bytes),
    "evidence": (EVIDENCE, Evidence.from_bytes),
    "roti": (ROTI, Roti.from_bytes),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_round_trip(name: str) -> None:
    document, read = DOCUMENTS[name]
    data = document.to_bytes()
    assert read(data) == document
    assert read(data).to_bytes() == data
    assert dump_canonical(load_json(data, limit_bytes=1 << 20)) == data


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every member of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    value = copy.deepcopy(value)
    at = value
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return value


def replace_by(new: Any) -> Callable[[Any, Any], None]:
    def change(container: Any, key: Any) -> None:
        container[key] = new

    return change


def add_member(container: Any, key: Any) -> None:
    if isinstance(container[key], dict):
        container[key]["zz"] = 1
    else:
        container[key] = object


def remove(container: Any, key: Any) -> None:
    del container[key]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_member_is_needed_and_typed(name: str) -> None:
    document, read = DOCUMENTS[name]
    value = document.to_json()
    for path in places(value):
        # A list may be shorter, a register or an extra artifact may be missing: other checks see to those.
        optional = isinstance(path[-1], int) or path[-1] == "0" or path[-1] == "10"
        for change in [replace_by(1.5), replace_by([[]]), replace_by(-1), replace_by(True)] + [remove] * (not optional):
            bad = changed(value, path, change)
            try:
                data = dump_canonical(bad)
            except Exception:  # noqa: BLE001 - a float cannot even be written
                continue
            with pytest.raises(ParseError):
                read(data)
    for path in [(), *places(value)]:
        bad = copy.deepcopy(value)
        at = bad
        for key in path:
            at = at[key]
        if isinstance(at, dict) and path[-1:] != ("sha256",):
            at["zz"] = 1
            with pytest.raises(ParseError):
                read(dump_canonical(bad))


BAD_EVIDENCE: dict[str, dict[str, Any]] = {
    "two banks": {"pcrs": {"sha1": {"0": "00" * 20}, "sha256": {"0": "00" * 32}}},
    "no bank": {"pcrs": {}},
    "no register": {"pcrs": {"sha256": {}}},
    "unknown bank": {"pcrs": {"md5": {"0": "00" * 16}}},
    "register 24": {"pcrs": {"sha256": {"24": "00" * 32}}},
    "register 00": {"pcrs": {"sha256": {"00": "00" * 32}}},
    "register in other digits": {"pcrs": {"sha256": {"\u0661": "00" * 32}}},
    "register of a superscript": {"pcrs": {"sha256": {"\u00b2": "00" * 32}}},
    "register name far too long": {"pcrs": {"sha256": {"1" * 5000: "00" * 32}}},
    "short value": {"pcrs": {"sha256": {"0": "00" * 31}}},
    "too many registers": {"pcrs": {"sha256": {str(i): "00" * 32 for i in range(25)}}},
    "another type": {"type": "urn:vouch:evidence:2"},
    "short nonce": {"nonce": "00" * 31},
    "empty attest": {"attest": ""},
    "path too long": {"merkle": {"index": 0, "size": 1, "path": ["00" * 32] * 17}},
    "no tree": {"merkle": {"index": 0, "size": 0, "path": []}},
    "offset too large": {"ima": {"offset": 2**53, "log": ""}},
}


@pytest.mark.parametrize("fault", BAD_EVIDENCE)
def test_bad_evidence(fault: str) -> None:
    value = {**EVIDENCE.to_json(), **BAD_EVIDENCE[fault]}
    with pytest.raises(ParseError):
        Evidence.from_json(value)


@pytest.mark.parametrize(
    "key",
    [
        SSH_KEY + " comment",
        SSH_KEY + "\n",
        SSH_KEY[:-1],
        "ssh-rsa AAAAB3NzaC1yc2E=",
        'command="x" ' + SSH_KEY,
        SSH_KEY.replace(" ", "  "),
    ],
)
def test_channel_keys_have_one_form(key: str) -> None:
    with pytest.raises(ParseError):
        HostStatement.from_json({**STATEMENT.to_json(), "ssh_host_key": key})


def test_a_guest_is_a_whole_record() -> None:
    with pytest.raises(ParseError):
        HostStatement.from_json({**STATEMENT.to_json(), "guests": [{}]})


def test_a_host_may_know_no_release() -> None:
    assert HostStatement.from_json({**STATEMENT.to_json(), "release_id": ""}).release_id == b""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it."""

from __future__ import annotations

import json
import pathlib
import stat
from collections.abc import Callable
from typing import Any

import pytest
import vouch_guest_package
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.check.signature import verify_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.key import PublicKey

from guestparts import Guest

Run = Callable[..., dict[str, Any]]
SERVICE = {"protocol": "tcp", "port": 3632, "reason": "distccd checks each request"}


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    fixed = {"key": str(tmp_path / "keys/package.pem"), "dest": str(tmp_path / "out/base.dsse.json")}

    def module(guest: Guest | None = None, **options: Any) -> dict[str, Any]:
        private = {f"_ansible_{name}": options.pop(name, False) for name in ("check_mode", "diff")}
        image = (guest or Guest()).image.to_json()
        with patch_module_args({"image": image, **fixed, **options, **private}), pytest.raises(SystemExit):
            vouch_guest_package.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return module


def test_a_package_is_signed_once(run: Run, tmp_path: pathlib.Path) -> None:
    foretold = run(check_mode=True)
    assert (foretold["changed"], foretold["package_id"], foretold["public_key"]) == (True, "", "")
    assert list(tmp_path.iterdir()) == []
    first = run()
    dest = tmp_path / "out/base.dsse.json"
    data = dest.read_bytes()
    assert (first["changed"], first["name"], first["dest"]) == (True, "base", str(dest))
    assert first["package_id"] == sha256(data).hex()
    assert stat.S_IMODE((tmp_path / "keys/package.pem").stat().st_mode) == 0o600
    verified = verify_guest_package(data, [PublicKey.from_pem(first["public_key"])])
    assert verified.package.to_json() == first["statement"]
    assert verified.keyid == first["keyid"]
    again = run()
    assert not again["changed"]
    assert again["package_id"] == first["package_id"]
    assert again["diff"]["before"] == again["diff"]["after"] == ""
    assert dest.read_bytes() == data


def test_p256_packages_are_not_signed_again(run: Run, tmp_path: pathlib.Path) -> None:
    first = run(scheme="ecdsa-p256-sha256")
    assert not run(check_mode=True)["changed"]
    second = run()
    assert (second["changed"], second["package_id"]) == (False, first["package_id"])


def test_the_diff_names_what_changes(run: Run) -> None:
    run()
    words = {"network": {"services": [SERVICE]}, "resources": {"memory_mb": 1024}}
    foretold = run(**words, check_mode=True)
    assert foretold["changed"]
    assert foretold["diff"]["before"] == "resources.memory_mb: 512\n"
    assert foretold["diff"]["after"].splitlines() == [
        "network.services.tcp/3632: distccd checks each request",
        "resources.memory_mb: 1024",
    ]
    assert run(**words)["diff"]["after"] == foretold["diff"]["after"]
    assert not run(**words)["changed"]


def test_one_word_of_the_command_line(run: Run) -> None:
    run()
    guest = Guest()
    guest.words = (*guest.words, "panic=10")
    assert run(guest)["diff"]["after"] == "cmdline.panic: 10\n"


def test_the_store_gets_the_same_file(run: Run, tmp_path: pathlib.Path) -> None:
    run()
    store = tmp_path / "store"
    assert run(store_dir=str(store), check_mode=True)["changed"]
    assert run(store_dir=str(store))["changed"]
    copy = store / "packages/base.dsse.json"
    assert copy.read_bytes() == (tmp_path / "out/base.dsse.json").read_bytes()
    assert not run(store_dir=str(store))["changed"]
    copy.write_bytes(b"damaged")
    assert run(store_dir=str(store))["changed"]
    assert copy.read_bytes() == (tmp_path / "out/base.dsse.json").read_bytes()


def test_what_was_signed_by_another_key_is_replaced(run: Run, tmp_path: pathlib.Path) -> None:
    first = run()
    (tmp_path / "keys/package.pem").unlink()
    second = run()
    assert second["changed"]
    assert second["keyid"] != first["keyid"]
    assert not run()["changed"]


def test_a_debug_image_carries_it_in_its_name(run: Run) -> None:
    made = run(Guest(variant="debug"))
    assert (made["name"], made["statement"]["predicate"]["variant"]) == ("base-debug", "debug")
    assert run(Guest(), name="other")["name"] == "other"


def test_keys_of_peers(run: Run) -> None:
    other = generate_private_key()
    peers = {
        "installer_pcr4": ["11" * 32],
        "release_keys": [public_pem(other).decode()],
        "enrolment_keys": [public_pem(other).decode()],
        "names": ["base"],
        "package_keys": ["self", "22" * 32],
    }
    assert run(peers=peers, check_mode=True)["changed"]
    made = run(peers=peers)
    found = made["statement"]["predicate"]["peers"]
    assert found["guests"]["package_keys"] == sorted([made["keyid"], "22" * 32])
    for name in ("release_keys", "enrolment_keys"):
        assert found["hosts"][name] == [PublicKey.from_pem(public_pem(other)).keyid]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "memory": ({"resources": {"memory_mb": 1}}, "package.inputs"),
    "port": ({"network": {"services": [{**SERVICE, "port": 0}]}}, "package.inputs"),
    "port twice": ({"network": {"services": [SERVICE, {**SERVICE, "reason": "other"}]}}, "package.inputs"),
    "blank reason": ({"network": {"services": [{**SERVICE, "reason": " "}]}}, "package.inputs"),
    "half of the criteria": ({"peers": {"names": ["base"]}}, "package.inputs"),
    "digest of another length": ({"peers": {"releases": ["11"]}}, "package.inputs"),
    "name": ({"name": "../base"}, "package.inputs"),
    "no description": ({"image": {"version": 1}}, "guest.description"),
    "a key that is none": ({"peers": {"package_keys": ["-----BEGIN NOTHING"]}}, "parse.key.pem"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refusals_have_codes(run: Run, tmp_path: pathlib.Path, fault: str) -> None:
    options, code = REFUSED[fault]
    refused = run(**options)
    assert (refused.get("failed"), refused.get("code")) == (True, code)
    assert list(tmp_path.iterdir()) == []


def test_no_signature_for_what_a_host_would_refuse(run: Run, tmp_path: pathlib.Path) -> None:
    guest = Guest()
    guest.words = (*guest.words, "init=/bin/sh")
    refused = run(guest)
    assert (refused["failed"], refused["code"]) == (True, "package.cmdline.refused")
    assert list(tmp_path.iterdir()) == []

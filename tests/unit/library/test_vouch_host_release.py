# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import vouch_host_release
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.check.signature import verify_release
from ansible.module_utils.vouch.model.key import PublicKey

Run = Callable[..., dict[str, Any]]
DIGEST = "11" * 32
IMAGE = {
    "version": 1,
    "variant": "production",
    "files": {"xen.efi": DIGEST, "root.img": DIGEST, "manifest": DIGEST},
    "authenticode_sha256": DIGEST,
    "pcr4": DIGEST,
    "verity": {
        "root_hash": DIGEST,
        "salt": DIGEST,
        "data_blocks": 1,
        "block_bytes": 4096,
        "algorithm": "sha256",
    },
    "manifest_files": 1,
    "ssh_user": "vouch",
    "packages": [{"name": "xen", "version": "4.20"}],
    "xen": "4.20",
    "kernel": "6.12",
    "source_date_epoch": 0,
    "statistics": {},
}


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    fixed = {"name": "host", "key": str(tmp_path / "keys/k.pem"), "dest": str(tmp_path / "out/host.dsse.json")}

    def module(**options: Any) -> dict[str, Any]:
        with patch_module_args({"image": IMAGE, **fixed, **options}), pytest.raises(SystemExit):
            vouch_host_release.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return module


@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa-p256-sha256"])
def test_a_release_is_signed_once(run: Run, tmp_path: pathlib.Path, scheme: str) -> None:
    assert run(scheme=scheme, _ansible_check_mode=True)["changed"]
    assert list(tmp_path.iterdir()) == []
    first = run(scheme=scheme)
    assert first["changed"]
    data = (tmp_path / "out/host.dsse.json").read_bytes()
    verified = verify_release(data, [PublicKey.from_pem(first["public_key"])])
    assert (verified.release_id.hex(), verified.keyid) == (first["release_id"], first["keyid"])
    again = run(scheme=scheme)
    assert (again["changed"], again["release_id"]) == (False, first["release_id"])
    assert run(scheme=scheme, name="other")["changed"]


@pytest.mark.parametrize(
    ("options", "code"), [({"image": {}}, "image.description"), ({"key": "/dev/null"}, "key.private")]
)
def test_refusals_have_codes(run: Run, options: dict[str, Any], code: str) -> None:
    refused = run(**options)
    assert (refused["failed"], refused["code"]) == (True, code)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys from files: in order, and nothing that is none."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, public_pem
from ansible.module_utils.vouch.model.key import MAX_PEM_BYTES
from ansible.module_utils.vouch.port.publickeys import read_public_keys


def test_in_their_order(tmp_path: pathlib.Path) -> None:
    keys = [generate_private_key() for _ in range(3)]
    paths = [tmp_path / f"{number}.pub" for number in range(3)]
    for key, path in zip(keys, paths, strict=True):
        path.write_bytes(public_pem(key))
    assert read_public_keys(paths) == [public_key(key) for key in keys]
    assert read_public_keys([]) == []


def test_what_is_no_key(tmp_path: pathlib.Path) -> None:
    (tmp_path / "text").write_text("no key")
    (tmp_path / "long").write_bytes(b"x" * (MAX_PEM_BYTES + 1))
    with pytest.raises(UsageError, match=rf"{tmp_path}/text: .*parse\.key\.pem"):
        read_public_keys([tmp_path / "text"])
    with pytest.raises(UnreachableError, match=r"files\.too-large"):
        read_public_keys([tmp_path / "long"])
    with pytest.raises(UnreachableError, match=r"files\.missing"):
        read_public_keys([str(tmp_path / "none")])

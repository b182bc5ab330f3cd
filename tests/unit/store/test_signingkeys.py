# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing keys are made once and kept to their owner."""

from __future__ import annotations

import pathlib
import stat

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.key import ECDSA_P256, ED25519
from ansible.module_utils.vouch.store.signingkeys import find_or_make


@pytest.mark.parametrize("scheme", [ED25519, ECDSA_P256])
def test_made_once(tmp_path: pathlib.Path, scheme: str) -> None:
    path = tmp_path / "keys/k.pem"
    key = find_or_make(path, scheme)
    assert key.made
    assert key.public.scheme == scheme
    assert not path.exists()
    key.keep()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = find_or_make(path, ED25519)
    assert not again.made
    assert again.public == key.public
    content = path.read_bytes()
    again.keep()
    assert path.read_bytes() == content


def test_what_is_no_key_is_kept(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "k.pem"
    path.write_text("precious")
    with pytest.raises(UsageError):
        find_or_make(path, ED25519)
    assert path.read_text() == "precious"

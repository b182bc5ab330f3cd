# SPDX-License-Identifier: GPL-3.0-or-later
"""Update statements: there and back, and what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model import image, release, update
from ansible.module_utils.vouch.model.update import UpdateStatement
from ansible.module_utils.vouch.parse.canonical import dump_canonical

STATEMENT = UpdateStatement(
    host_id="6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    before=b"\x01" * 32,
    release_id=b"\x03" * 32,
    authenticode_sha256=b"\x04" * 32,
    slot="b",
    xen_efi_sha256=b"\x05" * 32,
    root_img_sha256=b"\x06" * 32,
    root_bytes=8192,
    order=b"\x07" * 32,
    time_s=1_790_000_000,
)


def test_there_and_back() -> None:
    assert UpdateStatement.from_bytes(STATEMENT.to_bytes()) == STATEMENT


def test_the_files_are_named_as_in_a_release() -> None:
    assert (update.HYPERVISOR, update.ROOT_IMAGE) == (release.HYPERVISOR, image.ROOT_IMAGE)


FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another type": lambda s: s.update(type="urn:vouch:install-statement:1"),
    "a member too many": lambda s: s.update(more=1),
    "a member too many inside": lambda s: s["written"].update(more=1),
    "no release before": lambda s: s.pop("before"),
    "a short digest": lambda s: s["written"].update({"root.img": "00"}),
    "another file": lambda s: s["written"].update({"vmlinuz": "00" * 32}),
    "a third slot": lambda s: s.update(slot="c"),
    "no time": lambda s: s.update(time=None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_none(fault: str) -> None:
    value = json.loads(STATEMENT.to_bytes())
    FAULTS[fault](value)
    with pytest.raises(ParseError):
        UpdateStatement.from_bytes(dump_canonical(value))

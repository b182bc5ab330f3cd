# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is made of is checked before anything is built, and decides the key of the cache."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.imaging.guestspec import GuestSpec
from ansible.module_utils.vouch.imaging.spec import ImageFile

from sim.buildnode import document
from sim.guestbuild import guest_spec

TREE = "0" * 64
TWICE = [ImageFile(path="/etc/x", content="1"), ImageFile(path="/etc/x", content="2")]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "A guest"}, "guest.name"),
        ({"name": ""}, "guest.name"),
        ({"name": "../x"}, "guest.name"),
        ({"variant": "test"}, "image.variant"),
        ({"kernel_options": ["vouch.verity=x"]}, "image.option"),
        ({"kernel_options": ["quiet", "--"]}, "image.option"),
        ({"policy": " \n"}, "guest.policy"),
        ({"file_contexts": ""}, "guest.policy"),
        ({"files": TWICE}, "image.file"),
        ({"intent": {}}, "parse.field.missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        guest_spec(**changes)
    assert caught.value.code == code


def test_intent_with_a_filter_without_a_reason_is_refused() -> None:
    wanted = document()
    wanted["filters"][0]["reason"] = ""
    with pytest.raises(UsageError, match="node"):
        guest_spec(intent=wanted)


def test_every_input_decides_the_key() -> None:
    spec = guest_spec()
    keys = {spec.key(tree_sha256=TREE, code={})}
    keys.add(spec.key(tree_sha256="1" * 64, code={}))
    keys.add(spec.key(tree_sha256=TREE, code={"build/x": b""}))
    keys.add(spec.key(tree_sha256=TREE, code={"build/x": b"1"}))
    wanted = document()
    wanted["applications"] = []
    wanted["filters"] = []
    other: dict[str, Any] = {
        "name": "other",
        "variant": "debug",
        "packages": {"p": ["/x"]},
        "files": [],
        "users": {},
        "initrd_script": "text",
        "policy": "other",
        "file_contexts": "other",
        "intent": wanted,
        "source_date_epoch": 5,
    }
    for field in dataclasses.fields(GuestSpec):
        changed = dataclasses.replace(spec, **{field.name: other.get(field.name, ["x"])})
        keys.add(changed.key(tree_sha256=TREE, code={}))
    assert len(keys) == 4 + len(dataclasses.fields(GuestSpec))


def test_nobody_can_log_in() -> None:
    accounts = {account.name: account for account in guest_spec(variant="debug").accounts}
    assert set(accounts) == {"root", "worker", "nobody"}
    assert {account.shell for account in accounts.values()} == {"/usr/sbin/nologin"}


def test_no_module_is_in_the_root() -> None:
    assert guest_spec().modules == ()

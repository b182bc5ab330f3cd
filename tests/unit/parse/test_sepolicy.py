# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux kernel policies: foreign files counted as setools counts them, and bytes that are no policy."""

from __future__ import annotations

import pathlib
import random
import struct
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.sepolicy import PolicyDb, parse_policy
from ansible.module_utils.vouch.parse.serules import ALLOW, AUDITALLOW, DONTAUDIT, TRANSITION

from conftest import expected

SharedData = Callable[[str], pathlib.Path]


def counted(policy: PolicyDb) -> dict[str, int]:
    """Return the counts that setools gives under the same names."""
    kinds = [rule[3] for table in policy.tables() for rule in table.rules]
    return {
        "allow": kinds.count(ALLOW),
        "auditallow": kinds.count(AUDITALLOW),
        "dontaudit": kinds.count(DONTAUDIT),
        "type_trans": kinds.count(TRANSITION) + sum(bin(n.sources).count("1") for n in policy.name_transitions),
        "types": len(policy.types),
        "attributes": len(policy.attributes),
        "classes": len(policy.classes),
        "booleans": len(policy.booleans),
        "cond._expr.": len(policy.conditionals),
        "permissives": len(policy.permissive),
        "users": len(policy.users),
        "roles": len(policy.roles),
        "role_allow": len(policy.role_allows),
        "range_trans": len(policy.range_transitions),
        "initial_sids": len(policy.labels.initial_sids),
        "portcon": len(policy.labels.ports),
        "genfscon": len(policy.genfs),
        "fs_use": len(policy.labels.fs_uses),
        "polcap": len(policy.policy_capabilities),
        "policy_version": policy.version,
    }


def test_counts_are_those_of_setools(shared_data: SharedData) -> None:
    folder = shared_data("selinux")
    for entry in expected("selinux")["files"]:
        policy = parse_policy((folder / entry["file"]).read_bytes())
        found, wanted = counted(policy), entry["expect"]["counts"]
        assert found == {name: wanted[name] for name in found}, entry["file"]
        header = entry["expect"]["header"]
        assert (policy.mls, policy.handle_unknown) == (header["mls"], header["handle_unknown"])


def test_every_cut_is_an_error(shared_data: SharedData) -> None:
    whole = (shared_data("selinux") / "libsepol-fuzz-policy.bin").read_bytes()
    parse_policy(whole)
    for length in range(len(whole)):
        with pytest.raises(ParseError):
            parse_policy(whole[:length])
    with pytest.raises(ParseError) as caught:
        parse_policy(whole + b"\0")
    assert caught.value.code == "parse.trailing"


def test_changed_bytes_are_a_policy_or_an_error(shared_data: SharedData) -> None:
    whole = (shared_data("selinux") / "libsepol-fuzz-policy.bin").read_bytes()
    chance = random.Random(3)
    for _ in range(3000):
        bytes_ = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            bytes_[chance.randrange(len(whole))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        try:
            parse_policy(bytes(bytes_))
        except ParseError:
            continue


HEAD = struct.pack("<2I", 0xF97CFF8C, 8) + b"SE Linux"
MALFORMED = {
    "nothing": (b"", "parse.truncated"),
    "another magic": (b"\0" * 64, "parse.magic"),
    "a policy for Xen": (struct.pack("<2I", 0xF97CFF8C, 8) + b"XenFlask" + b"\0" * 64, "parse.unsupported"),
    "an old version": (HEAD + struct.pack("<4I", 23, 0, 8, 7), "parse.unsupported"),
    "a new version": (HEAD + struct.pack("<4I", 35, 0, 8, 9), "parse.unsupported"),
    "unknown flags": (HEAD + struct.pack("<4I", 33, 8, 8, 9), "parse.invalid"),
    "both ways to treat the unknown": (HEAD + struct.pack("<4I", 33, 6, 8, 9), "parse.invalid"),
    "too few tables": (HEAD + struct.pack("<4I", 33, 0, 8, 7), "parse.invalid"),
    "a billion nodes": (HEAD + struct.pack("<4I", 33, 0, 8, 9) + struct.pack("<3I", 64, 64, 10**9), "parse.invalid"),
    "a billion names": (
        HEAD + struct.pack("<4I", 33, 0, 8, 9) + struct.pack("<6I", 64, 0, 0, 64, 0, 0) + struct.pack("<2I", 1, 10**9),
        "parse.too-many",
    ),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_input_is_refused(fault: str) -> None:
    data, code = MALFORMED[fault]
    with pytest.raises(ParseError) as caught:
        parse_policy(data)
    assert caught.value.code == code

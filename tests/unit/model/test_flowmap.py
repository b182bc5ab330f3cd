# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow map: complete for the policies of others, strict about what it does not know."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.model.flowmap import FLOW_MAP, NETWORK_CLASSES, SEVERITIES, UNKNOWN, flow
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

LEFT_OUT = ("db_", "x_")


def test_it_knows_every_permission_of_a_distribution(shared_data: Callable[[str], pathlib.Path]) -> None:
    policy = parse_policy((shared_data("selinux") / "gentoo-targeted.policy.32").read_bytes())
    unknown = [
        f"{name}:{permission}"
        for name, item in policy.classes.items()
        for permission in item.permissions
        if not name.startswith(LEFT_OUT) and permission not in FLOW_MAP.get(name, {})
    ]
    assert not unknown


def test_what_it_does_not_know_counts_as_both() -> None:
    for name, permission in (("file", "teleport"), ("db_table", "select"), ("of_tomorrow", "read")):
        found = flow(name, permission)
        assert found is UNKNOWN
        assert found.reads
        assert found.writes


def test_every_row_is_whole() -> None:
    for name, permissions in FLOW_MAP.items():
        for permission, item in permissions.items():
            assert item.direction in "rwbn", (name, permission)
            assert (item.kind in SEVERITIES) == (item.direction != "n"), (name, permission)
            assert len(item.reason) > 5, (name, permission)
    assert set(FLOW_MAP) >= NETWORK_CLASSES


FAULTS_OF_OTHERS = {
    "running a file takes its content in": ("file", "execute", "r", "code"),
    "so does being its program": ("file", "entrypoint", "r", "code"),
    "loading a policy": ("security", "load_policy", "w", "kernel"),
    "switching enforcing off": ("security", "setenforce", "w", "kernel"),
    "loading a module": ("capability", "sys_module", "w", "kernel"),
    "programs in the kernel": ("capability2", "bpf", "w", "kernel"),
    "becoming another": ("process", "dyntransition", "w", "code"),
    "a dirty environment": ("process", "noatsecure", "w", "code"),
    "another's memory": ("process", "ptrace", "b", "code"),
    "an exit status": ("process", "sigchld", "w", "ipc"),
    "raw blocks": ("blk_file", "write", "w", "kernel"),
    "the way through a folder": ("dir", "search", "r", "name"),
    "where a link leads": ("lnk_file", "read", "r", "name"),
    "the network": ("tcp_socket", "read", "r", "net"),
    "a request to a server": ("unix_stream_socket", "connectto", "w", "ipc"),
}


@pytest.mark.parametrize("what", FAULTS_OF_OTHERS)
def test_rows_that_integrity_hangs_on(what: str) -> None:
    name, permission, direction, kind = FAULTS_OF_OTHERS[what]
    found = flow(name, permission)
    assert (found.direction, found.kind) == (direction, kind)

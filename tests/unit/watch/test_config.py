# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration is read strictly: every fault is named by its member."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.watch.config import read_config

from watchparts import configuration


def test_a_good_one() -> None:
    config = read_config(json.dumps(configuration()).encode())
    assert [host.name for host in config.hosts] == ["h1", "h2"]
    assert config.metrics_port == 0
    assert config.lease_s == 2 * config.interval_s - 1


HOST = configuration()["hosts"][0]


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("type", {"type": "other"}),
        ("store", {"store": ""}),
        ("interval_s", {"interval_s": 0}),
        ("interval_s", {"interval_s": True}),
        ("jitter_s", {"jitter_s": 60}),
        ("workers", {"workers": 0}),
        ("subscribe", {"subscribe": "yes"}),
        ("releases", {"releases": [1]}),
        ("policy", {"policy": []}),
        ("hosts", {"hosts": [HOST, HOST]}),
        ("hosts", {"hosts": [HOST, {**HOST, "host_id": configuration()["hosts"][1]["host_id"]}]}),
        ("hosts.port", {"hosts": [{**HOST, "port": 0}]}),
        ("hosts.host_id", {"hosts": [{**HOST, "host_id": "x"}]}),
        ("hosts", {"hosts": [{**HOST, "more": 1}]}),
        ("hooks.url", {"hooks": [{"kind": "webhook", "url": "file:///etc/passwd", "timeout_s": 1}]}),
        ("hooks.argv", {"hooks": [{"kind": "command", "argv": ["rm"], "timeout_s": 1}]}),
        ("hooks.argv", {"hooks": [{"kind": "command", "argv": [], "timeout_s": 1}]}),
        ("hooks.kind", {"hooks": [{"kind": "shell", "timeout_s": 1}]}),
        ("metrics.port", {"metrics": {"address": "127.0.0.1", "port": 0}}),
        ("watch", {"surprise": 1}),
    ],
)
def test_faults(member: str, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        read_config(json.dumps({**configuration(), **change}).encode())
    assert caught.value.code == "watch.config"
    assert member in caught.value.message


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff" * 10, b"[" * 4000])
def test_no_object(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"watch\.config"):
        read_config(data)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told, with a socket as systemd has one."""

from __future__ import annotations

import pathlib
import socket

import pytest
from ansible.module_utils.vouch.port.servicemanager import notify


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "abstract"])
def test_it_is_told_where_it_listens(abstract: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"@{tmp_path}/notify" if abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + place[1:] if abstract else place)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", place)
        notify("READY=1")
        assert listening.recv(64) == b"READY=1"


def test_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_nobody_listens(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
    with pytest.raises(OSError, match="notify") as caught:
        notify("READY=1")
    assert caught.value.filename == f"{tmp_path}/notify"

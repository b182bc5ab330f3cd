# SPDX-License-Identifier: GPL-3.0-or-later
"""A link against a real sshd, the real relay and the real service: kept, made anew, listened to, hung up."""

from __future__ import annotations

import pathlib
import threading
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.evidence import Evidence
from ansible.module_utils.vouch.port.hostlink import HostPlace, SshLink
from ansible.module_utils.vouch.port.ssh import Limits

from sshd_harness import Sshd
from verifier_harness import PCRS, Verifier

pytestmark = pytest.mark.swtpm
LIMITS = Limits(connect_s=10, banner_s=10, auth_s=10, answer_s=30)


def link(sshd: Sshd, **changes: Any) -> SshLink:
    place = {
        "address": "127.0.0.1",
        "port": sshd.port,
        "user": sshd.user,
        "key_file": str(sshd.key_file),
        "host_key": sshd.host_key,
    }
    return SshLink(HostPlace(**{**place, **changes}), limits=LIMITS)


def nonce(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_asked_again_on_one_connection(sshd: Sshd) -> None:
    kept = link(sshd)
    first = kept.ask(nonce(1), PCRS, ima_offset=0)
    connection = kept._asking
    whole = Evidence.from_bytes(first.data)
    second = kept.ask(nonce(2), PCRS, ima_offset=len(whole.ima_log))
    assert kept._asking is connection
    assert first.channel_key == second.channel_key == sshd.host_key
    assert Evidence.from_bytes(second.data).ima_log == b""
    kept.close()


def test_a_list_that_is_shorter_now_is_asked_for_whole(sshd: Sshd, verifier: Verifier) -> None:
    kept = link(sshd)
    found = kept.ask(nonce(3), PCRS, ima_offset=1)
    assert Evidence.from_bytes(found.data).ima_log == verifier.ima.read_bytes()
    kept.close()


def test_a_connection_that_went_away_is_made_anew(sshd: Sshd) -> None:
    kept = link(sshd)
    kept.ask(nonce(4), PCRS, ima_offset=0)
    assert kept._asking is not None
    kept._asking.close()
    assert Evidence.from_bytes(kept.ask(nonce(5), PCRS, ima_offset=0).data)
    kept.close()


def test_nobody_there(sshd: Sshd, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError, match=r"ssh\.connect"):
        link(sshd, port=1).ask(nonce(6), PCRS, ima_offset=0)
    down = Sshd(tmp_path, tmp_path / "nobody")
    try:
        with pytest.raises(UnreachableError, match=r"ssh\.closed"):
            link(down).ask(nonce(7), PCRS, ima_offset=0)
    finally:
        down.stop()


def test_listened_to_until_it_is_hung_up(sshd: Sshd) -> None:
    kept = link(sshd)
    told: list[dict[str, Any] | None] = []
    ended: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        try:
            for event in kept.events():
                told.append(event)
                begun.set()
        except UnreachableError as error:
            ended.append(error.code)

    thread = threading.Thread(target=listen)
    thread.start()
    assert begun.wait(30)
    kept.close()
    thread.join(30)
    assert not thread.is_alive()
    assert told[0] is not None
    assert told[0]["event"] == "watch.begin"
    assert ended == ["ssh.closed"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's log as the daemon really writes it; the lies are in tests/attack/test_event_log_cut.py."""

from __future__ import annotations

import hashlib
import pathlib

from ansible.module_utils.vouch.check.eventlog14 import EVENTS, check_events, replay_log
from ansible.module_utils.vouch.daemon.eventlog import EventLog


class Register:
    """PCR 14."""

    def __init__(self) -> None:
        self.value = bytes(32)

    def read_pcrs(self, indices: tuple[int, ...]) -> dict[int, bytes]:
        """Return it."""
        return dict.fromkeys(indices, self.value)

    def extend(self, pcr: int, digest: bytes) -> None:
        """Extend it."""
        assert pcr == 14
        self.value = hashlib.sha256(self.value + digest).digest()


def test_what_the_daemon_writes_is_accepted(tmp_path: pathlib.Path) -> None:
    register = Register()
    log = EventLog(str(tmp_path), register)
    start = {"event": "verifier.start", "version": "0.1.0", "time": 5, "reset_count": 7, "restart_count": 0}
    log.record(start)
    log.record(start)
    records = replay_log(log.data, quoted_pcr14=register.value, count=log.count, head=log.head)
    assert [record.event for record in records] == ["verifier.start"] * 2
    codes = [finding.code for finding in check_events(records, reset_count=7, restart_count=0)]
    assert codes == ["eventlog14.restarted"]
    assert set(EVENTS["verifier.start"]) == set(start)

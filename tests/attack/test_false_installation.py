# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the installation is missing, somebody else's, or of other files."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ansible.module_utils.vouch.model.evidence import Roti
from ansible.module_utils.vouch.model.release import InstallStatement

from sim.attester import SimAppraiser, SimHost, SimRelease, ssh_key


def roti_of(host: SimHost) -> Roti:
    """Return the proof the host was installed with."""
    assert host.roti is not None
    return host.roti


def judged(host: SimHost) -> tuple[str, tuple[str, ...]]:
    """Return stage and codes of the host's appraisal."""
    result = SimAppraiser(host=host).appraise().result
    return result.stage, result.codes


def test_no_proof() -> None:
    host = SimHost()
    host.roti = None
    assert judged(host) == ("roti", ("roti.missing",))


def test_the_proof_of_another_machine() -> None:
    host = SimHost()
    host.roti = roti_of(SimHost(seed=2))
    stage, codes = judged(host)
    assert (stage, codes[0]) == ("roti", "roti.quote")


def test_written_by_an_installer_nobody_trusts() -> None:
    host = SimHost()
    host.install([hashlib.sha256(b"somebody's installer").digest()])
    host.boot()
    assert judged(host) == ("roti", ("roti.installer",))


def test_a_changed_statement() -> None:
    host = SimHost()
    statement = InstallStatement.from_bytes(roti_of(host).statement)
    host.roti = replace(roti_of(host), statement=replace(statement, slot="b").to_bytes())
    assert judged(host) == ("roti", ("roti.statement.digest",))


def test_other_files_were_written() -> None:
    host = SimHost()
    host.release.root_img = b"another root"
    host.install()
    host.release.root_img = b"root image"
    host.boot()
    assert judged(host) == ("roti", ("roti.files",))


def test_another_release_was_written() -> None:
    host = SimHost()
    right = host.release_id
    host.release_id = SimHost(SimRelease(name="dom0-0")).release_id
    host.install()
    host.release_id = right
    host.boot()
    host.enrolment = replace(host.enrolment, release_id=right, installed=right)
    assert judged(host) == ("roti", ("roti.release",))


def test_another_channel_key_was_made() -> None:
    host = SimHost()
    right = host.ssh_host_key
    host.ssh_host_key = ssh_key(77)
    host.install()
    host.ssh_host_key = right
    host.boot()
    host.enrolment = replace(host.enrolment, ssh_host_key=right)
    assert judged(host) == ("roti", ("roti.channel",))


def test_a_firmware_log_that_does_not_explain_the_registers() -> None:
    host = SimHost()
    log = bytearray(roti_of(host).event_log)
    log[-60] ^= 1
    host.roti = replace(roti_of(host), event_log=bytes(log))
    stage, codes = judged(host)
    assert stage == "roti"
    assert codes[0].startswith("eventlog.")

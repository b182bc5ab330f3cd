# SPDX-License-Identifier: GPL-3.0-or-later
"""Something else than the release was booted: another xen.efi, another kernel in it, another command line."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import SimAppraiser, SimHost, SimRelease


def test_an_unknown_image() -> None:
    host = SimHost()
    host.boot(hashlib.sha256(b"xen.cfg changed inside").digest())
    result = SimAppraiser(host=host).appraise().result
    assert result.verdict is Verdict.CONTRAINDICATED
    assert (result.stage, result.codes) == ("boot", ("boot.pcr4.unexpected",))
    assert result.pcr4_expected == host.release.release.pcr4
    assert result.pcr4_found == host.tpm.registers[4]


def test_another_image_first_and_then_the_release() -> None:
    host = SimHost()
    host.power_on([hashlib.sha256(b"bootkit").digest(), host.release.authenticode], boot_entry=b"vouch")
    assert SimAppraiser(host=host).appraise().result.codes == ("boot.pcr4.unexpected",)


def test_failed_boot_options_only_as_many_as_the_policy_tolerates() -> None:
    host = SimHost()
    host.failed_attempts = 2
    host.boot()
    refused = SimAppraiser(host=host, policy_changes={"max_failed_boot_attempts": 1}).appraise().result
    assert refused.codes == ("boot.pcr4.unexpected",)
    accepted = SimAppraiser(host=host, policy_changes={"max_failed_boot_attempts": 2}).appraise().result
    assert accepted.verdict is Verdict.AFFIRMING
    assert "boot.pcr4.attempts" in [finding.code for finding in accepted.findings]


def test_other_firmware() -> None:
    host = SimHost()
    host.firmware = b"firmware with an implant"
    host.boot()
    result = SimAppraiser(host=host).appraise().result
    assert result.codes == ("boot.baseline.mismatch",)
    assert [finding.subject for finding in result.findings if finding.severity.value == "deny"] == ["pcr:0"]


def test_boot_entry_and_partitions_change_after_they_were_pinned() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    appraiser.accept()
    host.power_on([host.release.authenticode], boot_entry=b"another entry")
    result = appraiser.appraise().result
    assert result.codes == ("boot.baseline.mismatch",)
    assert [finding.subject for finding in result.findings if finding.severity.value == "deny"] == ["pcr:1"]


def test_all_wrong_registers_are_reported_at_once() -> None:
    host = SimHost()
    host.firmware = b"firmware with an implant"
    host.boot(hashlib.sha256(b"xen.cfg changed inside").digest())
    assert SimAppraiser(host=host).appraise().result.codes == ("boot.pcr4.unexpected", "boot.baseline.mismatch")


def test_an_older_release_that_was_not_installed_here() -> None:
    host = SimHost()
    old = SimRelease(name="dom0-0", xen_efi=b"old xen.efi")
    old_host = SimHost(old, seed=2)
    host.boot(old.authenticode)
    host.statement_changes = {"release_id": old_host.release_id}
    result = SimAppraiser(host=host, releases=[host.release, old]).appraise().result
    assert (result.stage, result.codes) == ("boot", ("release.unexpected",))


def test_the_enrolment_does_not_move_on_refused_evidence() -> None:
    host = SimHost()
    host.boot(hashlib.sha256(b"other").digest())
    appraiser = SimAppraiser(host=host)
    assert appraiser.appraise().enrolment is None
    assert replace(host.enrolment) == appraiser.enrolment

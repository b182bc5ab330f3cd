# SPDX-License-Identifier: GPL-3.0-or-later
"""Something runs in dom0 that is not of the release."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.model.finding import Finding
from ansible.module_utils.vouch.parse.imalog import encode_template_data

from sim.attester import SimAppraiser, SimHost

CONTENT = b"#!/bin/sh"


def only(host: SimHost, code: str) -> Finding:
    """Return the one finding; it has ``code`` and stops the appraisal at the contents."""
    result = SimAppraiser(host=host).appraise().result
    assert (result.stage, result.codes) == ("contents", (code,))
    return next(finding for finding in result.findings if finding.code == code)


def test_a_new_file_is_named_with_its_digest() -> None:
    host = SimHost()
    host.measure("/tmp/implant", CONTENT)
    finding = only(host, "ima.entry.unknown")
    assert finding.actual == f"/tmp/implant sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert finding.expected == "no such file in the release"
    assert finding.where is not None
    assert finding.where.entry == 6


def test_a_changed_file_of_the_release_tells_the_right_digest() -> None:
    host = SimHost()
    host.measure("/init", CONTENT)
    assert only(host, "ima.entry.unknown").expected == f"sha256:{hashlib.sha256(b'initrd').hexdigest()}"


def test_a_good_file_under_another_name() -> None:
    host = SimHost()
    host.measure("/usr/sbin/sshd", b"initrd")
    only(host, "ima.entry.unknown")


def test_a_file_that_was_written_while_it_was_measured() -> None:
    host = SimHost()
    data = encode_template_data("ima-sig", "sha256", bytes(32), b"/usr/sbin/xenstored")
    host.measure_raw(data, violation=True)
    assert only(host, "ima.violation").actual == "/usr/sbin/xenstored"


def test_a_file_of_the_release_in_a_violation_is_still_one() -> None:
    host = SimHost()
    data = encode_template_data("ima-sig", "sha256", hashlib.sha256(b"initrd").digest(), b"/init")
    host.measure_raw(data, violation=True)
    only(host, "ima.violation")


def test_a_measurement_hidden_in_another_register() -> None:
    host = SimHost()
    data = encode_template_data("ima-sig", "sha256", hashlib.sha256(b"initrd").digest(), b"/init")
    host.measure_raw(data, pcr=11)
    host.measure("/init", b"initrd")
    only(host, "ima.pcr.unexpected")


@pytest.mark.parametrize("digest_type", ["ima", "verity"])
def test_a_file_measured_by_another_template(digest_type: str) -> None:
    """The content digest of a file of the release is that file; the root of its hash tree is another number."""
    host = SimHost()
    data = encode_template_data("ima-ngv2", "sha256", hashlib.sha256(b"initrd").digest(), b"/init")
    if digest_type == "ima":
        host.measure_raw(data, template="ima-ngv2")
        assert SimAppraiser(host=host).appraise().result.codes == ()
    else:
        size = int.from_bytes(data[:4], "little") + 3
        data = size.to_bytes(4, "little") + data[4:].replace(b"ima:", b"verity:", 1)
        host.measure_raw(data, template="ima-ngv2")
        only(host, "ima.entry.unknown")


def test_a_well_framed_entry_with_rubbish_inside() -> None:
    host = SimHost()
    host.measure_raw(b"rubbish")
    only(host, "ima.entry.malformed")


def test_the_list_of_another_boot_state() -> None:
    """The first entry ties the list to PCRs 0 to 9."""
    host = SimHost()
    host.power_on([host.release.authenticode], boot_entry=b"vouch")
    host.ima_log, host.event_log, host.events = b"", b"", 0
    host.measure_boot_aggregate(bytes(32))
    host.log_event(start_of(host))
    only(host, "ima.boot-aggregate.mismatch")


def test_a_list_without_its_first_entry() -> None:
    host = SimHost()
    host.power_on([host.release.authenticode], boot_entry=b"vouch")
    host.ima_log, host.event_log, host.events = b"", b"", 0
    host.measure("/init", b"initrd")
    host.log_event(start_of(host))
    only(host, "ima.boot-aggregate.missing")


def test_many_unknown_files_are_counted() -> None:
    host = SimHost()
    for number in range(100):
        host.measure(f"/tmp/{number}", CONTENT)
    result = SimAppraiser(host=host).appraise().result
    assert result.codes == ("ima.entry.unknown", "ima.findings.more")
    assert sum(finding.code == "ima.entry.unknown" for finding in result.findings) == 64


def start_of(host: SimHost) -> dict[str, object]:
    """Return the event every log begins with."""
    return {
        "event": "verifier.start",
        "version": "0.1.0",
        "time": 1,
        "reset_count": host.tpm.reset_count,
        "restart_count": host.tpm.restart_count,
    }

# SPDX-License-Identifier: GPL-3.0-or-later
"""A reboot is used to forget what was measured before: the list is resumed where it does not continue."""

from __future__ import annotations

from sim.attester import SimAppraiser, SimHost


def test_the_old_offset_in_a_new_boot() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    appraiser.accept()
    assert appraiser.enrolment is not None
    assert appraiser.enrolment.ima is not None
    host.boot()
    host.ima_offset = appraiser.enrolment.ima.offset_bytes
    result = appraiser.appraise().result
    assert (result.stage, result.codes) == ("logs", ("ima.offset.mismatch",))


def test_an_offset_nobody_asked_for_skips_measurements() -> None:
    host = SimHost()
    host.measure("/tmp/implant", b"implant")
    host.ima_offset = len(host.ima_log)
    assert SimAppraiser(host=host).appraise().result.codes == ("ima.offset.mismatch",)


def test_resuming_judges_only_what_is_new() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    first = appraiser.accept()
    assert appraiser.enrolment is not None
    assert appraiser.enrolment.ima is not None
    host.ima_offset = appraiser.enrolment.ima.offset_bytes
    host.measure("/init", b"initrd")
    second = appraiser.accept()
    assert first.result.ima_entries == 6
    assert second.result.ima_entries == 7


def test_the_whole_list_may_always_be_sent_again() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    appraiser.accept()
    host.measure("/init", b"initrd")
    assert appraiser.accept().result.ima_entries == 7


def test_a_verifier_log_of_an_earlier_boot_is_extended_again() -> None:
    host = SimHost()
    old_log, old_events = host.event_log, host.events
    host.boot()
    host.tpm.registers[14] = bytes(32)
    host.event_log, host.events = old_log, old_events
    host.tpm.extend(14, bytes.fromhex(old_log.split(b'"digest":"')[1][:64].decode()))
    result = SimAppraiser(host=host).appraise().result
    assert (result.stage, result.codes) == ("contents", ("eventlog14.boot.mismatch",))

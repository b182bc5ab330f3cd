# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay and manifest check; the lies themselves are in tests/attack."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.check.imarules import ReferenceList, check_ima, replay_ima
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.model.finding import Severity
from ansible.module_utils.vouch.model.ima import FileManifest, ImaResume
from ansible.module_utils.vouch.parse.imalog import encode_entry, encode_template_data, parse_binary

from conftest import expected, foreign

START = ImaResume.start(reset_count=1, restart_count=0)
FILES = {b"/usr/bin/%d" % number: hashlib.sha256(b"%d" % number).digest() for number in range(5)}
AGGREGATE = hashlib.sha256(b"registers").digest()


def manifest(files: dict[bytes, bytes]) -> FileManifest:
    """Return a manifest of ``files``."""
    return FileManifest.from_bytes(b"".join(b"%s  %s\n" % (d.hex().encode(), p) for p, d in sorted(files.items())))


REFERENCE = ReferenceList(manifest(FILES))


def listed(template: str = "ima-ng") -> tuple[bytes, bytes]:
    """Return a good list and its PCR 10."""
    data = [encode_template_data(template, "sha256", AGGREGATE, b"boot_aggregate")]
    data += [encode_template_data(template, "sha256", digest, path) for path, digest in FILES.items()]
    register = bytes(32)
    for item in data:
        register = hashlib.sha256(register + hashlib.sha256(item).digest()).digest()
    return b"".join(encode_entry(10, template, item) for item in data), register


@pytest.mark.parametrize("template", ["ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2"])
def test_a_good_list_has_no_findings(template: str) -> None:
    log, register = listed(template)
    replayed = replay_ima(log, start=START, quoted_pcr10=register, reference=REFERENCE)
    assert check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE) == ()
    assert (replayed.covered_entries, replayed.tail_entries, replayed.tail_bytes) == (6, 0, 0)
    assert replayed.resume.offset_bytes == len(log)
    assert replayed.resume.pcr10 == register


def test_what_is_not_spelt_out_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million unknown files, each held against each file of the release, would occupy an appraiser for hours."""
    data = [encode_template_data("ima-ng", "sha256", AGGREGATE, b"boot_aggregate")]
    data += [encode_template_data("ima-ng", "sha256", AGGREGATE, b"/tmp/%d" % number) for number in range(200)]
    data += [encode_template_data("ima-ng", "sha256", FILES[b"/usr/bin/1"], b"/usr/bin/1"), b"no fields"]
    register = bytes(32)
    for item in data:
        register = hashlib.sha256(register + hashlib.sha256(item).digest()).digest()
    log = b"".join(encode_entry(10, "ima-ng", item) for item in data)
    replayed = replay_ima(log, start=START, quoted_pcr10=register, reference=REFERENCE)
    asked: list[bytes] = []

    def digests_of(_: FileManifest, path: bytes) -> tuple[bytes, ...]:
        asked.append(path)
        return ()

    monkeypatch.setattr(FileManifest, "digests_of", digests_of)
    found = check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE)
    assert [(item.code, item.actual) for item in found[64:]] == [("ima.findings.more", "137 more findings")]
    assert len(asked) == 64


def test_templates_may_be_mixed() -> None:
    log, register = listed("ima-ng")
    extra = encode_template_data("ima-sig", "sha256", FILES[b"/usr/bin/1"], b"/usr/bin/1")
    register = hashlib.sha256(register + hashlib.sha256(extra).digest()).digest()
    log += encode_entry(10, "ima-sig", extra)
    replayed = replay_ima(log, start=START, quoted_pcr10=register, reference=REFERENCE)
    assert check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE) == ()


def test_template_data_under_another_templates_name_is_judged_as_what_it_is_called() -> None:
    """The fast way compares bytes; it must not accept them under a name that gives them another meaning."""
    log, register = listed("ima-ng")
    extra = encode_template_data("ima-ng", "sha256", FILES[b"/usr/bin/1"], b"/usr/bin/1")
    register = hashlib.sha256(register + hashlib.sha256(extra).digest()).digest()
    log += encode_entry(10, "ima-sig", extra)
    replayed = replay_ima(log, start=START, quoted_pcr10=register, reference=REFERENCE)
    codes = [finding.code for finding in check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE)]
    assert codes == ["ima.entry.malformed"]


def test_the_tail_is_framed_strictly_but_not_judged() -> None:
    log, register = listed()
    unknown = encode_entry(10, "ima-ng", encode_template_data("ima-ng", "sha256", bytes(32), b"/x"))
    replayed = replay_ima(log + unknown, start=START, quoted_pcr10=register, reference=REFERENCE)
    assert (replayed.tail_entries, replayed.tail_bytes) == (1, len(unknown))
    (note,) = check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE)
    assert (note.code, note.severity) == ("ima.tail.uncovered", Severity.NOTE)
    with pytest.raises(EvidenceError) as caught:
        replay_ima(log + unknown[:-1], start=START, quoted_pcr10=register, reference=REFERENCE)
    assert caught.value.code == "parse.truncated"


def test_nothing_new_since_the_last_time() -> None:
    log, register = listed()
    first = replay_ima(log, start=START, quoted_pcr10=register, reference=REFERENCE)
    again = replay_ima(b"", start=first.resume, quoted_pcr10=register, reference=REFERENCE)
    assert again.resume == first.resume
    assert again.covered_entries == 0
    assert check_ima(again, reference=REFERENCE, boot_aggregate=None) == ()


def test_a_list_judged_from_its_beginning_needs_the_aggregate() -> None:
    log, register = listed()
    replayed = replay_ima(log, start=START, quoted_pcr10=register, reference=REFERENCE)
    with pytest.raises(UsageError):
        check_ima(replayed, reference=REFERENCE, boot_aggregate=None)


def test_an_untouched_register_has_no_list() -> None:
    replayed = replay_ima(b"", start=START, quoted_pcr10=bytes(32), reference=REFERENCE)
    codes = [finding.code for finding in check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE)]
    assert codes == ["ima.boot-aggregate.missing"]


def test_a_mismatch_says_where_it_ended() -> None:
    log, register = listed()
    with pytest.raises(EvidenceError) as caught:
        replay_ima(log, start=START, quoted_pcr10=b"\x01" * 32, reference=REFERENCE)
    (finding,) = caught.value.findings
    assert finding.code == "ima.replay.mismatch"
    assert finding.actual == register.hex()
    assert finding.where is not None
    assert (finding.where.entry, finding.where.offset_bytes) == (6, len(log))


def test_an_unknown_template_keeps_its_code() -> None:
    with pytest.raises(EvidenceError) as caught:
        replay_ima(encode_entry(10, "ima-xx", b""), start=START, quoted_pcr10=b"\x01" * 32, reference=REFERENCE)
    assert caught.value.code == "ima.template.unknown"


def test_an_empty_manifest_is_refused() -> None:
    with pytest.raises(UsageError):
        ReferenceList(FileManifest(bytes(32), frozenset()))


@pytest.mark.parametrize("name", ["guard-h12ssl.bin", "whooo-boot_aggregate.bin", "tss-sml-ima-sha1-invalidated.bin"])
def test_lists_of_other_machines_replay_to_their_registers(name: str) -> None:
    data = (foreign("ima") / name).read_bytes()
    expect = next(item["expect"] for item in expected("ima")["files"] if item["file"] == name)
    register = bytes.fromhex(expect["pcrs"]["sha256"]["10"])
    replayed = replay_ima(data, start=START, quoted_pcr10=register, reference=REFERENCE)
    assert replayed.covered_entries == expect["entries"]
    found = check_ima(replayed, reference=REFERENCE, boot_aggregate=AGGREGATE)
    assert all(finding.severity is Severity.DENY for finding in found)


def test_a_real_machine_against_its_own_files() -> None:
    """Judged by a manifest made from its list, only what no manifest can allow is left: violations, SHA-1 digests."""
    data = (foreign("ima") / "guard-h12ssl.bin").read_bytes()
    entries = parse_binary(data)
    algorithms = {entry.fields().algorithm for entry in entries}
    assert algorithms == {"sha1"}
    assert sum(entry.violation for entry in entries) == 2

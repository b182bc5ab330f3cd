# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of measurement lists: what the build predicts is accepted, chunks equal the whole, noise is refused."""

from __future__ import annotations

import contextlib
import hashlib

from ansible.module_utils.vouch.check.imarules import ReferenceList, check_ima, replay_ima
from ansible.module_utils.vouch.errors import EvidenceError, ParseError
from ansible.module_utils.vouch.model.ima import FileManifest, ImaResume
from ansible.module_utils.vouch.parse.imalog import (
    TEMPLATES,
    encode_entry,
    encode_template_data,
    parse_ascii,
    parse_binary,
    parse_fields,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from thorough import examples

START = ImaResume.start(reset_count=1, restart_count=0)
AGGREGATE = hashlib.sha256(b"registers").digest()
PATHS = st.binary(min_size=1, max_size=40).map(
    lambda raw: b"/" + raw.replace(b"\0", b"0").replace(b"\n", b"n").replace(b" ", b"_")
)
FILES = st.dictionaries(PATHS, st.binary(min_size=32, max_size=32), min_size=1, max_size=8)
PREDICTED = st.sampled_from(["ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2"])


def reference(files: dict[bytes, bytes]) -> ReferenceList:
    """Return the reference list of ``files``."""
    lines = sorted(b"%b  %b\n" % (digest.hex().encode(), path) for path, digest in files.items())
    return ReferenceList(FileManifest.from_bytes(b"".join(lines)))


def listed(files: dict[bytes, bytes], template: str) -> tuple[bytes, list[bytes]]:
    """Return a list over ``files`` and PCR 10 after each entry."""
    data = [encode_template_data(template, "sha256", AGGREGATE, b"boot_aggregate")]
    data += [encode_template_data(template, "sha256", digest, path) for path, digest in files.items()]
    registers, register = [], bytes(32)
    for item in data:
        register = hashlib.sha256(register + hashlib.sha256(item).digest()).digest()
        registers.append(register)
    return b"".join(encode_entry(10, template, item) for item in data), registers


@given(FILES, PREDICTED)
def test_what_the_build_lists_is_accepted(files: dict[bytes, bytes], template: str) -> None:
    log, registers = listed(files, template)
    known = reference(files)
    replayed = replay_ima(log, start=START, quoted_pcr10=registers[-1], reference=known)
    assert check_ima(replayed, reference=known, boot_aggregate=AGGREGATE) == ()


@given(FILES, PREDICTED, st.data())
def test_chunks_equal_the_whole(files: dict[bytes, bytes], template: str, data: st.DataObject) -> None:
    log, registers = listed(files, template)
    known = reference(files)
    whole = replay_ima(log, start=START, quoted_pcr10=registers[-1], reference=known)
    stop = data.draw(st.integers(0, len(registers) - 1))
    first = replay_ima(log, start=START, quoted_pcr10=registers[stop], reference=known)
    assert first.resume.entries == stop + 1
    rest = replay_ima(log[first.resume.offset_bytes :], start=first.resume, quoted_pcr10=registers[-1], reference=known)
    assert rest.resume == whole.resume
    assert check_ima(rest, reference=known, boot_aggregate=None) == ()


@given(FILES, PREDICTED, st.data())
def test_a_flipped_bit_of_template_data_never_replays(
    files: dict[bytes, bytes], template: str, data: st.DataObject
) -> None:
    log, registers = listed(files, template)
    entries = parse_binary(log)
    entry = data.draw(st.sampled_from(entries))
    at = data.draw(st.integers(entry.size_bytes - len(entry.template_data), entry.size_bytes - 1)) + entry.offset_bytes
    bit = data.draw(st.integers(0, 7))
    changed = log[:at] + bytes([log[at] ^ (1 << bit)]) + log[at + 1 :]
    try:
        replay_ima(changed, start=START, quoted_pcr10=registers[-1], reference=reference(files))
    except EvidenceError:
        return
    raise AssertionError("a changed list was accepted")


@given(FILES, PREDICTED, st.data())
def test_an_entry_taken_out_never_replays(files: dict[bytes, bytes], template: str, data: st.DataObject) -> None:
    log, registers = listed(files, template)
    entry = data.draw(st.sampled_from(parse_binary(log)))
    cut = log[: entry.offset_bytes] + log[entry.offset_bytes + entry.size_bytes :]
    try:
        replay_ima(cut, start=START, quoted_pcr10=registers[-1], reference=reference(files))
    except EvidenceError:
        return
    raise AssertionError("a shortened list was accepted")


@given(FILES, PREDICTED, PATHS, st.binary(max_size=64))
def test_what_is_not_of_the_release_is_found(
    files: dict[bytes, bytes], template: str, path: bytes, content: bytes
) -> None:
    log, registers = listed(files, template)
    digest = hashlib.sha256(content).digest()
    extra = encode_template_data(template, "sha256", digest, path)
    register = hashlib.sha256(registers[-1] + hashlib.sha256(extra).digest()).digest()
    known = reference(files)
    replayed = replay_ima(log + encode_entry(10, template, extra), start=START, quoted_pcr10=register, reference=known)
    codes = [item.code for item in check_ima(replayed, reference=known, boot_aggregate=AGGREGATE)]
    assert codes == ([] if files.get(path) == digest else ["ima.entry.unknown"])


@settings(max_examples=examples(300))
@given(st.binary(max_size=300))
def test_noise_is_entries_or_a_parse_error(data: bytes) -> None:
    for parse in (parse_binary, parse_ascii):
        try:
            entries = parse(data)
        except ParseError:
            continue
        assert sum(entry.size_bytes for entry in entries) in {len(data), len(data) + 1}


@settings(max_examples=examples(300))
@given(st.sampled_from(sorted(TEMPLATES)), st.binary(max_size=200))
def test_template_data_is_fields_or_a_parse_error(template: str, data: bytes) -> None:
    if template == "ima" and len(data) < 20:
        return
    with contextlib.suppress(ParseError):
        parse_fields(template, data)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware parts under random and hostile input.

* A predicted register equals the replay of that boot.
* A log with one byte or its end changed never proves something else about a register.
* A parser gives a record or a ParseError, nothing else.
* Sections appended to an image come out as they went in.
"""

from __future__ import annotations

import hashlib
import struct

import pytest
from ansible.module_utils.vouch.check.bootpath import explain_pcr4
from ansible.module_utils.vouch.check.replay import read_event_log, replay, verify_event_log
from ansible.module_utils.vouch.errors import EvidenceError, ParseError
from ansible.module_utils.vouch.make.predict import pcr4_candidates, predict_pcr4, predict_uki_pcr4
from ansible.module_utils.vouch.make.xenefi import append_sections
from ansible.module_utils.vouch.model.boot import claim_of
from ansible.module_utils.vouch.parse import efivar, pe, tcglog
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.firmware import SimFirmware, file_path, signature_list, variable_data
from sim.image import SimImage, SimSection
from thorough import examples

DIGEST = st.binary(min_size=32, max_size=32)
BANKS = st.lists(st.sampled_from(["sha1", "sha256", "sha384", "sha512"]), min_size=1, unique=True)
EVENT = st.tuples(
    st.integers(0, 9),
    st.sampled_from(sorted(set(tcglog.EVENT_NAMES) - {tcglog.EV_NO_ACTION, tcglog.EV_EFI_HCRTM_EVENT})),
    st.binary(max_size=40),
)


def booted() -> SimFirmware:
    firmware = SimFirmware(("sha256",), locality=3)
    firmware.boot([hashlib.sha256(b"xen").digest()], failed_attempts=1, secure_boot=True)
    return firmware


BOOTED = booted()
IMAGE = SimImage(tail=b"tail", symbols=bytes(18)).to_bytes()


@given(application=DIGEST, kernel=DIGEST, failed=st.integers(0, 4), banks=BANKS, locality=st.sampled_from([0, 3, 4]))
def test_prediction_equals_the_replay(
    application: bytes, kernel: bytes, failed: int, banks: list[str], locality: int
) -> None:
    banks = [*(b for b in banks if b != "sha256"), "sha256"]
    single, double = SimFirmware(banks, locality=locality), SimFirmware(banks)
    single.boot([application], failed_attempts=failed)
    double.boot([application, kernel], failed_attempts=failed)
    log = read_event_log(single.log)
    assert replay(log)[4] == predict_pcr4(application, failed)
    assert replay(log)[4] in pcr4_candidates(application, 4)
    path = explain_pcr4(verify_event_log(log, single.bank()))
    assert (path.applications[0].digest, path.failed_attempts) == (application, failed)
    assert replay(read_event_log(double.log))[4] == predict_uki_pcr4(application, kernel, failed)


@given(events=st.lists(EVENT, max_size=20), banks=BANKS)
def test_any_sequence_replays_to_what_was_extended(events: list[tuple[int, int, bytes]], banks: list[str]) -> None:
    firmware = SimFirmware(banks)
    for pcr, event_type, data in events:
        firmware.measure(pcr, event_type, data)
    log = read_event_log(firmware.log)
    for algorithm in banks:
        assert dict(replay(log, algorithm).values) == firmware.registers[algorithm]
        for event in log.events:
            claim_of(event, algorithm)


@settings(max_examples=examples(300))
@given(position=st.integers(0, len(BOOTED.log) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_what_is_proven(position: int, bit: int) -> None:
    """It is refused, or every claim that its digest covers is the one of the true log."""
    data = bytearray(BOOTED.log)
    data[position] ^= 1 << bit
    try:
        verified = verify_event_log(read_event_log(bytes(data)), BOOTED.bank())
    except EvidenceError:
        return
    true = verify_event_log(read_event_log(BOOTED.log), BOOTED.bank())
    assert [(e.pcr, dict(e.digests)) for e in verified.events] == [(e.pcr, dict(e.digests)) for e in true.events]


@given(length=st.integers(0, len(BOOTED.log) - 1))
def test_a_cut_log_is_refused(length: int) -> None:
    with pytest.raises(EvidenceError):
        verify_event_log(read_event_log(BOOTED.log[:length]), BOOTED.bank())


@settings(max_examples=examples(300))
@given(position=st.integers(0, len(IMAGE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_the_image_digest(position: int, bit: int) -> None:
    """All but the checksum and the certificate entry is covered, whatever the flip does to the headers."""
    image = pe.parse_pe(IMAGE)
    entry = image.directories_offset + 8 * pe.DIRECTORY_CERTIFICATE
    data = bytearray(IMAGE)
    data[position] ^= 1 << bit
    try:
        digest = pe.authenticode_digest(bytes(data))
    except ParseError:
        return
    free = position in range(image.checksum_offset, image.checksum_offset + 4) or position in range(entry, entry + 8)
    assert free or digest != pe.authenticode_digest(IMAGE)


@given(
    old=st.lists(st.binary(max_size=600), min_size=1, max_size=6),
    new=st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=12),
    alignments=st.sampled_from([(32, 1 << 21), (0x200, 0x1000), (0x1000, 0x1000)]),
    debug=st.binary(max_size=300),
    strip=st.booleans(),
)
def test_sections_come_out_as_they_went_in(
    old: list[bytes], new: list[bytes], alignments: tuple[int, int], debug: bytes, strip: bool
) -> None:
    sections = [SimSection(f".o{i}", data) for i, data in enumerate(old)] + [SimSection(".debug_line_str", debug)]
    sim = SimImage(sections=sections, file_alignment=alignments[0], section_alignment=alignments[1], symbols=bytes(18))
    out = append_sections(sim.to_bytes(), [(f".n{i}", data) for i, data in enumerate(new)], strip_debug=strip)
    image = pe.parse_pe(out)
    wanted = {f".o{i}": data for i, data in enumerate(old)} | {f".n{i}": data for i, data in enumerate(new)}
    for name, data in wanted.items():
        section = image.section(name)
        assert section is not None
        assert out[section.raw_offset : section.raw_end].rstrip(b"\0") == data.rstrip(b"\0")
        assert section.virtual_address % alignments[1] == 0
    assert (image.section(".debug_line_str") is None) is strip
    ends = [s.virtual_address + max(s.virtual_size, s.raw_size) for s in image.sections]
    assert all(end <= s.virtual_address for end, s in zip(ends, image.sections[1:], strict=False))
    assert ends[-1] <= image.size_of_image


@pytest.mark.parametrize(
    ("parse", "seed"),
    [
        (tcglog.parse_event_log, BOOTED.log),
        (pe.parse_pe, IMAGE),
        (pe.authenticode_digest, SimImage(certificates=bytes(16)).to_bytes()),
        (efivar.parse_variable, variable_data(efivar.GLOBAL_VARIABLE, "Boot0000", b"x" * 20)),
        (
            efivar.parse_load_option,
            struct.pack("<IH", 1, len(file_path("\\a.efi"))) + b"a\0\0\0" + file_path("\\a.efi"),
        ),
        (efivar.parse_image_load, struct.pack("<QQQQ", 1, 2, 3, 4) + b"\x7f\xff\x04\0"),
        (efivar.parse_gpt, b"EFI PART" + bytes(84) + struct.pack("<Q", 1) + bytes(128)),
        (efivar.parse_signature_lists, signature_list(b"one") + signature_list(b"two")),
        (efivar.device_path_text, file_path("\\EFI\\BOOT\\BOOTX64.EFI")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@settings(max_examples=examples(150))
@given(data=st.data())
def test_a_parser_gives_a_record_or_a_parse_error(parse: object, seed: bytes, data: st.DataObject) -> None:
    hostile = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(hostile)))
        hostile[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    failure: ParseError | None = None
    try:
        parse(bytes(hostile))  # type: ignore[operator]
    except ParseError as error:
        failure = error
    assert failure is None or (failure.field and failure.offset_bytes >= 0)

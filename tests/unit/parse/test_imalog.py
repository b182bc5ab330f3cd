# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurement lists: lists of other machines, every template, and each way to be malformed."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.parse.imalog import (
    TEMPLATES,
    ImaEntry,
    encode_entry,
    encode_template_data,
    parse_ascii,
    parse_binary,
    parse_fields,
)

from conftest import DATA, expected, foreign

DIGEST = hashlib.sha256(b"content").digest()
U32 = struct.Struct("<I")


def cases(verdicts: set[str]) -> list[Any]:
    """Return (file, expectation) of the lists with one of ``verdicts``; a placeholder where the data is absent."""
    if not (DATA / "ima" / "expected.json").is_file():
        return [pytest.param("", {}, id="absent")]
    return [
        pytest.param(item["file"], item["expect"], id=item["file"])
        for item in expected("ima")["files"]
        if item["expect"].get("verdict") in verdicts
    ]


def parse(name: str, expect: dict[str, Any]) -> tuple[ImaEntry, ...]:
    """Parse a foreign list by its form."""
    data = (foreign("ima") / name).read_bytes()
    return parse_ascii(data) if expect["form"] == "ascii" else parse_binary(data)


def replayed(entries: tuple[ImaEntry, ...]) -> str:
    """Return PCR 10 of the SHA-256 bank after ``entries``, the slow and obvious way."""
    register = bytes(32)
    for entry in entries:
        extended = b"\xff" * 32 if entry.violation else hashlib.sha256(entry.template_data).digest()
        register = hashlib.sha256(register + extended).digest()
    return register.hex()


@pytest.mark.parametrize(("name", "expect"), cases({"accept", "parse-only"}))
def test_lists_of_other_machines(name: str, expect: dict[str, Any]) -> None:
    entries = parse(name, expect) if expect else parse_ascii((foreign("ima") / name).read_bytes())
    templates = {template: sum(entry.template == template for entry in entries) for template in TEMPLATES}
    assert len(entries) == expect["entries"]
    assert {name: count for name, count in templates.items() if count} == expect["templates"]
    assert sum(entry.violation for entry in entries) == expect["violations"]
    assert sum(not entry.violation and entry.template_hash_holds() for entry in entries) == expect["template_hash_ok"]
    assert sum(not (entry.violation or entry.template_hash_holds()) for entry in entries) == expect["template_hash_bad"]
    if "pcrs" in expect:
        assert replayed(entries) == expect["pcrs"]["sha256"]["10"]


@pytest.mark.parametrize(("name", "expect"), cases({"reject"}))
def test_malformed_lists_of_other_projects(name: str, expect: dict[str, Any]) -> None:
    if not expect:
        foreign("ima")
    with pytest.raises(ParseError):
        parse(name, expect)


@pytest.mark.parametrize(("name", "expect"), cases({"accept-or-report-trailing"}))
def test_a_byte_after_the_last_entry_is_reported_with_its_place(name: str, expect: dict[str, Any]) -> None:
    data = (foreign("ima") / name).read_bytes()
    with pytest.raises(ParseError) as caught:
        parse_binary(data)
    assert caught.value.offset_bytes == len(data) - expect["trailing_bytes"]
    assert f"ima[{expect['entries']}]" in caught.value.field
    entries = parse_binary(data[: caught.value.offset_bytes])
    assert replayed(entries) == expect["pcrs"]["sha256"]["10"]


def test_binary_and_ascii_of_one_machine_agree() -> None:
    folder = foreign("ima")
    binary = parse_binary((folder / "guard-h12ssl.bin").read_bytes())
    text = parse_ascii((folder / "guard-h12ssl.ascii").read_bytes())
    assert [(e.template_hash, e.template_data) for e in binary] == [
        (e.template_hash, e.template_data) for e in text[: len(binary)]
    ]


def test_chunks_give_the_entries_of_the_whole() -> None:
    data = (foreign("ima") / "guard-h12ssl.bin").read_bytes()
    whole = parse_binary(data)
    cut = whole[1000].offset_bytes
    tail = parse_binary(data[cut:], base_entry=1000, base_offset=cut)
    assert parse_binary(data[:cut]) + tail == whole


def field(value: bytes) -> bytes:
    """Return one template field."""
    return U32.pack(len(value)) + value


D_NG = field(b"sha256:\0" + DIGEST)
N_NG = field(b"/usr/bin/true\0")
SIGNATURE = bytes.fromhex("030204f3452d230002") + b"\x01\x02"
ALL_TEMPLATES = {
    "ima-ng": D_NG + N_NG,
    "ima-sig": D_NG + N_NG + field(SIGNATURE),
    "ima-ngv2": field(b"ima:sha256:\0" + DIGEST) + N_NG,
    "ima-sigv2": field(b"verity:sha256:\0" + DIGEST) + N_NG + field(b""),
    "ima-buf": D_NG + N_NG + field(b"\x00\x01"),
    "ima-modsig": D_NG + N_NG + field(b"") + field(b"sha256:\0" + DIGEST) + field(b"PKCS7"),
    "evm-sig": D_NG
    + N_NG
    + field(SIGNATURE)
    + field(b"security.ima|security.selinux\0")
    + field(U32.pack(3) + U32.pack(4))
    + field(b"abcdefg")
    + field(U32.pack(0))
    + field(U32.pack(1000))
    + field(b"\xed\x81"),
}


@pytest.mark.parametrize("template", sorted(ALL_TEMPLATES))
def test_every_template_is_read(template: str) -> None:
    data = ALL_TEMPLATES[template]
    (entry,) = parse_binary(encode_entry(10, template, data))
    fields = entry.fields()
    assert (entry.template, entry.template_data, entry.pcr) == (template, data, 10)
    assert (fields.path, fields.digest, fields.algorithm) == (b"/usr/bin/true", DIGEST, "sha256")
    assert entry.template_hash_holds()
    assert not entry.violation


ASCII = {
    "ima-ng": f"sha256:{DIGEST.hex()} /usr/bin/true",
    "ima-sig": f"sha256:{DIGEST.hex()} /usr/bin/true {SIGNATURE.hex()}",
    "ima-ngv2": f"ima:sha256:{DIGEST.hex()} /usr/bin/true",
    "ima-sigv2": f"verity:sha256:{DIGEST.hex()} /usr/bin/true ",
    "ima-buf": f"sha256:{DIGEST.hex()} /usr/bin/true 0001",
    "ima-modsig": f"sha256:{DIGEST.hex()} /usr/bin/true  sha256:{DIGEST.hex()} {b'PKCS7'.hex()}",
    "evm-sig": f"sha256:{DIGEST.hex()} /usr/bin/true {SIGNATURE.hex()} security.ima|security.selinux "
    "0300000004000000 61626364656667 0 1000 33261",
}


@pytest.mark.parametrize("template", sorted(ASCII))
def test_text_form_is_rebuilt_to_the_same_template_data(template: str) -> None:
    data = ALL_TEMPLATES[template]
    sha1 = hashlib.sha1(data).hexdigest()
    (entry,) = parse_ascii(f"10 {sha1} {template} {ASCII[template]}\n".encode())
    assert entry.template_data == data
    assert entry.template_hash_holds()


def test_old_template_pads_the_name() -> None:
    data = b"\x0a\0\0\0" + bytes(20) + U32.pack(3) + b"ima" + DIGEST[:20] + U32.pack(5) + b"/init"
    (entry,) = parse_binary(data)
    assert entry.template_data == DIGEST[:20] + b"/init".ljust(256, b"\0")
    assert entry.violation
    assert entry.fields().path == b"/init"


GOOD = encode_entry(10, "ima-ng", ALL_TEMPLATES["ima-ng"])
MALFORMED: dict[str, tuple[bytes, str]] = {
    "header cut": (GOOD[:20], "parse.truncated"),
    "name cut": (GOOD[:30], "ima.template.unknown"),
    "data cut": (GOOD[:-1], "parse.truncated"),
    "no length": (GOOD[:35], "parse.truncated"),
    "byte after the end": (GOOD + b"\n", "parse.truncated"),
    "unknown template": (encode_entry(10, "ima-xx", b""), "ima.template.unknown"),
    "name of 4 GiB": (GOOD[:24] + b"\xff\xff\xff\xff" + GOOD[28:], "parse.invalid"),
    "data of 4 GiB": (GOOD[:34] + b"\xff\xff\xff\xff" + GOOD[38:], "parse.too-large"),
    "register 99": (encode_entry(99, "ima-ng", ALL_TEMPLATES["ima-ng"]), "parse.invalid"),
    "byte after the fields": (encode_entry(10, "ima-ng", D_NG + N_NG + b"\0"), "parse.trailing"),
    "field missing": (encode_entry(10, "ima-sig", D_NG + N_NG), "parse.truncated"),
    "field too long": (encode_entry(10, "ima-ng", D_NG + U32.pack(99) + b"x"), "parse.truncated"),
    "no algorithm": (encode_entry(10, "ima-ng", field(DIGEST) + N_NG), "parse.invalid"),
    "unknown algorithm": (encode_entry(10, "ima-ng", field(b"crc32:\0abcd") + N_NG), "parse.invalid"),
    "short digest": (encode_entry(10, "ima-ng", field(b"sha256:\0abcd") + N_NG), "parse.invalid"),
    "unknown digest type": (
        encode_entry(10, "ima-ngv2", field(b"xxx:sha256:\0" + DIGEST) + N_NG),
        "parse.invalid",
    ),
    "name without end": (encode_entry(10, "ima-ng", D_NG + field(b"/init")), "parse.invalid"),
    "name with two ends": (encode_entry(10, "ima-ng", D_NG + field(b"/in\0it\0")), "parse.invalid"),
    "signature size": (encode_entry(10, "ima-sig", D_NG + N_NG + field(SIGNATURE + b"x")), "parse.invalid"),
    "signature header cut": (encode_entry(10, "ima-sig", D_NG + N_NG + field(SIGNATURE[:5])), "parse.invalid"),
}


@pytest.mark.parametrize("fault", sorted(MALFORMED))
def test_malformed_binary(fault: str) -> None:
    data, code = MALFORMED[fault]
    with pytest.raises(ParseError) as caught:
        parse_binary(GOOD + data, base_entry=7, base_offset=1000)
    assert caught.value.code == code
    assert "ima[8]" in caught.value.field or fault == "byte after the end"
    assert caught.value.offset_bytes >= 1000 + len(GOOD)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"10",
        b"10 " + b"00" * 20 + b" ima-ng",
        b"10 " + b"00" * 20 + b" ima-ng sha256:" + DIGEST.hex().upper().encode() + b" /x",
        b"32 " + b"00" * 20 + b" ima-ng sha256:" + DIGEST.hex().encode() + b" /x",
        b"10 00 ima-ng sha256:" + DIGEST.hex().encode() + b" /x",
        b"10 " + b"00" * 20 + b" ima-sig sha256:" + DIGEST.hex().encode() + b" /a b c",
        b"10 " + b"00" * 20 + b" ima zz /x",
        b"10 " + b"00" * 20 + b" evm-sig sha256:" + DIGEST.hex().encode() + b" /x    x 0 0",
    ],
)
def test_malformed_ascii(line: bytes) -> None:
    with pytest.raises(ParseError):
        parse_ascii(line + b"\n")


def test_more_entries_than_allowed() -> None:
    with pytest.raises(ParseError) as caught:
        parse_binary(GOOD * 3, max_entries=2)
    assert caught.value.code == "parse.too-large"
    with pytest.raises(ParseError):
        parse_ascii(b"x\n" * 3, max_entries=2)


def test_spaces_become_underscores_as_in_the_kernel() -> None:
    data = encode_template_data("ima-sig", "sha256", DIGEST, b"/a b")
    assert parse_fields("ima-sig", data).path == b"/a_b"


def test_unknown_template_is_the_callers_fault() -> None:
    with pytest.raises(UsageError):
        parse_fields("ima-xx", b"")


def test_shared_data_fixture(shared_data: Callable[[str], Any]) -> None:
    assert (shared_data("ima") / "expected.json").is_file()

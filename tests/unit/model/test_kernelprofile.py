# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a profile: read back as written, and nothing else is one."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.model.codeform import FormSet, encode_form_set, literal
from ansible.module_utils.vouch.model.kernelprofile import MAGIC, Profile
from ansible.module_utils.vouch.parse.canonical import dump_canonical

from sim import kernelprofile as sim

FILE = sim.profile().to_bytes()
HEADER_BYTES = int.from_bytes(FILE[8:12], "little")


def test_it_reads_back_as_written() -> None:
    read = Profile.from_bytes(FILE)
    assert read.to_bytes() == FILE
    assert read.symbols["_stext"] == sim.TEXT_AT
    assert read.offsets["task_struct.cred"] == 2960
    assert read.constants["LOWEST"] == -1
    assert read.hooks["file_open"].functions == (sim.TARGET, sim.OTHER)
    assert read.gates == {14: (sim.TARGET,)}
    assert read.regions["text"].pages == 3
    assert read.form_set(0) in sim.sets().values()
    assert read.name_of(sim.TARGET + 3) == "selinux_file_permission+0x3"
    assert read.name_of(5) == "0x5"


def header(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(FILE[12 : 12 + HEADER_BYTES])
    change(value)
    raw = dump_canonical(value)
    return MAGIC + len(raw).to_bytes(4, "little") + raw + FILE[12 + HEADER_BYTES :]


def text_sites(change: Callable[[list[int], list[int]], object]) -> bytes:
    """Return the file with other tables of sites; they stand right in front of the names."""
    value = json.loads(FILE[12 : 12 + HEADER_BYTES])
    count = value["regions"]["text"]["sites"]
    tail = value["names"] + 4 * (value["form_sets"] + 1) + sum(len(encode_form_set(item)) for item in all_sets())
    start = len(FILE) - tail - 8 * count
    numbers = list(struct.unpack_from(f"<{2 * count}I", FILE, start))
    offsets, sets = numbers[:count], numbers[count:]
    change(offsets, sets)
    return FILE[:start] + struct.pack(f"<{2 * count}I", *offsets, *sets) + FILE[start + 8 * count :]


def all_sets() -> list[FormSet]:
    read = Profile.from_bytes(FILE)
    return [read.form_set(index) for index in range(read.form_sets)]


BAD: dict[str, bytes] = {
    "empty": b"",
    "cut off": FILE[:-1],
    "one byte more": FILE + b"\0",
    "another magic": b"VOUCHKP\x02" + FILE[8:],
    "a header beyond the end": FILE[:8] + b"\xff\xff\xff\x00" + FILE[12:],
    "an unknown member": header(lambda value: value.update(more=1)),
    "a missing member": header(lambda value: value.pop("gates")),
    "an address as a number": header(lambda value: value["symbols"].update(_stext=5)),
    "an address with zeros": header(lambda value: value["symbols"].update(_stext="00ff")),
    "an address of 65 bits": header(lambda value: value["symbols"].update(_stext="1" + 16 * "0")),
    "a negative offset": header(lambda value: value["offsets"].update(x=-1)),
    "a size that is true": header(lambda value: value["sizes"].update(x=True)),
    "an empty region": header(lambda value: value["regions"]["text"].update(size_bytes=0)),
    "a region beyond the end": header(lambda value: value["regions"]["text"].update(start="ffffffffffffff00")),
    "a third region": header(lambda value: value["regions"].update(data=value["regions"]["text"])),
    "more sites than there are": header(lambda value: value["regions"]["text"].update(sites=1000)),
    "fewer sites": header(lambda value: value["regions"]["text"].update(sites=1)),
    "more form sets": header(lambda value: value.update(form_sets=10**5)),
    "a vector of 256": header(lambda value: value["gates"].update({"256": []})),
    "a vector spelled otherwise": header(lambda value: value["gates"].update({"014": []})),
    "a segment with more in the file": header(lambda value: value["segments"][0].update(file_bytes=0x3000)),
    "sites out of order": text_sites(lambda offsets, sets: offsets.reverse()),
    "sites that overlap": text_sites(lambda offsets, sets: offsets.__setitem__(1, offsets[0] + 1)),
    "a site behind the end": text_sites(lambda offsets, sets: offsets.__setitem__(-1, 10**6)),
    "a set that is not there": text_sites(lambda offsets, sets: sets.__setitem__(0, 99)),
}


@pytest.mark.parametrize("fault", BAD)
def test_other_files_are_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        Profile.from_bytes(BAD[fault])


SETS: dict[str, bytes] = {
    "empty": b"",
    "no form": struct.pack("<IBB", 1, 0, 0),
    "an unknown reason": struct.pack("<IBB", 1, 99, 1) + b"\x01\x00\x01\x90",
    "no length": struct.pack("<IBB", 0, 0, 1) + b"\x00",
    "an unknown part": struct.pack("<IBB", 1, 0, 1) + b"\x01\x09\x01\x90",
    "a form that is too short": struct.pack("<IBB", 2, 0, 1) + b"\x01\x00\x01\x90",
    "cut off in a literal": struct.pack("<IBB", 2, 0, 1) + b"\x01\x00\x02\x90",
    "cut off in a target": struct.pack("<IBB", 4, 0, 1) + b"\x01\x02\x00\x90",
    "bytes behind": struct.pack("<IBB", 1, 0, 1) + b"\x01\x00\x01\x90\x00",
    "a value that is not there": struct.pack("<IBB", 8, 0, 1) + b"\x01\x05\x08\x07",
    "too much code": struct.pack("<IBB", 5000, 0, 1) + b"\x14" + b"\x03\xfa" * 20,
}


@pytest.mark.parametrize("fault", SETS)
def test_malformed_form_sets_are_refused(fault: str) -> None:
    made = sim.profile()
    broken = Profile(
        release="x",
        banner=b"x",
        symbols={},
        offsets={},
        sizes={},
        constants={},
        segments=(),
        regions=made.regions,
        form_sets=[SETS[fault]],
        values=made.values,
    )
    with pytest.raises(ParseError):
        broken.form_set(0)


def test_forms_of_two_lengths_are_our_mistake() -> None:
    with pytest.raises(UsageError):
        encode_form_set(FormSet(2, 0, ((literal(b"\x90"),),)))
    with pytest.raises(UsageError):
        encode_form_set(FormSet(2, 0, ()))

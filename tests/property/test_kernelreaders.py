# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes: every reader of kernels and profiles returns what it read, or fails with ParseError; nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.codematch import is_nothing
from ansible.module_utils.vouch.check.kerneltext import check_region
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.codeform import decode_form_set, encode_form_set
from ansible.module_utils.vouch.model.kernelprofile import Profile
from ansible.module_utils.vouch.parse.btf import Btf
from ansible.module_utils.vouch.parse.bzimage import parse_bzimage
from ansible.module_utils.vouch.parse.elf import parse_elf
from ansible.module_utils.vouch.parse.x86insn import parse_instruction
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import kernelprofile, tinykernel
from thorough import examples

PROFILE = kernelprofile.profile()
TEXT = bytes(kernelprofile.text())


def types(data: bytes) -> None:
    btf = Btf(data)
    for name in ("task_struct", "cred", "task_t"):
        btf.member(name, "comm")
    btf.enumerator("UP")


def forms(data: bytes) -> None:
    profile = Profile.from_bytes(data)
    for index in range(profile.form_sets):
        read = profile.form_set(index)
        assert decode_form_set(encode_form_set(read), values=len(profile.values)) == read


READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "boot image": (parse_bzimage, tinykernel.boot_image(tinykernel.elf())),
    "elf": (parse_elf, tinykernel.elf()),
    "types": (types, tinykernel.types()),
    "profile": (forms, PROFILE.to_bytes()),
}

CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


@pytest.mark.parametrize("what", READERS)
@settings(max_examples=examples(150), deadline=None)
@given(changes=CHANGES, cut=st.integers(0, 1 << 16))
def test_only_parse_errors(what: str, changes: list[tuple[int, bytes]], cut: int) -> None:
    read, good = READERS[what]
    data = bytearray(good)
    for at, value in changes:
        at %= len(data)
        data[at : at + len(value)] = value
    for candidate in (bytes(data), bytes(data[: cut % len(data)])):
        with contextlib.suppress(ParseError):
            read(candidate)


@settings(max_examples=examples(500), deadline=None)
@given(code=st.binary(max_size=20))
def test_an_instruction_lies_within_its_bytes(code: bytes) -> None:
    with contextlib.suppress(ParseError):
        found = parse_instruction(code)
        assert 0 < found.length <= min(len(code), 15)
        assert found.immediate_at + found.immediate_bytes <= found.length


@settings(max_examples=examples(300), deadline=None)
@given(code=st.binary(min_size=1, max_size=24))
def test_what_does_nothing_is_made_of_known_spellings(code: bytes) -> None:
    if is_nothing(code):
        assert set(code) <= set(b"\x66\x2e\x90\x0f\x1f\x00\x40\x44\x80\x84\xeb\xe9\xcc") | set(range(1, 24))


@settings(max_examples=examples(200), deadline=None)
@given(at=st.integers(0, len(TEXT) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_outside_of_the_sites_is_found(at: int, bit: int) -> None:
    data = bytearray(TEXT)
    data[at] ^= 1 << bit
    inside = any(start <= at < start + allowed.length for start, allowed in kernelprofile.sets().items())
    assert inside or check_region(PROFILE, "text", data, live=True)
    assert check_region(PROFILE, "text", data, live=False)

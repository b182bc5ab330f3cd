# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of real kernels: complete, the same bytes each time, and read back as they were written."""

from __future__ import annotations

import hashlib
import pathlib

import pytest
from ansible.module_utils.vouch.check.codematch import nothing
from ansible.module_utils.vouch.check.kerneltext import RegionCheck, check_region
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.introspection import make_profile, release_of
from ansible.module_utils.vouch.make.kernelimage import KernelImage
from ansible.module_utils.vouch.model.codeform import NOPS, REL8, REL32, VALUE, Form
from ansible.module_utils.vouch.model.kernelneeds import STRUCTS, SYMBOLS
from ansible.module_utils.vouch.model.kernelprofile import Profile

from kernels import kernels, profile

pytestmark = pytest.mark.kernel

KERNELS = kernels()


@pytest.fixture(scope="module", params=KERNELS or [None], ids=lambda path: str(path)[-24:])
def made(request: pytest.FixtureRequest) -> tuple[bytes, Profile]:
    if request.param is None:
        pytest.skip("no kernel on this machine: build a guest, or set VOUCH_TEST_KERNELS")
    path: pathlib.Path = request.param
    return path.read_bytes(), profile(path)


def test_everything_needed_is_there(made: tuple[bytes, Profile]) -> None:
    _, profile = made
    assert set(SYMBOLS) <= set(profile.symbols)
    places = {name.removesuffix(":bit") for name in profile.offsets}
    assert {f"{name}.{member}" for name, members in STRUCTS.items() for member in members} <= places
    assert profile.release.encode() in profile.banner
    assert profile.constants["SYSTEM_RUNNING"] == 3


def test_offsets_of_nested_members_add_up(made: tuple[bytes, Profile]) -> None:
    _, profile = made
    inner = profile.offsets["selinux_policy.policydb.te_avtab.nel"]
    assert inner - profile.offsets["selinux_policy.policydb.te_avtab.htable"] in range(-64, 64)
    assert profile.sizes["task_struct.comm"] == 16


def test_regions_are_the_text_and_rodata(made: tuple[bytes, Profile]) -> None:
    _, profile = made
    text, rodata = profile.regions["text"], profile.regions["rodata"]
    assert text.start == profile.symbols["_stext"]
    assert text.start + text.size_bytes == profile.symbols["_etext"]
    # What is loaded may end within the last page.
    assert 0 <= profile.symbols["__end_rodata"] - rodata.start - rodata.size_bytes < 4096
    assert len(text.page_digests) == 32 * text.pages


def test_a_profile_reads_back_as_written(made: tuple[bytes, Profile]) -> None:
    _, profile = made
    written = profile.to_bytes()
    assert Profile.from_bytes(written).to_bytes() == written


@pytest.mark.thorough
def test_the_same_kernel_has_the_same_profile(made: tuple[bytes, Profile]) -> None:
    data, profile = made
    written = profile.to_bytes()
    assert hashlib.sha256(make_profile(data).to_bytes()).digest() == hashlib.sha256(written).digest()


@pytest.mark.parametrize("banner", [b"", b"Linux 6.1", b"Linux version", b"Linux version \xff x"])
def test_other_banners_are_refused(banner: bytes) -> None:
    with pytest.raises(ParseError):
        release_of(banner)


def memory(data: bytes, profile: Profile, name: str) -> bytearray:
    """Return a region as it is loaded."""
    region = profile.regions[name]
    return bytearray(KernelImage(data).image(region.start, region.size_bytes))


def written(form: Form, address: int) -> bytes:
    """Return a form as the kernel would write it at an address."""
    out = bytearray()
    for part in form:
        place = address + len(out) + part.length + part.tail
        distance = (part.target - place) % (1 << 8 * part.length) if part.kind in (REL8, REL32) else 0
        out += part.data or (nothing(part.length) if part.kind == NOPS else distance.to_bytes(part.length, "little"))
    return bytes(out)


@pytest.mark.thorough
def test_what_is_loaded_needs_no_explanation(made: tuple[bytes, Profile]) -> None:
    data, profile = made
    for name in ("text", "rodata"):
        loaded = memory(data, profile, name)
        assert check_region(profile, name, loaded, live=False) == ()
        assert check_region(profile, name, loaded, live=True) == ()


def test_every_form_is_accepted_where_it_belongs_and_nowhere_near(made: tuple[bytes, Profile]) -> None:
    """The last form of each site, all at once; then all of them one byte off."""
    data, profile = made
    region = profile.regions["text"]
    text = memory(data, profile, "text")
    for at, index in zip(region.site_offsets, region.site_sets, strict=True):
        form = profile.form_set(index).forms[-1]
        if all(part.kind != VALUE for part in form):
            content = written(form, region.start + at)
            text[at : at + len(content)] = content
    check = RegionCheck(profile, "text", live=True)
    assert check.check(text) == ()
    moved = bytearray(text)
    place = region.site_offsets[len(region.site_offsets) // 2]
    moved[place] ^= 0x10
    assert [item.code for item in check.check(moved)] == ["guest.text.changed"]


def test_tables_name_code(made: tuple[bytes, Profile]) -> None:
    _, profile = made
    text = profile.regions["text"]
    inside = range(text.start, text.start + text.size_bytes)
    assert all(function in inside for hook in profile.hooks.values() for function in hook.functions)
    assert any("selinux" in profile.name_of(at) for at in profile.hooks["file_permission"].functions)
    assert any("page_fault" in profile.name_of(at) for at in profile.gates[14])
    # One entry of 8 or 16 bytes for each vector that has no handler of its own.
    assert any({at + 8, at + 16} & set(profile.gates[33]) for at in profile.gates[32])
    assert sum(len(hook.functions) for hook in profile.hooks.values()) > 400

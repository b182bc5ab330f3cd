# SPDX-License-Identifier: GPL-3.0-or-later
"""Real kernels read by ours and by others: binutils' lengths of instructions, the kernel's own table of exports."""

from __future__ import annotations

import itertools
import pathlib
import re
import shutil
import struct
import subprocess

import pytest
from ansible.module_utils.vouch.make.kernelimage import KernelImage
from ansible.module_utils.vouch.parse.x86insn import parse_instruction

from kernels import kernels

pytestmark = pytest.mark.kernel

KERNELS = kernels()
SAMPLE_BYTES = 1 << 20


@pytest.fixture(scope="module", params=KERNELS or [None], ids=lambda path: str(path)[-24:])
def kernel(request: pytest.FixtureRequest) -> KernelImage:
    if request.param is None:
        pytest.skip("no kernel on this machine: build a guest, or set VOUCH_TEST_KERNELS")
    path: pathlib.Path = request.param
    return KernelImage(path.read_bytes())


def test_lengths_of_instructions(kernel: KernelImage, tmp_path: pathlib.Path) -> None:
    """One mebibyte of text, one instruction after the other."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump (package binutils) is not installed")
    code = kernel.elf.section(".text").data[:SAMPLE_BYTES].tobytes()
    raw = tmp_path / "code"
    raw.write_bytes(code)
    argv = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", "-w", str(raw)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    lines = [(int(match[1], 16), match[2]) for match in re.finditer(r"^\s*([0-9a-f]+):\t(.*)$", told, re.MULTILINE)]
    assert len(lines) > 200_000
    # The last ones may be cut off.
    for (at, text), (behind, _) in itertools.pairwise(lines[:-16]):
        if "(bad)" not in text:
            assert parse_instruction(code, at).length == behind - at, text


def test_addresses_of_exported_symbols(kernel: KernelImage) -> None:
    """Each entry of ``__ksymtab`` has distances to a symbol and to its name: a table that kallsyms has no part in."""
    texts = kernel.elf.section("__ksymtab_strings")
    names = texts.data.tobytes()
    count = 0
    for table in ("__ksymtab", "__ksymtab_gpl"):
        section = kernel.elf.section(table)
        for at in range(0, section.size_bytes - 11, 12):
            value, name, _ = struct.unpack_from("<iii", section.data, at)
            place = section.address + at + 4 + name - texts.address
            text = names[place : names.index(b"\0", place)].decode()
            # Symbols of a processor are counted from 0, and the address wraps.
            wanted = (section.address + at + value) & (1 << 64) - 1
            assert wanted in kernel.addresses(text), text
            count += 1
    assert count > 10_000

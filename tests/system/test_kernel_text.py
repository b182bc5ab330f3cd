# SPDX-License-Identifier: GPL-3.0-or-later
"""A real kernel that started: every byte of its text and read-only data is explained by the profile of its file."""

from __future__ import annotations

import pathlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.check.kerneltext import RegionCheck
from ansible.module_utils.vouch.make.introspection import make_profile
from ansible.module_utils.vouch.model.kernelprofile import Profile

from kernels import kernels

pytestmark = pytest.mark.lab

KERNELS = kernels()
MEMORY_MB = 320
BOOT_LIMIT_S = 900
PROCESSORS = (("qemu64,+smep,+smap,+rdrand", 1), ("max", 2))
"""What the kernel finds decides what it writes into its code: with ``max`` there are five levels of page tables."""


@pytest.fixture(scope="module", params=KERNELS or [None], ids=lambda path: str(path)[-24:])
def kernel(request: pytest.FixtureRequest) -> tuple[pathlib.Path, Profile]:
    if request.param is None:
        pytest.skip("no kernel on this machine: build a guest, or set VOUCH_TEST_KERNELS")
    return request.param, make_profile(request.param.read_bytes())


@pytest.fixture(params=PROCESSORS, ids=lambda item: f"{item[0].split(',')[0]}-{item[1]}")
def memory(
    request: pytest.FixtureRequest, kernel: tuple[pathlib.Path, Profile], tmp_path: pathlib.Path
) -> Iterator[pathlib.Path]:
    """Yield the memory of a machine whose kernel has come as far as looking for its first program."""
    model, count = request.param
    ram, console = tmp_path / "ram", tmp_path / "console"
    argv = ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", model, "-smp", str(count), "-nodefaults"]
    argv += ["-m", f"{MEMORY_MB}M", "-machine", "pc,memory-backend=ram", "-display", "none", "-no-reboot"]
    argv += ["-object", f"memory-backend-file,id=ram,size={MEMORY_MB}M,mem-path={ram},share=on"]
    argv += ["-serial", f"file:{console}", "-kernel", str(kernel[0])]
    argv += ["-append", "console=ttyS0 nokaslr panic=0 security=selinux"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + BOOT_LIMIT_S
    try:
        # Without an initrd it looks for a disk last of all, and stops there: its code is long settled.
        while not (console.exists() and "Unable to mount root fs" in console.read_text(errors="replace")):
            assert process.poll() is None, "QEMU ended"
            assert time.monotonic() < deadline, "the kernel did not come up"
            time.sleep(0.2)
        yield ram
    finally:
        process.kill()
        process.wait()
        ram.unlink(missing_ok=True)


def test_every_byte_is_explained(kernel: tuple[pathlib.Path, Profile], memory: pathlib.Path) -> None:
    _, profile = kernel
    for name, region in profile.regions.items():
        # What a kernel that has not run would not show: it did write into its text.
        segment = profile.segments[0]
        with memory.open("rb") as stream:
            stream.seek(region.start - segment.virtual + segment.physical)
            data = stream.read(region.size_bytes)
        check = RegionCheck(profile, name, live=True)
        assert check.check(data) == ()
        assert RegionCheck(profile, name, live=False).check(data) != ()

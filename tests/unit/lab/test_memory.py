# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a machine from outside, on a memfd of this process that looks like QEMU's."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.lab.control import Machine
from ansible.module_utils.vouch.lab.machine import MEMORY_NODE, MachinePaths, MachineSpec
from ansible.module_utils.vouch.lab.memory import PAGE_BYTES, MachineMemory

Make = Callable[[bytes], int]


@pytest.fixture
def backend() -> Iterator[Make]:
    made: list[int] = []

    def make(content: bytes) -> int:
        made.append(os.memfd_create(MEMORY_NODE))
        os.write(made[-1], content)
        return made[-1]

    yield make
    for descriptor in made:
        os.close(descriptor)


def machine() -> Any:
    return SimpleNamespace(
        require_on=lambda: None, observe=lambda: SimpleNamespace(qemu=os.getpid()), paths=SimpleNamespace(name="m1")
    )


def test_only_whole_pages_count(backend: Make) -> None:
    page = bytes(range(256)) * 16
    backend(page + bytes(64) + page + bytes(PAGE_BYTES - 64) + page + b"x")
    with MachineMemory(machine()) as memory:
        assert memory.pages_with(page) == [0, 3 * PAGE_BYTES]


def test_what_is_written_is_there(backend: Make) -> None:
    descriptor = backend(bytes(2 * PAGE_BYTES))
    with MachineMemory(machine()) as memory:
        memory.write(PAGE_BYTES + 5, b"vouch")
        assert memory.read(PAGE_BYTES + 4, 7) == b"\0vouch\0"
    assert os.pread(descriptor, 5, PAGE_BYTES + 5) == b"vouch"


def test_a_machine_started_without_such_memory() -> None:
    with pytest.raises(UnreachableError) as caught:
        MachineMemory(machine())
    assert caught.value.code == "lab.memory"


def test_a_machine_that_is_off(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        MachineMemory(Machine(MachinePaths(directory=tmp_path, name="m1")))
    assert caught.value.code == "lab.off"


def test_a_name_qemu_gives_the_file() -> None:
    from ansible.module_utils.vouch.lab.accel import choose
    from ansible.module_utils.vouch.lab.machine import Firmware, qemu_argv

    spec = MachineSpec(name="m1", memory_mb=512)
    paths = MachinePaths(directory=pathlib.Path("/lab"), name="m1")
    argv = qemu_argv(spec, paths, accelerator=choose("tcg", kvm=False), firmware=Firmware())
    assert f"{MEMORY_NODE},id=memory,size=512M,share=on" in argv
    assert any(option.endswith(",memory-backend=memory") for option in argv)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Specification to QEMU command, and what is refused."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.lab.accel import choose
from ansible.module_utils.vouch.lab.machine import Firmware, Forward, MachinePaths, MachineSpec, qemu_argv

PATHS = MachinePaths(directory=pathlib.Path("/lab"), name="m1")


def argv(**fields: Any) -> list[str]:
    spec = MachineSpec(name="m1", **fields)
    return qemu_argv(spec, PATHS, accelerator=choose("tcg", kvm=False), firmware=Firmware())


def values(command: list[str], option: str) -> list[str]:
    return [command[n + 1] for n, word in enumerate(command) if word == option]


def test_round_trip() -> None:
    spec = MachineSpec(name="m1", forwards=(Forward(host_port=2, guest_port=22),), medium="/x.img", tpm=False)
    assert MachineSpec.from_json(spec.to_json()) == spec


def test_serial_defaults_to_the_name() -> None:
    assert MachineSpec(name="a" * 31).serial == "a" * 20


def test_disk_keeps_the_boot_order_of_the_firmware() -> None:
    disk = next(device for device in values(argv(serial="s1"), "-device") if device.startswith("virtio-blk"))
    assert "serial=s1" in disk
    assert "bootindex" not in disk


def test_medium_comes_first() -> None:
    with_medium = argv(medium="/m.img")
    stick = json.loads(next(device for device in values(with_medium, "-device") if device.startswith("{")))
    assert (stick["bootindex"], stick["drive"]) == (0, "medium")
    assert json.loads(values(with_medium, "-blockdev")[1])["read-only"] is True
    assert len(values(argv(), "-blockdev")) == 1


def test_ports_are_on_loopback_only() -> None:
    forwards = (Forward(host_port=2201, guest_port=22), Forward(host_port=2280, guest_port=80))
    assert values(argv(forwards=forwards), "-netdev") == [
        "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:2201-:22,hostfwd=tcp:127.0.0.1:2280-:80"
    ]


def test_tpm_is_optional() -> None:
    assert "tpm-tis,tpmdev=tpm" in values(argv(), "-device")
    assert not any("tpm" in word for word in argv(tpm=False))


def test_nothing_of_qemu_by_default() -> None:
    assert {"-nodefaults", "-no-user-config"} <= set(argv())
    assert values(argv(), "-display") == ["none"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "Upper"}, "lab.name"),
        ({"name": "../x"}, "lab.name"),
        ({"name": "a" * 32}, "lab.name"),
        ({"serial": "a,b"}, "lab.serial"),
        ({"serial": "s" * 21}, "lab.serial"),
        ({"disk_mb": 1}, "lab.disk"),
        ({"memory_mb": 1}, "lab.memory"),
        ({"cpus": 0}, "lab.cpus"),
        ({"forwards": (Forward(host_port=9, guest_port=1), Forward(host_port=9, guest_port=2))}, "lab.port"),
        ({"medium": "relative.img"}, "lab.medium"),
        ({"medium": "/with,comma"}, "lab.medium"),
        ({"accelerator": "hvf"}, "lab.accelerator"),
    ],
)
def test_refused_specifications(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        MachineSpec(**{"name": "m1", **fields})
    assert refused.value.code == code


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_refused_ports(port: int) -> None:
    with pytest.raises(UsageError):
        Forward(host_port=port, guest_port=22)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "m1", "forwards": [], "colour": "red"}', '{"forwards": [1]}']
)
def test_damaged_state(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        MachineSpec.from_json(text)
    assert refused.value.code == "lab.state"


def test_longest_socket_path() -> None:
    fits = "/" + "d" * (107 - len("//m1/run/tpm.sock"))
    MachinePaths(directory=pathlib.Path(fits), name="m1")
    with pytest.raises(UsageError) as refused:
        MachinePaths(directory=pathlib.Path(fits + "d"), name="m1")
    assert refused.value.code == "lab.path"
    assert "108" in str(refused.value)


@pytest.mark.parametrize("directory", ["relative", "/with,comma"])
def test_refused_directories(directory: str) -> None:
    with pytest.raises(UsageError):
        MachinePaths(directory=pathlib.Path(directory), name="m1")

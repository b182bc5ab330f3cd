# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab machine is made of, where its files are, and the QEMU command that is it.

Files of machine NAME, all under ``DIRECTORY/NAME``:

=================== ==========================================================
``machine.json``    the specification it was made from
``disk.img``        its disk, sparse
``vars.fd``         its UEFI variables
``tpm/``            state of its TPM
``console.log``     what it wrote to its first serial port since it was started
``qemu.log``        what QEMU said, ``swtpm.log`` likewise
``run/``            sockets and process records; empty while it is off
=================== ==========================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .accel import REQUESTS, Accelerator

MAX_SOCKET_PATH_BYTES = 107
"""``sun_path`` has 108 bytes with its closing NUL (unix(7))."""

MAX_SERIAL_CHARS = 20
"""VIRTIO_BLK_ID_BYTES: a longer serial number is cut by the device and the by-id name would differ."""

MIN_DISK_MB = 16
MIN_MEMORY_MB = 128
MEMORY_NODE = "memory-backend-memfd"
"""QEMU names the file after the kind of back end."""

MEDIUM_NODE = "medium"
MEDIUM_DEVICE = "medium0"
LOOPBACK = "127.0.0.1"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_SERIAL = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A TCP port of the machine, reachable on a loopback port of the lab."""

    host_port: int
    guest_port: int

    def __post_init__(self) -> None:
        for port in (self.host_port, self.guest_port):
            if not 0 < port < 65536:
                raise UsageError(f"port {port} does not exist", code="lab.port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """The UEFI firmware: its code, and the variables a new machine starts with."""

    code: str = "/usr/share/OVMF/OVMF_CODE_4M.fd"
    variables: str = "/usr/share/OVMF/OVMF_VARS_4M.fd"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """The hardware of one machine.

    Attributes:
        name: Lower case letters, digits, hyphens.
        disk_mb: Size of its disk.
        serial: Serial number of the disk, seen as ``/dev/disk/by-id/virtio-SERIAL``; the name when empty.
        medium: Image of an installer medium, booted before the disk; none when empty.
        forwards: No host port twice.
        tpm: Whether it has a TPM 2.0.
        accelerator: ``auto``, ``kvm`` or ``tcg``.
    """

    name: str
    disk_mb: int = 8192
    memory_mb: int = 2048
    cpus: int = 2
    serial: str = ""
    forwards: tuple[Forward, ...] = ()
    medium: str = ""
    tpm: bool = True
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        if not self.serial:
            object.__setattr__(self, "serial", self.name[:MAX_SERIAL_CHARS])
        object.__setattr__(self, "forwards", tuple(sorted(self.forwards, key=lambda f: f.host_port)))
        ports = [forward.host_port for forward in self.forwards]
        for ok, message, code in (
            (_NAME.fullmatch(self.name), f"{self.name!r} is no machine name (a-z, 0-9, -, at most 31)", "lab.name"),
            (
                _SERIAL.fullmatch(self.serial) and len(self.serial) <= MAX_SERIAL_CHARS,
                f"disk serial {self.serial!r}: letters, digits, . _ -, at most {MAX_SERIAL_CHARS}",
                "lab.serial",
            ),
            (self.disk_mb >= MIN_DISK_MB, f"a disk of {self.disk_mb} MB is too small", "lab.disk"),
            (self.memory_mb >= MIN_MEMORY_MB, f"{self.memory_mb} MB of memory are too few", "lab.memory"),
            (0 < self.cpus <= 64, f"{self.cpus} processors: 1 to 64", "lab.cpus"),
            (len(ports) == len(set(ports)), f"machine {self.name} forwards one port twice: {ports}", "lab.port"),
            (not self.medium or self.medium.startswith("/"), f"medium {self.medium!r} is no full path", "lab.medium"),
            ("," not in self.medium, f"medium {self.medium!r} has a comma in its path", "lab.medium"),
            (self.accelerator in REQUESTS, f"accelerator {self.accelerator!r} is unknown", "lab.accelerator"),
        ):
            if not ok:
                raise UsageError(message, code=code)

    def to_json(self) -> str:
        """Return the specification as text, one field per line."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> MachineSpec:
        """Return the specification that ``to_json`` wrote.

        Raises:
            UsageError: for anything else (``lab.state``).
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            forwards = tuple(Forward(**forward) for forward in fields.pop("forwards"))
            return cls(forwards=forwards, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise UsageError(f"machine.json is damaged: {exc}", code="lab.state") from exc

    def hardware(self) -> Mapping[str, Any]:
        """Return what cannot change while the machine runs: all but the medium."""
        return {name: value for name, value in asdict(self).items() if name != "medium"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePaths:
    """Where the files of one machine are.

    Raises:
        UsageError: when a socket's path would be too long for the kernel (``lab.path``).
    """

    directory: Path
    name: str

    def __post_init__(self) -> None:
        longest = max((self.qmp_socket, self.tpm_socket), key=lambda path: len(bytes(path)))
        if len(bytes(longest)) > MAX_SOCKET_PATH_BYTES:
            raise UsageError(
                f"{longest} has {len(bytes(longest))} bytes; the path of a socket may have {MAX_SOCKET_PATH_BYTES}",
                code="lab.path",
                hint="Choose a shorter lab directory",
            )
        if not self.directory.is_absolute() or "," in str(self.directory):
            raise UsageError(f"lab directory {self.directory}: a full path without commas", code="lab.path")

    @property
    def folder(self) -> Path:
        """All of the machine."""
        return self.directory / self.name

    @property
    def spec(self) -> Path:
        """Its specification."""
        return self.folder / "machine.json"

    @property
    def disk(self) -> Path:
        """Its disk."""
        return self.folder / "disk.img"

    @property
    def variables(self) -> Path:
        """Its UEFI variables."""
        return self.folder / "vars.fd"

    @property
    def tpm(self) -> Path:
        """State of its TPM."""
        return self.folder / "tpm"

    @property
    def console(self) -> Path:
        """Its first serial port."""
        return self.folder / "console.log"

    @property
    def run(self) -> Path:
        """What exists only while it is on."""
        return self.folder / "run"

    @property
    def qmp_socket(self) -> Path:
        """QEMU's control socket."""
        return self.run / "qmp.sock"

    @property
    def tpm_socket(self) -> Path:
        """swtpm's control socket."""
        return self.run / "tpm.sock"

    def log(self, program: str) -> Path:
        """Return where ``program`` (``qemu``, ``swtpm``) writes its messages."""
        return self.folder / f"{program}.log"

    def record(self, program: str) -> Path:
        """Return where the process of ``program`` is recorded."""
        return self.run / f"{program}.pid"


def medium_backend(path: str) -> dict[str, Any]:
    """Return the block node of a medium, as ``-blockdev`` and QMP's ``blockdev-add`` take it."""
    return {
        "driver": "raw",
        "node-name": MEDIUM_NODE,
        "read-only": True,
        "file": {"driver": "file", "filename": path, "read-only": True},
    }


def medium_frontend() -> dict[str, Any]:
    """Return the USB stick that shows a medium, as ``-device`` and QMP's ``device_add`` take it."""
    return {
        "driver": "usb-storage",
        "id": MEDIUM_DEVICE,
        "bus": "usb.0",
        "drive": MEDIUM_NODE,
        "removable": True,
        "bootindex": 0,
        "serial": "vouch-medium",
    }


def qemu_argv(spec: MachineSpec, paths: MachinePaths, *, accelerator: Accelerator, firmware: Firmware) -> list[str]:
    """Return the command that runs the machine in the foreground.

    The disk has no boot index on purpose: the firmware then keeps the boot entries and the order that the installer
    wrote, as a real machine does, and only a medium goes before them.
    """
    argv = ["qemu-system-x86_64", "-name", f"vouch-{spec.name}", "-nodefaults", "-no-user-config", "-display", "none"]
    argv += [
        "-machine",
        "q35,smm=off,vmport=off,sata=off,smbus=off,memory-backend=memory",
        "-accel",
        accelerator.accel,
        "-cpu",
        accelerator.cpu,
    ]
    # Whoever attacks the hardware reaches it too: lab/memory.py.
    argv += ["-object", f"{MEMORY_NODE},id=memory,size={spec.memory_mb}M,share=on"]
    argv += ["-smp", str(spec.cpus), "-m", str(spec.memory_mb), "-rtc", "base=utc", "-boot", "menu=off"]
    argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={firmware.code}"]
    argv += ["-drive", f"if=pflash,unit=1,format=raw,file={paths.variables}"]
    argv += ["-chardev", f"file,id=console,path={paths.console}", "-serial", "chardev:console"]
    argv += [
        "-chardev",
        f"socket,id=qmp,path={paths.qmp_socket},server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
    ]
    argv += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
    argv += ["-blockdev", _json(_disk_backend(paths))]
    argv += ["-device", f"virtio-blk-pci,drive=disk,serial={spec.serial}"]
    argv += ["-device", "qemu-xhci,id=usb"]
    if spec.medium:
        argv += ["-blockdev", _json(medium_backend(spec.medium)), "-device", _json(medium_frontend())]
    argv += ["-netdev", _network(spec), "-device", "virtio-net-pci,netdev=net,romfile="]
    if spec.tpm:
        argv += ["-chardev", f"socket,id=tpm,path={paths.tpm_socket}", "-tpmdev", "emulator,id=tpm,chardev=tpm"]
        argv += ["-device", "tpm-tis,tpmdev=tpm"]
    return argv


def _disk_backend(paths: MachinePaths) -> dict[str, Any]:
    # Without flushes a crash of the lab's own machine may lose data; killing QEMU, our power cut, may not:
    # what the guest wrote is in the page cache then.
    return {
        "driver": "raw",
        "node-name": "disk",
        "cache": {"no-flush": True},
        "discard": "unmap",
        "file": {"driver": "file", "filename": str(paths.disk), "locking": "on", "discard": "unmap"},
    }


def _network(spec: MachineSpec) -> str:
    forwards = [f"hostfwd=tcp:{LOOPBACK}:{forward.host_port}-:{forward.guest_port}" for forward in spec.forwards]
    return ",".join(["user,id=net,ipv6=off", *forwards])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))

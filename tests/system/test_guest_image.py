# SPDX-License-Identifier: GPL-3.0-or-later
"""The real guest images: built twice by the role, in two places, with the real tools, and started without Xen.

What they do on a Xen host is the molecule scenario ``guest_image``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from guestbuild import build_guest, require_builder

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_IMAGE_BYTES = 120 * 1000 * 1000
FILES = (
    *("vmlinuz", "initrd.img", "root.img", "policy", "proof.json", "intent.json", "profile"),
    *("image.json", "package.dsse.json"),
)
BOOT_LIMIT_S = 900.0
SUPERBLOCK = 1024
"""Where erofs begins: read by the very first mount."""

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """Return two folders, each with a cache that holds the same tree and nothing else."""
    require_builder()
    base = tmp_path_factory.mktemp("guests")
    first, second = base / "first", base / "second"
    for place in (first, second):
        place.mkdir()
    build_guest("base", first, base / "package.pem", cache=first / "cache")
    # The archive moves; "the same inputs" begin with the same tree.
    shutil.copytree(first / "cache/trees", second / "cache/trees", copy_function=os.link)
    return first, second


@pytest.fixture(scope="module", params=["base", "distcc_node", "distcc_controller"])
def images(
    request: pytest.FixtureRequest, places: tuple[pathlib.Path, pathlib.Path]
) -> tuple[pathlib.Path, pathlib.Path]:
    """Return the folders of two builds of a guest."""
    key = places[0].parent / "package.pem"
    first = build_guest(request.param, places[0], key, cache=places[0] / "cache")
    # A guest with sources has a tree of its own.
    for path in (places[0] / "cache/trees").iterdir():
        if not (places[1] / "cache/trees" / path.name).exists():
            os.link(path, places[1] / "cache/trees" / path.name)
    return first, build_guest(request.param, places[1], key, cache=places[1] / "cache")


@dataclasses.dataclass
class Machine:
    """A guest that QEMU runs without Xen.

    Attributes:
        process: QEMU.
        console: File that its console is written to.
        port: Where port 3632 of the guest is reached on this machine.
    """

    process: subprocess.Popen[bytes]
    console: pathlib.Path
    port: int

    @property
    def said(self) -> str:
        return self.console.read_text("utf-8", "replace") if self.console.is_file() else ""

    def wait_for(self, line: str) -> None:
        """Wait until the console says ``line``; fail when the machine ends or the time is over."""
        end = time.monotonic() + BOOT_LIMIT_S
        while line not in self.said:
            assert self.process.poll() is None, self.said[-3000:]
            assert time.monotonic() < end, self.said[-3000:]
            time.sleep(0.2)


@contextlib.contextmanager
def started(folder: pathlib.Path, place: pathlib.Path, *, root: pathlib.Path | None = None) -> Iterator[Machine]:
    """Run the guest of ``folder``; its console is a serial port, all else on its command line as it was built."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    line = json.loads((folder / "image.json").read_text())["cmdline"].replace("console=hvc0", "console=ttyS0")
    console = place / "console"
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "512", "-serial", f"file:{console}"]
    argv += ["-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.img"), "-append", line]
    argv += ["-drive", f"file={root or folder / 'root.img'},if=virtio,format=raw,readonly=on"]
    argv += ["-nic", f"user,restrict=on,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:3632"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield Machine(process, console, port)
    finally:
        process.kill()
        process.wait()


def test_two_builds_are_the_same_bytes(images: tuple[pathlib.Path, pathlib.Path]) -> None:
    first, second = images
    different = [name for name in FILES if (first / name).read_bytes() != (second / name).read_bytes()]
    assert not different


def test_image_is_small(images: tuple[pathlib.Path, pathlib.Path]) -> None:
    sizes = [(images[0] / name).stat().st_size for name in ("vmlinuz", "initrd.img", "root.img")]
    assert sum(sizes) < MAX_IMAGE_BYTES


def test_every_filter_has_a_reason_and_there_are_few(images: tuple[pathlib.Path, pathlib.Path]) -> None:
    intent = json.loads((images[0] / "intent.json").read_text())
    assert 0 < len(intent["filters"]) <= 12
    assert all(len(item["reason"].split()) >= 10 for item in intent["filters"])


def test_guest_comes_up_enforcing_without_a_denial(
    images: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    folder = images[0]
    with started(folder, tmp_path) as machine:
        machine.wait_for(f"vouch-guest: ready {folder.name}")
        if folder.name == "distcc_node":
            compile_twice(machine)
        time.sleep(2)
        said = machine.said
    # The kernel's own note that it has a policy.
    assert re.search(r"audit: type=1403 .* res=1", said)
    assert not re.findall(r".*avc: +denied.*", said)
    assert not re.findall(r".*(?:Failed (?:to start|to mount|with result)|REFUSED|status=\d+/).*", said)


def compile_twice(machine: Machine) -> None:
    """Send two jobs; the second proves that the first left nothing in its way."""
    for number in (1, 2):
        answer = job(machine.port, b"int answer(void) { return %d; }\n" % number)
        assert answer.startswith(b"DONE00000001STAT00000000"), answer[:200]
        assert b"DOTO" in answer
        assert b"\x7fELF" in answer
    answer = job(machine.port, b"int answer(void) { return nothing; }\n")
    assert b"STAT00000000" not in answer
    assert b"undeclared" in answer


def job(port: int, source: bytes) -> bytes:
    """Send preprocessed source to distccd, by its protocol 1 (doc/protocol-1.txt of distcc), and return the answer."""
    arguments = [b"gcc", b"-O2", b"-c", b"answer.i", b"-o", b"answer.o"]
    words = [b"DIST00000001", b"ARGC%08x" % len(arguments)]
    words += [b"ARGV%08x%s" % (len(word), word) for word in arguments]
    words.append(b"DOTI%08x%s" % (len(source), source))
    with socket.create_connection(("127.0.0.1", port), timeout=BOOT_LIMIT_S) as connection:
        connection.sendall(b"".join(words))
        parts = []
        while data := connection.recv(65536):
            parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (lambda image: SUPERBLOCK, "panic - not syncing: dm-verity device corrupted"),
        (lambda image: image["verity"]["data_blocks"] * 4096, "REFUSED: no disk holds the root image"),
    ],
    ids=["data", "hash tree"],
)
def test_one_other_byte_and_it_does_not_come_up(
    places: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path, place: object, told: str
) -> None:
    assert callable(place)
    folder = places[0] / "base"
    changed = bytearray((folder / "root.img").read_bytes())
    changed[place(json.loads((folder / "image.json").read_text()))] ^= 1
    (tmp_path / "root.img").write_bytes(changed)
    with started(folder, tmp_path, root=tmp_path / "root.img") as machine:
        machine.wait_for(told)
        machine.process.wait(BOOT_LIMIT_S)
        assert "vouch-guest: ready" not in machine.said

# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of a lab machine that is off, changed from outside as somebody with a screwdriver would: nothing is mounted.

Source: UEFI 2.10, 5.3.2 and 5.3.3 (GPT header and entries).
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

SECTOR_BYTES = 512
TOOL_TIMEOUT_S = 120
COPY_BYTES = 1 << 20
_TOOL_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A partition's bytes in the disk image."""

    name: str
    offset: int
    size: int


class LabDisk:
    """The image at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def regions(self) -> Iterator[Region]:
        """Yield the partitions of the primary GPT; nothing when there is none yet."""
        with self.path.open("rb") as stream:
            stream.seek(SECTOR_BYTES)
            header = stream.read(92)
            if header[:8] != b"EFI PART":
                return
            first, count, size = struct.unpack_from("<QII", header, 72)
            stream.seek(first * SECTOR_BYTES)
            table = stream.read(count * size)
        for at in range(0, len(table), size):
            start, end = struct.unpack_from("<QQ", table, at + 32)
            if start:
                name = table[at + 56 : at + 128].decode("utf-16-le").split("\0")[0]
                yield Region(name=name, offset=start * SECTOR_BYTES, size=(end - start + 1) * SECTOR_BYTES)

    def region(self, name: str) -> Region:
        """Return the partition called ``name``; raises ``LookupError``."""
        for region in self.regions():
            if region.name == name:
                return region
        raise LookupError(f"{self.path} has no partition {name}")

    def read(self, name: str, at: int, size: int) -> bytes:
        """Return ``size`` bytes of partition ``name`` from ``at`` on."""
        region = self._within(name, at, size)
        with self.path.open("rb") as stream:
            stream.seek(region.offset + at)
            return stream.read(size)

    def write(self, name: str, at: int, data: bytes) -> None:
        """Write ``data`` into partition ``name``."""
        region = self._within(name, at, len(data))
        with self.path.open("r+b") as stream:
            stream.seek(region.offset + at)
            stream.write(data)

    def written_bytes(self, name: str) -> int:
        """Return how much of partition ``name`` the image file holds: what was never written is a hole."""
        region = self.region(name)
        with self.path.open("rb") as stream:
            spans = data_spans(stream, region.offset, region.offset + region.size)
            return sum(stop - begin for begin, stop in spans)

    def esp_file(self, path: str) -> bytes:
        """Return a file of the EFI system partition; raises ``LookupError``."""
        done = self._mtool("mcopy", "-i", self._esp(), f"::{path}", "-", check=False)
        if done.returncode != 0:
            raise LookupError(f"{path} is not on the EFI system partition of {self.path}")
        return done.stdout

    def write_esp_file(self, path: str, data: bytes) -> None:
        """Replace a file of the EFI system partition."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self._mtool("mcopy", "-o", "-i", self._esp(), file.name, f"::{path}")
        if self.esp_file(path) != data:
            raise RuntimeError(f"{path} was not written")

    def data_file(self, path: str) -> bytes:
        """Return a file of the data partition; raises ``LookupError``."""
        with self._data() as image:
            return _dumped(image, path)

    def write_data_files(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Replace files of the data partition, path to content and mode; they belong to root then."""
        with self._data() as image:
            for path, (data, mode) in files.items():
                with tempfile.NamedTemporaryFile() as file:
                    file.write(data)
                    file.flush()
                    _debugfs(image, f"rm {path}", f"write {file.name} {path}", write=True)
                fields = {"mode": f"0{0o100000 | mode:o}", "uid": "0", "gid": "0"}
                _debugfs(image, *(f"set_inode_field {path} {k} {v}" for k, v in fields.items()), write=True)
                if _dumped(image, path) != data:
                    raise RuntimeError(f"{path} was not written")
            region = self.region("vouch-data")
            with image.open("rb") as source, self.path.open("r+b") as target:
                _copy_data(source, 0, target, region.offset, region.size)

    def _within(self, name: str, at: int, size: int) -> Region:
        region = self.region(name)
        if not 0 <= at <= at + size <= region.size:
            raise ValueError(f"bytes {at} to {at + size} are not in partition {name}")
        return region

    def _esp(self) -> str:
        return f"{self.path}@@{self.region('vouch-esp').offset}"

    def _mtool(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(argv, check=check, **_capture())

    @contextlib.contextmanager
    def _data(self) -> Iterator[Path]:
        """Yield a copy of the data partition whose journal is empty.

        A journal that still has to be replayed, as after a power cut, would undo what is written behind its back, and
        e2fsck cannot replay one in the middle of a file.
        """
        region = self.region("vouch-data")
        with tempfile.NamedTemporaryFile(dir=self.path.parent) as file, self.path.open("rb") as source:
            file.truncate(region.size)
            _copy_data(source, region.offset, file.file, 0, region.size)
            file.flush()
            done = subprocess.run(["e2fsck", "-p", file.name], check=False, **_capture())
            if done.returncode not in (0, 1):
                raise RuntimeError(f"e2fsck: {(done.stdout + done.stderr).decode('utf-8', 'replace')}")
            yield Path(file.name)


def data_spans(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of what a sparse file holds between two offsets."""
    at = start
    while at < end:
        try:
            at = os.lseek(stream.fileno(), at, os.SEEK_DATA)
        except OSError:
            return
        stop = min(os.lseek(stream.fileno(), at, os.SEEK_HOLE), end)
        if at < stop:
            yield at, stop
        at = stop


def _copy_data(source: BinaryIO, source_at: int, target: BinaryIO, target_at: int, size: int) -> None:
    for begin, stop in data_spans(source, source_at, source_at + size):
        source.seek(begin)
        target.seek(target_at + begin - source_at)
        while begin < stop:
            chunk = source.read(min(COPY_BYTES, stop - begin))
            target.write(chunk)
            begin += len(chunk)


def _dumped(image: Path, path: str) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        if "File not found" in _debugfs(image, f"dump {path} {file.name}"):
            raise LookupError(f"{path} is not on the data partition")
        return Path(file.name).read_bytes()


def _debugfs(image: Path, *requests: str, write: bool = False) -> str:
    # debugfs says what went wrong and still ends with 0, so callers look at the outcome.
    with tempfile.NamedTemporaryFile("w") as script:
        script.write("\n".join(requests) + "\n")
        script.flush()
        argv = ["debugfs", *(["-w"] if write else []), "-f", script.name, str(image)]
        done = subprocess.run(argv, check=True, **_capture())
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _capture() -> dict[str, Any]:
    return {
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "timeout": TOOL_TIMEOUT_S,
        "env": _TOOL_ENVIRONMENT,
    }

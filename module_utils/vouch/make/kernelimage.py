# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel taken apart: its ELF file out of the ``vmlinuz``, its symbols and types beside it."""

from __future__ import annotations

import lzma
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from ..errors import ParseError, UnreachableError
from ..parse.btf import Btf
from ..parse.bzimage import GZIP, XZ, Payload, parse_bzimage
from ..parse.elf import Elf, parse_elf
from ..parse.kallsyms import Symbol, parse_kallsyms

MAX_XZ_BYTES = 512 << 20
"""Memory that unpacking may take; Debian's kernels ask for a dictionary of 32 MiB."""

MAX_WINDOW_BYTES = 1 << 28

_TEXT_KINDS = frozenset("tTwW")


class KernelImage:
    """One kernel.

    Args:
        vmlinuz: The boot image.

    Attributes:
        elf: The kernel itself, as it is loaded.
        btf: Its types.

    Raises:
        ParseError: by the constructor and every method: it is no kernel, or lacks what was asked for.
    """

    def __init__(self, vmlinuz: bytes) -> None:
        self.elf: Elf = parse_elf(unpack(parse_bzimage(vmlinuz)))
        self.btf = Btf(self.elf.section(".BTF").data.tobytes())
        self._symbols: Mapping[str, tuple[Symbol, ...]] = parse_kallsyms(self.elf.section(".rodata").data.tobytes())
        code = sorted((item.address, name) for name, all_of in self._symbols.items() for item in all_of if _code(item))
        self._starts = [address for address, _ in code]
        self._names = [name for _, name in code]

    def symbol(self, name: str) -> int:
        """Return the address of a symbol; of several of that name the first."""
        found = self.find(name)
        if found is None:
            raise ParseError("kernel.symbols", 0, f"there is no symbol {name}", code="parse.kernel.symbol")
        return found

    def find(self, name: str) -> int | None:
        """Return the address of a symbol, or None."""
        found = self._symbols.get(name)
        return found[0].address if found else None

    def starting(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield every symbol whose name begins so, with each of its addresses."""
        for name, all_of in self._symbols.items():
            if name.startswith(prefix):
                for item in all_of:
                    yield name, item.address

    def addresses(self, name: str) -> tuple[int, ...]:
        """Return every address that has this name."""
        return tuple(item.address for item in self._symbols.get(name, ()))

    def span(self, name: str) -> int:
        """Return the bytes from a symbol up to the next one."""
        first = self.symbol(name)
        behind = [item.address for all_of in self._symbols.values() for item in all_of if item.address > first]
        return min(behind, default=first) - first

    def functions_at(self, address: int) -> list[str]:
        """Return the names of the code that begins exactly there."""
        at = bisect_right(self._starts, address)
        found = []
        while at and self._starts[at - 1] == address:
            found.append(self._names[at - 1])
            at -= 1
        return found

    def named(self) -> list[tuple[int, str]]:
        """Return every symbol by address, those of one address by name."""
        return sorted((item.address, name) for name, all_of in self._symbols.items() for item in all_of)

    def function_around(self, address: int) -> tuple[int, int]:
        """Return where the code with this address begins, and where the next begins."""
        at = bisect_right(self._starts, address)
        first = self._starts[at - 1] if at else 0
        return first, self._starts[at] if at < len(self._starts) else address

    def between(self, start: str, stop: str) -> tuple[int, memoryview]:
        """Return the address of one symbol and the bytes up to another; nothing where this kernel has no such pair."""
        first, last = self.find(start), self.find(stop)
        if first is None or last is None or last < first:
            return 0, memoryview(b"")
        return first, self.elf.read(first, last - first)

    def loaded_until(self, address: int) -> int:
        """Return where the segment ends that is loaded around an address.

        Raises:
            ParseError: none is.
        """
        for segment in self.elf.segments:
            if 0 <= address - segment.virtual < segment.size_bytes:
                return segment.virtual + segment.size_bytes
        raise ParseError("kernel.segments", 0, f"no segment has {address:#x}")

    def image(self, start: int, size_bytes: int) -> bytes:
        """Return memory as the domain builder lays it out: what no segment has is zero.

        Raises:
            ParseError: some of it is not loaded at all.
        """
        for segment in self.elf.segments:
            at = start - segment.virtual
            if at >= 0 and at + size_bytes <= segment.size_bytes + -segment.size_bytes % 4096:
                return segment.data[at : at + size_bytes].tobytes().ljust(size_bytes, b"\0")
        raise ParseError("kernel.segments", 0, f"no segment has {size_bytes} bytes at {start:#x}")


def unpack(payload: Payload) -> bytes:
    """Return the kernel of a boot image.

    Raises:
        ParseError: it does not unpack, or to another size than it says.
        UnreachableError: ``python.library``: nothing here unpacks its compression.
    """
    limit = payload.size_bytes
    try:
        if payload.compression == XZ:
            data = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_BYTES).decompress(payload.data, limit + 1)
        elif payload.compression == GZIP:
            data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload.data, limit + 1)
        else:
            data = _unzstd(payload.data, limit + 1)
    except (lzma.LZMAError, zlib.error) as error:
        raise ParseError("bzImage.payload", 0, f"does not unpack: {error}", code="parse.kernel.payload") from None
    if len(data) != limit:
        raise ParseError("bzImage.payload", 0, f"unpacks to another size than {limit}", code="parse.kernel.payload")
    return data


def _unzstd(data: bytes, limit_bytes: int) -> bytes:
    try:
        # Only here: a kernel of another compression needs no more than Python.
        import zstandard
    except ImportError:
        raise UnreachableError(
            "the kernel is compressed with zstd, and this Python has no module zstandard",
            code="python.library",
            hint="Install Debian's python3-zstandard, or zstandard with pip.",
        ) from None
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(data) as stream:
            return bytes(stream.read(limit_bytes))
    except zstandard.ZstdError as error:
        raise ParseError("bzImage.payload", 0, f"does not unpack: {error}", code="parse.kernel.payload") from None


def _code(symbol: Symbol) -> bool:
    return symbol.kind in _TEXT_KINDS

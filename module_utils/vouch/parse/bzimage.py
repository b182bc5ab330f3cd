# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a Linux ``bzImage`` (``vmlinuz``) keeps the compressed kernel.

Source: Linux 6.12, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" (payload_offset, payload_length:
protocol 2.08 and later); arch/x86/boot/compressed/Makefile (the last four bytes are the size when unpacked).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import ParseError

MAX_BZIMAGE_BYTES = 64 << 20
MAX_KERNEL_BYTES = 256 << 20

XZ, ZSTD, GZIP = "xz", "zstd", "gzip"
_MAGICS = ((b"\xfd7zXZ\0", XZ), (b"\x28\xb5\x2f\xfd", ZSTD), (b"\x1f\x8b", GZIP))

_SETUP_SECTS, _MAGIC_AT, _PROTOCOL, _PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
_FIRST_PROTOCOL = 0x0208
_HEADER_BYTES = 0x250
_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The compressed kernel.

    Attributes:
        compression: ``xz``, ``zstd`` or ``gzip``.
        data: The compressed bytes.
        size_bytes: Size when unpacked, as the file says it.
    """

    compression: str
    data: bytes
    size_bytes: int


def parse_bzimage(data: bytes) -> Payload:
    """Return the payload of a bzImage.

    Raises:
        ParseError: it is none, too large, of an old boot protocol, or its payload lies outside or is of another
            compression.

    Trust: unpack it with a limit of ``size_bytes``, which is itself limited.
    """
    if len(data) > MAX_BZIMAGE_BYTES:
        raise ParseError("bzImage", 0, f"{len(data)} bytes, more than {MAX_BZIMAGE_BYTES}", code="parse.too-large")
    if len(data) < _HEADER_BYTES:
        raise ParseError("bzImage", 0, "ends within its header", code="parse.truncated")
    if data[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS":
        raise ParseError("bzImage.header", _MAGIC_AT, "there is no magic HdrS")
    (protocol,) = struct.unpack_from("<H", data, _PROTOCOL)
    if protocol < _FIRST_PROTOCOL:
        raise ParseError("bzImage.version", _PROTOCOL, f"protocol {protocol:#x} tells of no payload")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    begin = ((data[_SETUP_SECTS] or 4) + 1) * _SECTOR_BYTES + offset
    if length < 8 or begin + length > len(data):
        raise ParseError("bzImage.payload_offset", _PAYLOAD, "the payload is not inside the file")
    payload = data[begin : begin + length]
    compression = next((name for magic, name in _MAGICS if payload.startswith(magic)), "")
    if not compression:
        raise ParseError("bzImage.payload", begin, f"unknown compression {payload[:6].hex()}")
    (size,) = struct.unpack("<I", payload[-4:])
    if not 0 < size <= MAX_KERNEL_BYTES:
        raise ParseError("bzImage.payload", begin + length - 4, f"unpacks to {size} bytes, limit {MAX_KERNEL_BYTES}")
    # gzip keeps the size there itself; the others got it appended.
    return Payload(compression=compression, data=payload if compression == GZIP else payload[:-4], size_bytes=size)

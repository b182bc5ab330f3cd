# SPDX-License-Identifier: GPL-3.0-or-later
"""IMA measurement lists, binary and ASCII, every template of the kernel.

One binary entry, all integers little-endian::

    offset  size  field
    0       4     pcr
    4       20    template hash: SHA-1 of the template data, all zero for a violation
    24      4     length n of the template name
    28      n     template name
    28+n    4     length d of the template data      (not in template "ima")
    32+n    d     template data: per field a u32 length and the bytes

Template ``ima`` has no length: 20 bytes of digest, u32 length, name; what is hashed there is the digest and the
name padded with zeros to 256 bytes.

The template hash of an entry is **not evidence in the SHA-256 bank**: since Linux 5.8 the kernel extends each bank
with that bank's own hash of the template data. Only the template data is covered by a quote of that bank, so the
SHA-1 beside it is read, kept and otherwise ignored, except that all zeros mark a violation
(``check.imarules`` says why that may be believed).

Source: Linux 6.12, security/integrity/ima/ima_fs.c (ima_measurements_show, ima_ascii_measurements_show),
ima_template.c (builtin_templates, supported_fields), ima_template_lib.c; commit 1ea973df6e21 (5.8, all banks).
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import ParseError, UsageError, shown

WHAT = "ima"

MAX_LOG_BYTES = 64 << 20
"""Longest list that is read at all: about 600,000 entries."""

MAX_ENTRIES = 1_000_000
"""Entries of one list unless the caller says fewer."""

MAX_TEMPLATE_NAME_BYTES = 32

MAX_TEMPLATE_DATA_BYTES = 1 << 20
"""Template data of one entry; buffers and module signatures stay far below."""

TEMPLATE_HASH_BYTES = 20
VIOLATION_HASH = bytes(TEMPLATE_HASH_BYTES)
OLD_NAME_BYTES = 256
"""Size of the zero-padded name that template ``ima`` hashes (IMA_EVENT_NAME_LEN_MAX + 1)."""

TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ima": ("d", "n"),
        "ima-ng": ("d-ng", "n-ng"),
        "ima-sig": ("d-ng", "n-ng", "sig"),
        "ima-ngv2": ("d-ngv2", "n-ng"),
        "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
        "ima-buf": ("d-ng", "n-ng", "buf"),
        "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
        "evm-sig": ("d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode"),
    }
)
"""Field identifiers of each template (ima_template.c, builtin_templates)."""

FILE_DIGEST_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "md4": 16,
        "md5": 16,
        "sha1": 20,
        "rmd128": 16,
        "rmd160": 20,
        "rmd256": 32,
        "rmd320": 40,
        "sha224": 28,
        "sha256": 32,
        "sha384": 48,
        "sha512": 64,
        "wp256": 32,
        "wp384": 48,
        "wp512": 64,
        "tgr128": 16,
        "tgr160": 20,
        "tgr192": 24,
        "sm3": 32,
        "sm3-256": 32,
        "sm3_256": 32,
        "streebog256": 32,
        "streebog512": 64,
        "sha3-256": 32,
        "sha3-384": 48,
        "sha3-512": 64,
    }
)
"""Digest sizes by the kernel's names (crypto/hash_info.c); old kernels and tools spell SM3 in three ways."""

_UINT_BYTES: Mapping[str, int] = MappingProxyType({"iuid": 4, "igid": 4, "imode": 2})
_HEX_FIELDS = frozenset({"sig", "buf", "modsig", "evmsig", "xattrlengths", "xattrvalues"})
_MAY_BE_EMPTY = frozenset({"sig", "d-modsig", "modsig", "evmsig", "xattrnames", "xattrlengths", "xattrvalues"})
_DIGEST_TYPES = frozenset({"ima", "verity"})

_HEAD = struct.Struct("<I20sI")
_U32 = struct.Struct("<I")
_LOWER_HEX = re.compile(rb"(?:[0-9a-f]{2})*\Z")
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,9}\Z")
_ASCII_HASH_CHARS = frozenset({40, 64, 96, 128})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaFields:
    """What the template data of one entry says.

    Attributes:
        digest_type: ``"ima"`` (content), ``"verity"`` (fs-verity root), or empty where the template has none.
        algorithm: Kernel's name of the file digest's hash.
        digest: File digest (of a buffer's content in ``ima-buf``).
        path: Event name; the kernel writes ``_`` for each space.
        values: The other fields by their identifier, as bytes.
    """

    digest_type: str
    algorithm: str
    digest: bytes
    path: bytes
    values: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaEntry:
    """One measurement. ``template_data`` is what the kernel hashes for this entry.

    Trust: only a replay to a quoted PCR proves ``template_data`` and the order; it proves ``violation`` too,
    because a violation extends other bytes.
    """

    index: int
    offset_bytes: int
    size_bytes: int
    pcr: int
    template_hash: bytes
    template: str
    template_data: bytes

    @property
    def violation(self) -> bool:
        """Whether the kernel could not vouch for this measurement (ToMToU, open writers)."""
        return not any(self.template_hash)

    def fields(self) -> ImaFields:
        """Return the parsed template data.

        Raises:
            ParseError: as ``parse_fields``.
        """
        return parse_fields(self.template, self.template_data, index=self.index, offset_bytes=self.offset_bytes)

    def template_hash_holds(self) -> bool:
        """Say whether the template hash is the SHA-1 (or, in newer ASCII lists, the longer hash) of the data."""
        name = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}[len(self.template_hash)]
        return hashlib.new(name, self.template_data, usedforsecurity=False).digest() == self.template_hash


def parse_binary(
    data: bytes, *, max_entries: int = MAX_ENTRIES, base_entry: int = 0, base_offset: int = 0
) -> tuple[ImaEntry, ...]:
    """Return every entry of a binary list or of a chunk that begins and ends between entries.

    Args:
        data: ``binary_runtime_measurements`` or a tail of it.
        max_entries: Refuse more.
        base_entry: Index of the first entry of ``data`` in the whole list.
        base_offset: Offset of ``data`` in the whole list.

    Raises:
        ParseError: naming entry and offset, for anything that is not whole entries of known templates with
            well-formed fields.

    Trust: ``data`` is the attester's; nothing is proven by reading it.
    """
    if len(data) > MAX_LOG_BYTES:
        raise ParseError(WHAT, base_offset, f"{len(data)} bytes, more than {MAX_LOG_BYTES}", code="parse.too-large")
    entries: list[ImaEntry] = []
    at = 0
    while at < len(data):
        if len(entries) >= max_entries:
            raise ParseError(WHAT, base_offset + at, f"more than {max_entries} entries", code="parse.too-large")
        entry = read_entry(data, at, index=base_entry + len(entries), base_offset=base_offset)
        entry.fields()
        entries.append(entry)
        at += entry.size_bytes
    return tuple(entries)


def read_entry(data: bytes, at: int, *, index: int, base_offset: int = 0) -> ImaEntry:
    """Return the entry that begins at byte ``at`` of ``data``; its fields are not looked at.

    Raises:
        ParseError: when no whole entry of a known template begins there.
    """
    where = base_offset + at
    name_at = at + _HEAD.size
    if name_at > len(data):
        raise _fail(index, "header", where, f"needs {_HEAD.size} bytes, {len(data) - at} left", "parse.truncated")
    pcr, template_hash, name_size = _HEAD.unpack_from(data, at)
    if pcr > 31:
        raise _fail(index, "pcr", where, f"{pcr} is no register")
    if name_size > MAX_TEMPLATE_NAME_BYTES:
        raise _fail(index, "name", where, f"a template name of {name_size} bytes")
    data_at = name_at + name_size
    template = _template_name(data[name_at:data_at], index, where)
    if template == "ima":
        hashed, end = _read_old(data, data_at, index, where)
    else:
        size = _read_u32(data, data_at, index, where, "template data length")
        if size > MAX_TEMPLATE_DATA_BYTES:
            raise _fail(index, "template data", where, f"{size} bytes, more than allowed", "parse.too-large")
        end = data_at + 4 + size
        if end > len(data):
            raise _fail(
                index, "template data", where, f"needs {size} bytes, {len(data) - data_at - 4} left", "parse.truncated"
            )
        hashed = data[data_at + 4 : end]
    return ImaEntry(
        index=index,
        offset_bytes=where,
        size_bytes=end - at,
        pcr=pcr,
        template_hash=template_hash,
        template=template,
        template_data=hashed,
    )


def parse_fields(template: str, template_data: bytes, *, index: int = 0, offset_bytes: int = 0) -> ImaFields:
    """Return the fields of ``template_data``, all of it consumed.

    Raises:
        ParseError: when a field is cut, malformed, or bytes are left over.
        UsageError: for a template this module does not know.
    """
    if template not in TEMPLATES:
        raise UsageError(f"unknown IMA template {template!r}")
    if template == "ima":
        name = template_data[20:].rstrip(b"\0")
        return ImaFields(digest_type="", algorithm="sha1", digest=template_data[:20], path=name)
    values: dict[str, bytes] = {}
    at = 0
    for name_of_field in TEMPLATES[template]:
        size = _read_u32(template_data, at, index, offset_bytes, name_of_field)
        value = template_data[at + 4 : at + 4 + size]
        if len(value) != size:
            raise _fail(index, name_of_field, offset_bytes, f"needs {size} bytes, {len(value)} left", "parse.truncated")
        values[name_of_field] = value
        at += 4 + size
    if at != len(template_data):
        raise _fail(
            index,
            "template data",
            offset_bytes,
            f"{len(template_data) - at} bytes after the last field",
            "parse.trailing",
        )
    first = TEMPLATES[template][0]
    kind, algorithm, digest = _digest_field(values.pop(first), first, index, offset_bytes)
    path = _name_field(values.pop("n-ng"), index, offset_bytes)
    _check_values(values, index, offset_bytes)
    return ImaFields(digest_type=kind, algorithm=algorithm, digest=digest, path=path, values=MappingProxyType(values))


def encode_template_data(template: str, algorithm: str, digest: bytes, path: bytes) -> bytes:
    """Return the template data the kernel makes for an unsigned file: what a reference list can predict.

    Args:
        template: ``ima-ng``, ``ima-sig``, ``ima-ngv2`` or ``ima-sigv2``.
        algorithm: Kernel's name of the hash.
        digest: File digest.
        path: Absolute path; spaces become ``_`` as in the kernel.
    """
    prefix = b"ima:" if template.endswith("v2") else b""
    digest_field = prefix + algorithm.encode("ascii") + b":\0" + digest
    name = path.replace(b" ", b"_") + b"\0"
    signature = _U32.pack(0) if "sig" in TEMPLATES[template] else b""
    return _U32.pack(len(digest_field)) + digest_field + _U32.pack(len(name)) + name + signature


def encode_entry(pcr: int, template: str, template_data: bytes, *, violation: bool = False) -> bytes:
    """Return one binary entry, template hash included (not for template ``ima``)."""
    name = template.encode("ascii")
    sha1 = VIOLATION_HASH if violation else hashlib.sha1(template_data, usedforsecurity=False).digest()
    return _HEAD.pack(pcr, sha1, len(name)) + name + _U32.pack(len(template_data)) + template_data


def parse_ascii(data: bytes, *, max_entries: int = MAX_ENTRIES) -> tuple[ImaEntry, ...]:
    """Return every entry of ``ascii_runtime_measurements``; template data is rebuilt from the text.

    The text form is a view for people: what it loses (a name with raw spaces before a signature) is refused rather
    than guessed. ``size_bytes`` counts text bytes here.

    Raises:
        ParseError: naming the entry, for a line that is no measurement.
    """
    if len(data) > MAX_LOG_BYTES:
        raise ParseError(WHAT, 0, f"{len(data)} bytes, more than {MAX_LOG_BYTES}", code="parse.too-large")
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if len(lines) > max_entries:
        raise ParseError(WHAT, 0, f"more than {max_entries} entries", code="parse.too-large")
    entries: list[ImaEntry] = []
    at = 0
    for index, line in enumerate(lines):
        entries.append(_ascii_entry(line, index, at))
        at += len(line) + 1
    return tuple(entries)


def _ascii_entry(line: bytes, index: int, at: int) -> ImaEntry:
    parts = line.lstrip(b" ").split(b" ", 3)
    if len(parts) != 4:
        raise _fail(index, "line", at, "a measurement has at least four columns")
    pcr_text, hash_text, name, rest = parts
    if _DECIMAL.match(pcr_text) is None or int(pcr_text) > 31:
        raise _fail(index, "pcr", at, f"{shown(pcr_text)} is no register")
    if len(hash_text) not in _ASCII_HASH_CHARS:
        raise _fail(index, "template hash", at, f"{len(hash_text)} characters")
    template_hash = _unhex(hash_text, "template hash", index, at)
    template = _template_name(name, index, at)
    columns = _ascii_columns(rest, template, index, at)
    encoded = [_encode_column(name, text, index, at) for name, text in zip(TEMPLATES[template], columns, strict=True)]
    if template == "ima":
        template_data = encoded[0] + encoded[1].ljust(OLD_NAME_BYTES, b"\0")
    else:
        template_data = b"".join(_U32.pack(len(value)) + value for value in encoded)
    entry = ImaEntry(
        index=index,
        offset_bytes=at,
        size_bytes=len(line) + 1,
        pcr=int(pcr_text),
        template_hash=template_hash,
        template=template,
        template_data=template_data,
    )
    entry.fields()
    return entry


def _ascii_columns(rest: bytes, template: str, index: int, at: int) -> list[bytes]:
    wanted = len(TEMPLATES[template])
    if wanted == 2:
        columns = rest.split(b" ", 1)  # Old kernels left spaces in names; here the name is simply the rest.
    else:
        columns = rest.split(b" ")
        if len(columns) == wanted - 1 and TEMPLATES[template][-1] in _MAY_BE_EMPTY:
            columns.append(b"")  # The space that stands for an empty last column is often trimmed on the way.
    if len(columns) != wanted:
        raise _fail(index, "line", at, f"template {template} has {wanted} columns after its name, not {len(columns)}")
    return columns


def _encode_column(name: str, text: bytes, index: int, at: int) -> bytes:
    if not text and name in _MAY_BE_EMPTY:
        return b""
    if name == "d":
        return _unhex(text, name, index, at)
    if name in ("d-ng", "d-ngv2", "d-modsig"):
        head, colon, digest = text.rpartition(b":")
        return head + colon + b"\0" + _unhex(digest, name, index, at)
    if name == "n":
        return text
    if name in ("n-ng", "xattrnames"):
        return text + b"\0"
    if name in _UINT_BYTES:
        if _DECIMAL.match(text) is None or int(text) >= 1 << (8 * _UINT_BYTES[name]):
            raise _fail(index, name, at, f"{shown(text)} is no number of this column")
        return int(text).to_bytes(_UINT_BYTES[name], "little")
    return _unhex(text, name, index, at)


def _read_old(data: bytes, at: int, index: int, where: int) -> tuple[bytes, int]:
    size = _read_u32(data, at + 20, index, where, "name length")
    if size >= OLD_NAME_BYTES:
        raise _fail(index, "name", where, f"{size} bytes in template ima")
    end = at + 24 + size
    if end > len(data):
        raise _fail(index, "name", where, f"needs {size} bytes, {len(data) - at - 24} left", "parse.truncated")
    return data[at : at + 20] + data[at + 24 : end].ljust(OLD_NAME_BYTES, b"\0"), end


def _template_name(raw: bytes, index: int, where: int) -> str:
    name = raw.decode("ascii", "replace")
    if name not in TEMPLATES:
        raise _fail(index, "template", where, f"unknown template {shown(name)!r}", "ima.template.unknown")
    return name


def _read_u32(data: bytes, at: int, index: int, where: int, name: str) -> int:
    if at + 4 > len(data):
        raise _fail(index, name, where, "ends before a length", "parse.truncated")
    value: int = _U32.unpack_from(data, at)[0]
    return value


def _digest_field(raw: bytes, name: str, index: int, where: int) -> tuple[str, str, bytes]:
    head, nul, digest = raw.partition(b":\0")
    if not nul:
        raise _fail(index, name, where, "a digest begins with its algorithm")
    kind = ""
    if name == "d-ngv2":
        kind_raw, _, head = head.partition(b":")
        kind = kind_raw.decode("ascii", "replace")
        if kind not in _DIGEST_TYPES:
            raise _fail(index, name, where, f"unknown digest type {shown(kind)!r}")
    algorithm = head.decode("ascii", "replace")
    if algorithm not in FILE_DIGEST_BYTES:
        raise _fail(index, name, where, f"unknown hash algorithm {shown(algorithm)!r}")
    if len(digest) != FILE_DIGEST_BYTES[algorithm]:
        raise _fail(index, name, where, f"{len(digest)} bytes of {algorithm}")
    return kind, algorithm, digest


def _name_field(raw: bytes, index: int, where: int) -> bytes:
    if not raw.endswith(b"\0") or b"\0" in raw[:-1]:
        raise _fail(index, "n-ng", where, "a name ends with its only zero byte")
    return raw[:-1]


def _check_values(values: Mapping[str, bytes], index: int, where: int) -> None:
    for name, value in values.items():
        if name == "d-modsig" and value:
            _digest_field(value, name, index, where)
        elif name in _UINT_BYTES and len(value) != _UINT_BYTES[name]:
            raise _fail(index, name, where, f"{len(value)} bytes, expected {_UINT_BYTES[name]}")
        elif name in ("sig", "evmsig") and value:
            _check_signature(value, name, index, where)


def _check_signature(value: bytes, name: str, index: int, where: int) -> None:
    """Hold a signature of the common layout (struct signature_v2_hdr) against the size it states."""
    if value[0] in (3, 5, 6) and len(value) >= 2 and value[1] in (2, 3):
        stated = int.from_bytes(value[7:9], "big") if len(value) >= 9 else -1
        if stated != len(value) - 9:
            raise _fail(index, name, where, f"states {stated} signature bytes, has {len(value) - 9}")


def _unhex(text: bytes, name: str, index: int, at: int) -> bytes:
    if _LOWER_HEX.match(text) is None:
        raise _fail(index, name, at, f"{shown(text.decode('ascii', 'replace'))} is not hexadecimal")
    return bytes.fromhex(text.decode("ascii"))


def _fail(index: int, name: str, where: int, problem: str, code: str = "parse.invalid") -> ParseError:
    return ParseError(f"{WHAT}[{index}].{name}", where, problem, code=code)

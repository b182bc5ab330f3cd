# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: what the writer writes is read, and nothing else is; what tar can do besides is refused by name."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse import bundle as reader
from ansible.module_utils.vouch.parse.bundle import bundle_index, former_name, parse_bundle, parts_digest
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.indexedtar import INDEX, header

PACKAGE = b"package"
PACKAGE_NAME = f"packages/{sha256(PACKAGE).hex()}.json"
FORMER = b"former release"
FORMER_NAME = former_name(sha256(FORMER))
PARTS = {
    "context.json": b"{}",
    "policy.json": b"p" * 512,
    "result.json": b"r" * 513,
    "release.json": b"",
    "manifest": b"m",
    "evidence.json": b"e" * 20_000,
    PACKAGE_NAME: PACKAGE,
    FORMER_NAME: FORMER,
}
GOOD = write_bundle(PARTS)


def refused(data: bytes) -> str:
    """Return the code with which ``data`` is refused."""
    with pytest.raises(ParseError) as caught:
        parse_bundle(data)
    return caught.value.code


def tar(entries: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], object] = lambda _: None) -> bytes:
    """Return a tar of ``entries``; ``change`` is done to each one's header."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            change(entry)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def indexed(parts: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Return the entries of a bundle of ``parts``."""
    return [(INDEX, bundle_index(parts)), *sorted(parts.items())]


def test_what_is_written_is_read() -> None:
    bundle = parse_bundle(GOOD)
    assert bundle.parts == PARTS
    assert bundle.size_bytes == len(GOOD)
    assert write_bundle(bundle.parts) == GOOD == tar(indexed(PARTS))


def test_the_smallest_bundle() -> None:
    parts = dict.fromkeys(reader.REQUIRED, b"")
    assert parse_bundle(write_bundle(parts)).parts == parts


def test_the_header_is_that_of_the_standard_library() -> None:
    for name, size in (("manifest", 0), (PACKAGE_NAME, 0o7777), ("evidence.json", 64 << 20)):
        entry = tarfile.TarInfo(name)
        entry.size = size
        assert header(name, size) == entry.tobuf(tarfile.USTAR_FORMAT)


def test_the_digest_of_the_parts_leaves_the_signed_result_out() -> None:
    assert parts_digest(PARTS) == parts_digest({**PARTS, "result.jwt": b"x"}) == sha256(bundle_index(PARTS))
    assert parts_digest(PARTS) != parts_digest({**PARTS, "manifest": b"n"})


def with_index(value: Any) -> bytes:
    """Return the bundle with another index."""
    return tar([(INDEX, value if isinstance(value, bytes) else dump_canonical(value)), *sorted(PARTS.items())])


def without(name: str, parts: dict[str, bytes] = PARTS) -> dict[str, bytes]:
    """Return the parts but one."""
    return {other: data for other, data in parts.items() if other != name}


def told(**changes: Any) -> dict[str, Any]:
    """Return the index with another entry for the context."""
    index: dict[str, Any] = {
        "type": "urn:vouch:bundle:1",
        "parts": {name: {"sha256": sha256(data).hex(), "size": len(data)} for name, data in PARTS.items()},
    }
    index["parts"]["context.json"] |= changes
    return index


def linked(kind: bytes) -> bytes:
    """Return a bundle whose entries are of another type."""

    def change(entry: tarfile.TarInfo) -> None:
        if entry.name == "manifest":
            entry.type, entry.linkname = kind, "context.json"

    return tar(indexed(PARTS), change)


def altered(at: int, new: bytes, data: bytes = GOOD) -> bytes:
    """Return ``data`` with other bytes at a place."""
    return data[:at] + new + data[at + len(new) :]


FIRST_PART = GOOD.index(b"context.json\0")
OTHER_PACKAGE = f"packages/{'0' * 64}.json"
FAULTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "bundle.truncated"),
    "only the end": (bytes(10_240), "bundle.part.missing"),
    "no tar": (b"x" * 10_240, "bundle.malformed"),
    "a compressed tar": (b"\x1f\x8b" + bytes(510), "bundle.malformed"),
    "a cut header": (GOOD[:700], "bundle.truncated"),
    "a cut part": (GOOD[:1600], "bundle.truncated"),
    "no end": (GOOD[: len(GOOD) - 10_240], "bundle.truncated"),
    "half an end": (GOOD[:-1], "bundle.truncated"),
    "one byte more": (GOOD + b"\0", "bundle.trailing"),
    "another bundle behind it": (GOOD + GOOD, "bundle.trailing"),
    "something in the end": (altered(len(GOOD) - 9, b"x"), "bundle.trailing"),
    "something between the parts": (altered(FIRST_PART + 512 + 2, b"x"), "bundle.malformed"),
    "a path upwards": (tar([*indexed(PARTS), ("../x", b"")]), "bundle.part.unknown"),
    "an absolute path": (tar([*indexed(PARTS), ("/manifest", b"")]), "bundle.part.unknown"),
    "a path that comes back": (tar([*indexed(PARTS), ("packages/../manifest", b"")]), "bundle.part.unknown"),
    "a name with a newline": (tar([*indexed(PARTS), ("manifest\n", b"")]), "bundle.part.unknown"),
    "a name of two parts": (altered(FIRST_PART + 50, b"x"), "bundle.malformed"),
    "a name in its prefix": (altered(FIRST_PART + 345, b"x"), "bundle.malformed"),
    "a hard link": (linked(tarfile.LNKTYPE), "bundle.link"),
    "a symbolic link": (linked(tarfile.SYMTYPE), "bundle.link"),
    "a folder": (linked(tarfile.DIRTYPE), "bundle.link"),
    "a device": (linked(tarfile.CHRTYPE), "bundle.link"),
    "a sparse file": (linked(tarfile.GNUTYPE_SPARSE), "bundle.link"),
    "an old plain file": (linked(tarfile.AREGTYPE), "bundle.link"),
    "an executable": (tar(indexed(PARTS), lambda entry: setattr(entry, "mode", 0o755)), "bundle.malformed"),
    "an owner": (tar(indexed(PARTS), lambda entry: setattr(entry, "uid", 1)), "bundle.malformed"),
    "an owner's name": (tar(indexed(PARTS), lambda entry: setattr(entry, "uname", "root")), "bundle.malformed"),
    "a time": (tar(indexed(PARTS), lambda entry: setattr(entry, "mtime", 1)), "bundle.malformed"),
    "a checksum": (altered(FIRST_PART + 150, b"7"), "bundle.malformed"),
    "a size that is no number": (altered(FIRST_PART + 124, b"\x80"), "bundle.malformed"),
    "a size with a blank": (altered(FIRST_PART + 124, b" "), "bundle.malformed"),
    "GNU's form": (altered(FIRST_PART + 257, b"ustar  "), "bundle.malformed"),
    "a part twice": (tar([*indexed(PARTS), ("result.json", b"")]), "bundle.part.duplicate"),
    "the index twice": (tar([*indexed(PARTS), (INDEX, b"")]), "bundle.part.duplicate"),
    "the index not first": (tar(sorted(PARTS.items())), "bundle.part.order"),
    "parts not in order": (tar(indexed(PARTS)[:1] + indexed(PARTS)[:0:-1]), "bundle.part.order"),
    "no context": (write_bundle(without("context.json")), "bundle.part.missing"),
    "no policy": (write_bundle(without("policy.json")), "bundle.part.missing"),
    "no result": (write_bundle(without("result.json")), "bundle.part.missing"),
    "a release without its files": (write_bundle(without("manifest")), "bundle.part.missing"),
    "files without their release": (write_bundle(without("release.json")), "bundle.part.missing"),
    "a part that is only listed": (
        tar([(INDEX, bundle_index(PARTS)), *sorted(without("evidence.json").items())]),
        "bundle.part.missing",
    ),
    "a part that is not listed": (with_index(bundle_index(without("evidence.json"))), "bundle.part.unlisted"),
    "another content": (altered(FIRST_PART + 512, b"["), "bundle.digest.mismatch"),
    "another digest": (with_index(told(sha256="00" * 32)), "bundle.digest.mismatch"),
    "another size": (with_index(told(size=3)), "bundle.digest.mismatch"),
    "a package under another name": (
        write_bundle({**without(PACKAGE_NAME), OTHER_PACKAGE: PACKAGE}),
        "bundle.digest.mismatch",
    ),
    "an index that is no JSON": (with_index(b"{"), "bundle.index.malformed"),
    "an index in another spelling": (with_index(bundle_index(PARTS) + b"\n"), "bundle.index.malformed"),
    "an index of another version": (with_index({**told(), "type": "urn:vouch:bundle:2"}), "bundle.index.malformed"),
    "an index with more": (with_index({**told(), "more": 1}), "bundle.index.malformed"),
    "an entry with more": (with_index(told(more=1)), "bundle.index.malformed"),
    "an entry without size": (with_index(told(size="2")), "bundle.index.malformed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    data, code = FAULTS[fault]
    assert data != GOOD
    assert refused(data) == code


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    small = write_bundle({**PARTS, "context.json": bytes((64 << 10) + 1)})
    assert refused(small) == "bundle.too-large"
    # A size is refused by its number: nobody has to send that much.
    assert refused(header(INDEX, 256 << 10)) == "bundle.truncated"
    assert refused(header(INDEX, (256 << 10) + 1)) == "bundle.too-large"
    monkeypatch.setattr(reader, "FORM", dataclasses.replace(reader.FORM, max_parts=2))
    assert refused(GOOD) == "bundle.too-many"
    monkeypatch.setattr(reader, "FORM", dataclasses.replace(reader.FORM, max_bytes=len(GOOD) - 1))
    assert refused(GOOD) == "bundle.too-large"


def test_every_byte_counts() -> None:
    parts = dict.fromkeys(reader.REQUIRED, b"x")
    data = write_bundle(parts)
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        assert refused(bytes(changed)).startswith("bundle.")


@pytest.mark.parametrize("parts", [{}, {"x": b""}, {INDEX: b""}, {"packages/x.json": b""}])
def test_the_writer_knows_the_parts(parts: dict[str, bytes]) -> None:
    with pytest.raises(UsageError) as caught:
        write_bundle(parts)
    assert caught.value.code == "bundle.part"

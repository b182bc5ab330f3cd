# SPDX-License-Identifier: GPL-3.0-or-later
"""Provenance bundles: one spelling, and every part under its own digest. What tar can do besides: ``test_bundle``."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.bundle import write_bundle, write_tar
from ansible.module_utils.vouch.make.provenance import write_provenance_bundle
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse import provenancebundle as reader
from ansible.module_utils.vouch.parse.bundle import BUNDLE_TYPE, parse_bundle
from ansible.module_utils.vouch.parse.provenancebundle import (
    CHAIN,
    FOLDER_BYTES,
    PAPERS,
    PROVENANCE_BUNDLE_TYPE,
    is_provenance_bundle,
    parse_provenance_bundle,
    part_name,
)

CONTENT = b"paper"
PARTS = {CHAIN: b"chain", **{part_name(folder, sha256(CONTENT)): CONTENT for folder in FOLDER_BYTES}}
GOOD = write_provenance_bundle(PARTS)


def refused(data: bytes) -> str:
    """Return the code with which ``data`` is refused."""
    with pytest.raises(ParseError) as caught:
        parse_provenance_bundle(data)
    return caught.value.code


def test_what_is_written_is_read() -> None:
    bundle = parse_provenance_bundle(GOOD)
    assert bundle.parts == PARTS
    assert bundle.size_bytes == len(GOOD)
    assert bundle.part(PAPERS, sha256(CONTENT)) == CONTENT
    assert bundle.part(PAPERS, sha256(b"")) is None
    assert list(bundle.digests(PAPERS)) == [sha256(CONTENT)]


def test_kinds_are_told_apart() -> None:
    evidence = write_bundle(dict.fromkeys(("context.json", "policy.json", "result.json"), b""))
    assert is_provenance_bundle(GOOD)
    assert not is_provenance_bundle(evidence)
    assert refused(evidence) == "bundle.part.unknown"
    with pytest.raises(ParseError) as caught:
        parse_bundle(GOOD)
    assert caught.value.code == "bundle.part.unknown"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bundle.truncated"),
        (GOOD[:-1], "bundle.truncated"),
        (GOOD + b"\0", "bundle.trailing"),
        (write_tar(BUNDLE_TYPE, PARTS), "bundle.index.malformed"),
        (write_tar(PROVENANCE_BUNDLE_TYPE, {part_name(PAPERS, sha256(CONTENT)): CONTENT}), "bundle.part.missing"),
        (write_tar(PROVENANCE_BUNDLE_TYPE, {**PARTS, part_name(PAPERS, sha256(b"x")): b"y"}), "provenance.bundle.name"),
        (write_tar(PROVENANCE_BUNDLE_TYPE, {**PARTS, "papers/x": b""}), "bundle.part.unknown"),
        (write_tar(PROVENANCE_BUNDLE_TYPE, {**PARTS, f"other/{'0' * 64}": b""}), "bundle.part.unknown"),
        (write_tar(PROVENANCE_BUNDLE_TYPE, {**PARTS, f"keys/{'0' * 64}": bytes((16 << 10) + 1)}), "bundle.too-large"),
    ],
)
def test_faults(data: bytes, code: str) -> None:
    assert refused(data) == code


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "FORM", dataclasses.replace(reader.FORM, max_parts=2))
    assert refused(GOOD) == "bundle.too-many"
    monkeypatch.setattr(reader, "FORM", dataclasses.replace(reader.FORM, max_bytes=len(GOOD) - 1))
    assert refused(GOOD) == "bundle.too-large"


def test_every_byte_counts() -> None:
    data = write_provenance_bundle({CHAIN: b"chain"})
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        assert refused(bytes(changed)).startswith(("bundle.", "provenance.bundle."))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Resume points and file manifests."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.statements import manifest_blob
from ansible.module_utils.vouch.model.ima import FileManifest, ImaResume
from ansible.module_utils.vouch.parse.fields import Fields

DIGEST = hashlib.sha256(b"x").digest()
LINE = DIGEST.hex().encode() + b"  /usr/bin/x\n"


def test_what_the_build_writes_is_read() -> None:
    blob = manifest_blob([("/init", DIGEST), ("/init", bytes(32)), ("/a b", DIGEST)])
    manifest = FileManifest.from_bytes(blob)
    assert manifest.sha256 == hashlib.sha256(blob).digest()
    assert manifest.digests_of(b"/init") == (bytes(32), DIGEST)
    assert manifest.files == {(b"/init", DIGEST), (b"/init", bytes(32)), (b"/a_b", DIGEST)}


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\n",
        LINE[:-1],
        LINE + LINE,
        LINE.upper(),
        LINE.replace(b"  ", b" "),
        LINE.replace(b"/usr", b"usr"),
        LINE[2:],
        LINE + b"\n",
        LINE.replace(b"x\n", b"\0\n"),
    ],
)
def test_malformed_manifests(blob: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        FileManifest.from_bytes(blob)
    assert caught.value.code == "manifest.malformed"


def test_resume_points_survive_json() -> None:
    resume = ImaResume(offset_bytes=100, entries=1, pcr10=DIGEST, reset_count=1, restart_count=2)
    assert ImaResume.read(Fields(resume.to_json(), "x")) == resume
    assert resume.same_boot(reset_count=1, restart_count=2)
    assert not resume.same_boot(reset_count=2, restart_count=2)


@pytest.mark.parametrize(
    ("offset", "entries", "register"), [(1, 0, bytes(32)), (0, 1, DIGEST), (0, 0, DIGEST), (-1, 1, DIGEST), (1, 1, b"")]
)
def test_impossible_resume_points(offset: int, entries: int, register: bytes) -> None:
    with pytest.raises(UsageError):
        ImaResume(offset_bytes=offset, entries=entries, pcr10=register, reset_count=0, restart_count=0)

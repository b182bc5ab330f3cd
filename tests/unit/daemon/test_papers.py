# SPDX-License-Identifier: GPL-3.0-or-later
"""Papers for strangers: delivered in parts, kept whole or not at all."""

from __future__ import annotations

import hashlib
import os
import pathlib

import pytest
from ansible.module_utils.vouch.daemon.papers import KEYS, LIMITS, MANIFEST, PART_BYTES, RELEASE, HostPapers
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import encode_base64

DATA = os.urandom(2 * PART_BYTES + 100)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def deliver(papers: HostPapers, name: str, data: bytes) -> None:
    for at in range(0, len(data), PART_BYTES):
        papers.put(name, digest(data), len(data), at, data[at : at + PART_BYTES])


def test_parts_become_a_paper(tmp_path: pathlib.Path) -> None:
    papers = HostPapers(str(tmp_path / "papers"))
    assert papers.status() == {"papers": dict.fromkeys(LIMITS, "")}
    first = papers.put(MANIFEST, digest(DATA), len(DATA), 0, DATA[:PART_BYTES])
    assert first == {"paper": MANIFEST, "have": PART_BYTES, "complete": False}
    assert papers.read_all()[MANIFEST] == b""
    deliver(papers, MANIFEST, DATA)
    assert papers.read_all()[MANIFEST] == DATA
    assert HostPapers(str(tmp_path / "papers")).status()["papers"][MANIFEST] == digest(DATA).hex()
    deliver(papers, MANIFEST, b"another one")
    assert papers.read_all()[MANIFEST] == b"another one"
    assert os.listdir(tmp_path / "papers") == [MANIFEST]


@pytest.mark.parametrize(
    ("size", "offset", "part", "code"),
    [
        (0, 0, b"", "papers.size"),
        (LIMITS[RELEASE] + 1, 0, b"x", "papers.size"),
        (10, 0, bytes(11), "papers.size"),
        (PART_BYTES + 1, 0, bytes(PART_BYTES + 1), "papers.size"),
        (10, 5, b"x", "papers.offset"),
        (4, 0, b"abcd", "papers.digest"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: pathlib.Path, size: int, offset: int, part: bytes, code: str) -> None:
    papers = HostPapers(str(tmp_path))
    with pytest.raises(VouchError) as caught:
        papers.put(RELEASE, bytes(32), size, offset, part)
    assert caught.value.code == code
    assert papers.read_all()[RELEASE] == b""


def test_a_delivery_begins_anew(tmp_path: pathlib.Path) -> None:
    papers = HostPapers(str(tmp_path))
    papers.put(RELEASE, digest(b"abcdef"), 6, 0, b"abc")
    deliver(papers, RELEASE, b"abcdef")
    assert papers.read_all()[RELEASE] == b"abcdef"


def test_keys_are_read_before_they_are_kept(tmp_path: pathlib.Path) -> None:
    papers = HostPapers(str(tmp_path))
    assert papers.items(KEYS) == ()
    deliver(papers, KEYS, dump_canonical([encode_base64(b"one"), encode_base64(b"two")]))
    assert papers.items(KEYS) == (b"one", b"two")
    for wrong in (b"{}", b'["=="]', b"[1]", dump_canonical(["YQ=="] * 17)):
        with pytest.raises(VouchError) as caught:
            deliver(papers, KEYS, wrong)
        assert caught.value.code == "papers.malformed"
    assert papers.items(KEYS) == (b"one", b"two")


def test_a_folder_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "papers").write_bytes(b"")
    with pytest.raises(VouchError) as caught:
        deliver(HostPapers(str(tmp_path / "papers")), RELEASE, b"x")
    assert caught.value.code == "papers.storage"

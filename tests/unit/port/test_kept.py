# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies in memory: handed out as they were handed over, bounded, and never a reason to fail."""

from __future__ import annotations

import os
import pathlib

from ansible.module_utils.vouch.port.kept import Kept

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


def content(kept: Kept, digest: bytes) -> bytes | None:
    stream = kept.get(digest)
    if stream is None:
        return None
    with stream:
        return stream.read()


def test_a_copy_is_what_was_handed_over(tmp_path: pathlib.Path) -> None:
    kept = Kept(str(tmp_path / "kept"))
    assert kept.get(A) is None
    assert kept.open(A) is None
    kept.keep(A, [b"one", memoryview(b"two")])
    assert content(kept, A) == b"onetwo"
    assert kept.get(B) is None
    assert os.listdir(tmp_path / "kept") == [A.hex()]


def test_what_was_not_used_for_longest_goes(tmp_path: pathlib.Path) -> None:
    kept = Kept(str(tmp_path), limit_bytes=10)
    for number, digest in enumerate((A, B)):
        kept.keep(digest, [b"12345"])
        os.utime(tmp_path / digest.hex(), (number, number))
    assert content(kept, A) is not None
    kept.keep(C, [b"12345"])
    assert [content(kept, digest) is not None for digest in (A, B, C)] == [True, False, True]


def test_what_is_too_large_is_not_kept(tmp_path: pathlib.Path) -> None:
    kept = Kept(str(tmp_path), limit_bytes=10)
    kept.keep(A, [b"1234"])
    kept.keep(B, [bytes(11)])
    assert [content(kept, A), content(kept, B)] == [b"1234", None]


def test_what_a_killed_process_left_makes_room(tmp_path: pathlib.Path) -> None:
    (tmp_path / f"{B.hex()}.1").write_bytes(bytes(8))
    kept = Kept(str(tmp_path), limit_bytes=10)
    kept.keep(A, [b"1234"])
    assert os.listdir(tmp_path) == [A.hex()]


def test_a_folder_that_cannot_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "kept").write_bytes(b"")
    kept = Kept(str(tmp_path / "kept"))
    kept.keep(A, [b"1"])
    assert kept.get(A) is None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files are objects, and that their digest depends on nothing but what is in them."""

from __future__ import annotations

import hashlib
import pathlib

import pytest
from ansible.module_utils.vouch.make.objects import digest_of, objects_below, objects_digest

A, B = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()
BOTH = hashlib.sha256("".join(f"{line}\n" for line in sorted((A.hex(), B.hex()))).encode()).digest()


def write(folder: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_objects_are_found_at_every_depth(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"z.o": b"", "deep/er/a.o": b"", "a.c": b"", "b.oo": b"", "o": b"", "lib.a": b""})
    assert objects_below(tmp_path) == (tmp_path / "deep/er/a.o", tmp_path / "z.o")


def test_the_digest_is_that_of_contents(tmp_path: pathlib.Path) -> None:
    one = write(tmp_path / "one", {"1.o": b"a", "2.o": b"b"})
    other = write(tmp_path / "other", {"x/y.o": b"b", "z.o": b"a"})
    assert objects_digest(objects_below(one)) == objects_digest(objects_below(other)) == BOTH
    (one / "1.o").write_bytes(b"A")
    assert objects_digest(objects_below(one)) != BOTH


def test_each_object_counts_once(tmp_path: pathlib.Path) -> None:
    twice = write(tmp_path, {"1.o": b"a", "2.o": b"b", "3.o": b"a"})
    assert objects_digest(objects_below(twice)) == BOTH


@pytest.mark.parametrize("digests", [[A, B], [B, A], [B, A, B], {A: 1, B: 2}])
def test_it_follows_from_digests_alone(digests: list[bytes] | dict[bytes, int]) -> None:
    assert digest_of(digests) == BOTH


def test_no_objects_have_a_digest_of_their_own() -> None:
    assert digest_of([]) == hashlib.sha256(b"").digest()


def test_an_object_that_is_gone(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        objects_digest([tmp_path / "gone.o"])

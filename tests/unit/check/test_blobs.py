# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a guest against its package."""

from __future__ import annotations

import io
from typing import BinaryIO

import pytest
from ansible.module_utils.vouch.check.blobs import check_blobs, check_tree, verify_blobs
from ansible.module_utils.vouch.check.packagerules import VerifiedPackage
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.verity import hash_tree
from ansible.module_utils.vouch.model.finding import Finding

from guestparts import BLOCK, Guest, root_tree

GUEST = Guest()
PACKAGE = GUEST.package()


def changed(name: str, data: bytes | None) -> dict[str, BinaryIO]:
    """Return the files with one of them replaced or left out."""
    files = GUEST.open()
    if data is None:
        del files[name]
    else:
        files[name] = io.BytesIO(data)
    return files


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in findings]


def test_the_built_files_hold() -> None:
    assert check_blobs(PACKAGE, GUEST.open(), full=True) == ()
    verify_blobs(VerifiedPackage(package_id=bytes(32), package=PACKAGE, keyid=""), GUEST.open(), full=True)


@pytest.mark.parametrize("name", sorted(GUEST.files))
def test_each_file_is_looked_at(name: str) -> None:
    data = GUEST.files[name]
    subject = f"package:base/{name}"
    assert told(check_blobs(PACKAGE, changed(name, None))) == [("package.part.missing", subject)]
    assert told(check_blobs(PACKAGE, changed(name, data + b"\0"))) == [("package.part.size", subject)]
    assert told(check_blobs(PACKAGE, changed(name, data[:-1]))) == [("package.part.size", subject)]
    assert told(check_blobs(PACKAGE, changed(name, flipped(data, 0)))) == [("package.part.digest", subject)]


def test_every_wrong_file_is_named() -> None:
    with pytest.raises(EvidenceError) as caught:
        verify_blobs(VerifiedPackage(package_id=bytes(32), package=PACKAGE, keyid=""), {})
    assert len(caught.value.findings) == len(GUEST.files)


# 300 data blocks, then the topmost block, then three blocks of digests.
@pytest.mark.parametrize(
    ("block", "quick", "full"),
    [
        (0, [], [("package.verity.block", 0)]),
        (299, [], [("package.verity.block", 299)]),
        (300, [("package.verity.root", 300)], [("package.verity.root", 300), ("package.verity.block", 301)]),
        (302, [], [("package.verity.block", 302)]),
    ],
)
def test_a_bad_block_is_named(block: int, quick: list[tuple[str, int]], full: list[tuple[str, int]]) -> None:
    data = io.BytesIO(flipped(GUEST.files["root.img"], block * BLOCK))

    def places(**options: bool) -> list[tuple[str, int | None]]:
        return [
            (finding.code, finding.where.entry if finding.where else None)
            for finding in check_tree(data, GUEST.tree.verity, **options)
        ]

    assert places(full=False) == quick
    assert places(full=True) == full


def test_nothing_hides_behind_the_last_digest() -> None:
    """The kernel never reads there, so nobody may leave anything there either."""
    data = GUEST.files["root.img"]
    (finding,) = check_tree(io.BytesIO(flipped(data, len(data) - 1)), GUEST.tree.verity, full=True)
    assert finding.where is not None
    assert (finding.code, finding.where.entry) == ("package.verity.block", 303)


@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 128 * 128 + 1])
def test_trees_of_other_heights(blocks: int) -> None:
    data, _ = root_tree(1)
    tree = hash_tree(data * blocks, b"salt")
    image = io.BytesIO(data * blocks + tree.tree)
    assert list(check_tree(image, tree.verity, full=True)) == []
    image.seek(BLOCK * (blocks - 1))
    image.write(b"x")
    assert list(check_tree(image, tree.verity, full=True)) != []


def test_an_image_that_ends_early() -> None:
    assert [item.code for item in check_tree(io.BytesIO(b""), GUEST.tree.verity, full=True)] == [
        "package.verity.root",
        "package.verity.block",
    ]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a guest against its package: sizes, digests, the root image's hash tree.

Standard library only: dom0 runs this before it starts a guest. It uses ``verify_blobs`` on the files it fetched,
after ``packagerules.verify_statement``; what the policy is worth is ``guestproof.verify_policy``'s to say. None of the
three looks at a signature: they take a ``VerifiedPackage``, which only a caller that verified one can have.

Files are read in pieces, so their size costs time and no memory. A file that is longer or shorter than the package says
is not read at all.

Source: docs/guests.md; Linux, Documentation/admin-guide/device-mapper/verity.rst, hash format version 1.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from ..model.finding import Finding, Locator, Severity
from ..model.image import ROOT_IMAGE, VERITY_BLOCK_BYTES, VERITY_DIGESTS_PER_BLOCK, Verity
from ..model.package import GuestPackage, Part
from .packagerules import VerifiedPackage, raise_denials

CHUNK_BYTES = 1 << 20
DIGEST_BYTES = 32
VERITY = "Linux, admin-guide/device-mapper/verity.rst"


def check_blobs(package: GuestPackage, files: Mapping[str, BinaryIO], *, full: bool = False) -> tuple[Finding, ...]:
    """Return what is wrong with the files of a guest.

    Args:
        package: What they should be.
        files: Name to file, open for reading, at any position; each is closed by who opened it.
        full: Compare the whole hash tree of the root image with its data, not only its topmost block. With the file's
            digest proven, this finds a build that was wrong, not an attacker.

    Returns:
        One finding a file, and one for the tree: its first bad block.

    Trust: the files are an attacker's.
    """
    findings: list[Finding] = []
    for name, part in package.parts.items():
        findings += _check_file(package, name, part, files.get(name))
    root = files.get(ROOT_IMAGE)
    # With another size there are no blocks at the places the tree says.
    sound = root is not None and _size(root) == package.parts[ROOT_IMAGE].size_bytes == package.verity.image_bytes
    if root is not None and sound:
        findings += check_tree(root, package.verity, full=full, subject=_subject(package, ROOT_IMAGE))
    return tuple(findings)


def verify_blobs(verified: VerifiedPackage, files: Mapping[str, BinaryIO], *, full: bool = False) -> None:
    """Return when the files are those of the package.

    Raises:
        EvidenceError: with every finding of ``check_blobs``.
    """
    raise_denials(check_blobs(verified.package, files, full=full))


def check_tree(stream: BinaryIO, verity: Verity, *, full: bool, subject: str = ROOT_IMAGE) -> Iterator[Finding]:
    """Yield what is wrong with a root image's hash tree.

    Args:
        stream: Data blocks and, right behind them, the levels of the tree, topmost first.
        verity: What the command line says of it.
        full: Compare every level with the one below it and the lowest with the data; without, only the topmost block
            with the root hash, which is what the initrd does before it sets up dm-verity.
        subject: What a finding is about.
    """
    levels = verity.levels()
    top = verity.data_blocks if levels else 0
    found = hashlib.sha256(verity.salt + _block(stream, top, 1)).digest()
    if found != verity.root_hash:
        yield Finding(
            code="package.verity.root",
            severity=Severity.DENY,
            subject=subject,
            where=Locator(part=ROOT_IMAGE, entry=top),
            expected=verity.root_hash.hex(),
            actual=found.hex(),
            source=VERITY,
        )
    if not full:
        return
    # From the top down: each level as (first block, blocks), the data last.
    places = [*_places(verity.data_blocks, levels), (0, verity.data_blocks)]
    for (above, _), (below, blocks) in itertools.pairwise(places):
        bad = _first_bad(stream, verity, above=above, below=below, blocks=blocks)
        if bad is not None:
            yield Finding(
                code="package.verity.block",
                severity=Severity.DENY,
                subject=subject,
                where=Locator(part=ROOT_IMAGE, entry=bad),
                expected="a block that hashes to what the level above it says",
                actual=f"the {'data' if bad < verity.data_blocks else 'tree'} block is another",
                source=VERITY,
            )
            return


def _check_file(package: GuestPackage, name: str, part: Part, stream: BinaryIO | None) -> Iterator[Finding]:
    subject = _subject(package, name)
    if stream is None:
        yield Finding.deny("package.part.missing", subject, f"a file {part.sha256.hex()}", "none")
        return
    size = _size(stream)
    if size != part.size_bytes:
        yield Finding.deny("package.part.size", subject, f"{part.size_bytes} bytes", f"{size} bytes")
        return
    found = _digest(stream, part.size_bytes)
    if found != part.sha256:
        yield Finding.deny("package.part.digest", subject, part.sha256.hex(), found.hex())


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, 2)


def _digest(stream: BinaryIO, limit_bytes: int) -> bytes:
    """Return the SHA-256 of the file's first ``limit_bytes`` bytes: it may grow while it is read."""
    state = hashlib.sha256()
    stream.seek(0)
    left = limit_bytes
    while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
        state.update(chunk)
        left -= len(chunk)
    return state.digest()


def _block(stream: BinaryIO, block: int, count: int) -> bytes:
    """Return ``count`` blocks; fewer bytes where the file ends."""
    stream.seek(block * VERITY_BLOCK_BYTES)
    return stream.read(count * VERITY_BLOCK_BYTES)


def _places(data_blocks: int, levels: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    at = data_blocks
    for blocks in levels:
        yield at, blocks
        at += blocks


def _first_bad(stream: BinaryIO, verity: Verity, *, above: int, below: int, blocks: int) -> int | None:
    """Return the first block of a level that does not hash to its digest in the level above it, or None."""
    salted = hashlib.sha256(verity.salt)
    for group, first in enumerate(range(0, blocks, VERITY_DIGESTS_PER_BLOCK)):
        count = min(VERITY_DIGESTS_PER_BLOCK, blocks - first)
        said = _block(stream, above + group, 1)
        data = memoryview(_block(stream, below + first, count))
        for at in range(count):
            state = salted.copy()
            state.update(data[at * verity.block_bytes : (at + 1) * verity.block_bytes])
            if state.digest() != said[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]:
                return below + first + at
        if any(said[count * DIGEST_BYTES :]):
            return above + group
    return None


def _subject(package: GuestPackage, name: str) -> str:
    return f"package:{package.name}/{name}"

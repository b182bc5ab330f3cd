# SPDX-License-Identifier: GPL-3.0-or-later
"""What host and guest images have in common: a verity-protected root and an initrd, made by a tree's own tools."""

from __future__ import annotations

import hashlib
import lzma
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..make.cpio import CpioEntry, write_newc
from ..make.elfneeds import closure
from ..make.initrd import initrd_entries
from ..make.kmods import choose_modules, parse_modules_dep
from ..make.verity import HashTree, content_salt, hash_tree, padded
from .chroot import WORK, Tree

_PROGRAMS = {"busybox": "usr/bin/busybox", "dmsetup": "usr/sbin/dmsetup"}
# dmsetup's interpreter is an absolute path that no DT_NEEDED names.
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def protected_root(tree: Tree, root: Path, *, epoch: int, options: Sequence[str], target: Path) -> HashTree:
    """Write the erofs image of ``root`` and, right behind it, its hash tree to ``target``.

    Args:
        tree: Whose mkfs.erofs is used.
        root: Folder below the tree's work folder.
        epoch: Time of every file.
        options: More arguments of mkfs.erofs.
        target: File to write.

    Returns:
        The hash tree and its parameters.
    """
    # The UUID must not be random, and says nothing: what identifies the image is its root hash.
    uuid = "00000000-0000-4000-8000-000000000000"
    argv = ["mkfs.erofs", "--quiet", "--all-root", f"-T{epoch}", "-U", uuid, *options]
    tree.run([*argv, f"/{WORK}/root.erofs", f"/{WORK}/{root.name}"])
    image = tree.work / "root.erofs"
    data = padded(image.read_bytes())
    image.unlink()
    protected = hash_tree(data, content_salt(data))
    with target.open("wb") as stream:
        stream.write(data)
        stream.write(protected.tree)
        stream.flush()
        os.fsync(stream.fileno())
    return protected


@dataclass(frozen=True, slots=True)
class Initrd:
    """An initrd: its entries, and path and digest of every regular file in it."""

    entries: list[CpioEntry]
    files: list[tuple[str, bytes]]

    @property
    def archive(self) -> bytes:
        """The archive, not compressed."""
        return write_newc(self.entries)


def initrd_of(tree: Tree, *, script: str, modules: Sequence[str], load: Sequence[str]) -> Initrd:
    """Return the initrd of busybox, dmsetup, a script and kernel modules.

    Args:
        tree: Where all of it comes from.
        script: Content of ``/init``.
        modules: Drivers that are loaded when their hardware is there.
        load: Modules that are always loaded.

    Raises:
        UsageError: the tree lacks a program or a module.
    """
    programs = {name: must_read(tree, path) for name, path in _PROGRAMS.items()}
    needed = closure(_PROGRAMS.values(), read=tree.read, libraries=tree.libraries()) - set(_PROGRAMS.values())
    libraries = {path: must_read(tree, path) for path in [*needed, _LOADER]}
    entries = initrd_entries(
        script=script.encode(),
        programs=programs,
        libraries=libraries,
        modules=_initrd_modules(tree, [*modules, *load]),
        load_always=load,
    )
    files = [
        ("/" + entry.path, hashlib.sha256(entry.data).digest())
        for entry in entries
        if isinstance(entry.data, bytes) and entry.mode & 0o170000 == 0o100000
    ]
    return Initrd(entries, files)


def compressed(tree: Tree, archive: bytes) -> bytes:
    """Return ``archive`` as the tree's zstd makes it, single-threaded: the same bytes each time."""
    plain = tree.work / "initrd.cpio"
    plain.write_bytes(archive)
    tree.run(["zstd", "-q", "-f", "-19", "-T1", "--no-progress", f"/{WORK}/initrd.cpio", "-o", f"/{WORK}/initrd.img"])
    return (tree.work / "initrd.img").read_bytes()


def kernel_version(tree: Tree) -> str:
    """Return the release of the only kernel in the tree."""
    return tree.one("usr/lib/modules/*").name


def must_read(tree: Tree, path: str) -> bytes:
    """Return a file of the tree.

    Raises:
        UsageError: it is not there.
    """
    data = tree.read(path)
    if data is None:
        raise UsageError(f"the tree has no /{path}", code="image.tree")
    return data


def _initrd_modules(tree: Tree, wanted: Sequence[str]) -> dict[str, bytes]:
    """Return modules, unpacked (the archive is compressed as a whole), with depmod's text files."""
    kernel = kernel_version(tree)
    folder = tree.path / "usr/lib/modules" / kernel
    choice = choose_modules(parse_modules_dep((folder / "modules.dep").read_text()), wanted)
    if choice.missing:
        raise UsageError(f"kernel {kernel} has no module {', '.join(choice.missing)}", code="image.modules")
    staging = tree.work / "initrd"
    target = staging / "lib/modules" / kernel
    for path in choice.paths:
        packed = (folder / path).read_bytes()
        plain = target / path.removesuffix(".xz")
        plain.parent.mkdir(parents=True, exist_ok=True)
        plain.write_bytes(lzma.decompress(packed) if path.endswith(".xz") else packed)
    tree.run(["depmod", "-b", f"/{WORK}/{staging.name}", kernel])
    kept = [*target.rglob("*.ko"), target / "modules.dep", target / "modules.alias"]
    return {str(path.relative_to(staging)): path.read_bytes() for path in kept}

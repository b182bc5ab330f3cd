# SPDX-License-Identifier: GPL-3.0-or-later
"""What the compiler of a tree makes of sources in it, on this machine: what a build across guests is compared with.

The tree is that of the guest which builds, so compiler, headers and sources are the same files. Nothing is kept.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UnreachableError, UsageError, shown
from ..make.objects import objects_below, objects_digest
from ..make.tree import SOURCE_FOLDER, SOURCE_NAME
from ..port.command import Runner, run
from .chroot import Tree

LIMIT_S = 3600.0
NOBODY = 65534


class LocalBuild(NamedTuple):
    """How many objects there are, and the digest of all of them (``make.objects``)."""

    objects: int
    digest: bytes


def build_locally(
    archive: Path,
    *,
    source: str,
    folder: str,
    arguments: Sequence[str],
    jobs: int = 0,
    say: Callable[[str], None],
    runner: Runner = run,
) -> LocalBuild:
    """Unpack a tree, run its make on sources in it as nobody, and return what that made.

    Args:
        archive: Tar file of the tree.
        source: Name of the source package whose files the tree has.
        folder: Below them, where make runs.
        arguments: Of make.
        jobs: Under way at once; as many as there are processors when 0.
        say: Takes one line when a step begins.
        runner: Runs programs.

    Raises:
        UsageError: ``image.sources``, the tree has no such sources.
        UnreachableError: this is not root (``image.privilege``); make failed (``command.failed``), or made no object
            (``build.empty``).
    """
    if os.geteuid() != 0:
        raise UnreachableError("a local build is started by root (chroot)", code="image.privilege")
    with tempfile.TemporaryDirectory(prefix="vouch-build-") as name:
        tree = Tree(Path(name) / "tree", runner=runner, epoch=0)
        say("unpacking the tree")
        tree.unpack(archive)
        place = tree.path / SOURCE_FOLDER / source
        # The name is checked because everything below it is given away.
        if not SOURCE_NAME.fullmatch(source) or place.is_symlink() or not place.is_dir():
            raise UsageError(f"the tree has no sources of {shown(source)}", code="image.sources")
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        say(f"compiling {source}")
        where = f"/{SOURCE_FOLDER}/{source}/{folder}"
        argv = ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(tree.path), "make", "-C", where]
        argv += [f"-j{jobs or os.cpu_count() or 1}", "CC=gcc", *arguments]
        runner(argv, timeout_s=LIMIT_S, environment={"HOME": "/", "TMPDIR": "/tmp"})  # noqa: S108
        objects = objects_below(place)
        if not objects:
            raise UnreachableError("make made no object", code="build.empty")
        return LocalBuild(len(objects), objects_digest(objects))

# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree that can really be entered: this machine's shell, what it links to, and a script in the place of make.

Skips where that takes more than the machine allows.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

OWN_MAKE = """#!/bin/sh
# Writes two objects into the folder of -C. Whoever can write elsewhere is not nobody.
[ "$1" = -C ] || exit 3
cd "$2" || exit 4
if (: >/usr/src/written); then exit 5; fi
printf 'object 0' >a.o
printf 'object 1' >deep/b.o
printf '%s\\n' "$@" >arguments
"""


def enterable_tree(folder: pathlib.Path, make: str = OWN_MAKE) -> pathlib.Path:
    """Write the tar file of a tree with sources of ``hello`` into ``folder``, and return its path."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("chroot", "ldd", "tar"))):
        pytest.skip("needs root, chroot, ldd and tar")
    root = folder / "small"
    shell = pathlib.Path("/bin/sh").resolve()
    linked = subprocess.run(["ldd", str(shell)], capture_output=True, text=True, check=True).stdout
    files = {"/bin/sh": shell, **{path: pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", linked)}}
    for path, source in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/make").write_text(make)
    (root / "usr/bin/make").chmod(0o755)
    (root / "usr/src/hello/src/deep").mkdir(parents=True)
    (root / "usr/src/hello/src/a.c").write_text("int a;\n")
    archive = folder / "small.tar"
    with tarfile.open(archive, "w") as stream:
        stream.add(root, arcname=".")
    shutil.rmtree(root)
    return archive

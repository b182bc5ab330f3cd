# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that compile, by digest: measured once, at start, on a root that is verified block by block."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping

from ..errors import UsageError
from ..model.provenance import MAX_COMPILERS
from ..port.files import file_digest

PATTERNS = (
    *("/usr/bin/gcc", "/usr/bin/g++", "/usr/bin/cc", "/usr/bin/c++", "/usr/bin/as"),
    *("/usr/lib/gcc/*/*/cc1", "/usr/lib/gcc/*/*/cc1plus", "/usr/libexec/gcc/*/*/cc1", "/usr/libexec/gcc/*/*/cc1plus"),
)
"""Drivers, assembler and compilers proper, as Debian 12 and 13 place them."""


def measure_compilers(patterns: Iterable[str] = PATTERNS) -> Mapping[str, bytes]:
    """Return real path to SHA-256 of every file that a pattern finds; links lead to one entry.

    Raises:
        UsageError: ``compilers.none`` when nothing is found, ``compilers.many`` beyond ``MAX_COMPILERS``.
        UnreachableError: ``files.unreadable``.
    """
    paths = sorted({os.path.realpath(found) for pattern in patterns for found in glob.glob(pattern)})
    if not paths:
        raise UsageError("no compiler is installed", code="compilers.none")
    if len(paths) > MAX_COMPILERS:
        raise UsageError(f"{len(paths)} compiler files, more than {MAX_COMPILERS}", code="compilers.many")
    return {path: file_digest(path) for path in paths}

# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel modules an image needs: the wanted ones and all that they depend on.

A line of ``modules.dep`` is ``path: path path ...``, all relative to the folder of the file (modules.dep(5)).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import ParseError, UsageError

MAX_DEP_BYTES = 16 << 20
SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleChoice:
    """What was chosen.

    Attributes:
        paths: Files to keep, as written in ``modules.dep``.
        missing: Wanted names that no module has; built in, or of another kernel.
    """

    paths: frozenset[str]
    missing: tuple[str, ...]


def module_name(path: str) -> str:
    """Return the name of the module in file ``path``: hyphens count as underscores, as for modprobe."""
    base = path.rsplit("/", 1)[-1]
    for suffix in SUFFIXES:
        if base.endswith(suffix):
            return base.removesuffix(suffix).replace("-", "_")
    raise UsageError(f"{path!r} is no kernel module", code="kmods.path")


def parse_modules_dep(text: str) -> Mapping[str, tuple[str, ...]]:
    """Return path to the paths it depends on.

    Raises:
        ParseError: too large, or a line without its colon.
    """
    if len(text) > MAX_DEP_BYTES:
        raise ParseError("modules.dep", 0, f"{len(text)} characters, more than {MAX_DEP_BYTES}", code="parse.too-large")
    depends: dict[str, tuple[str, ...]] = {}
    offset = 0
    for line in text.splitlines(keepends=True):
        path, colon, rest = line.partition(":")
        if not colon:
            raise ParseError("modules.dep.line", offset, "no colon")
        depends[path] = tuple(rest.split())
        offset += len(line)
    return depends


def choose_modules(depends: Mapping[str, tuple[str, ...]], wanted: Iterable[str]) -> ModuleChoice:
    """Return the wanted modules and, transitively, what they need.

    Args:
        depends: Result of ``parse_modules_dep``.
        wanted: Module names, or patterns of paths when they hold a ``/`` (``kernel/drivers/nvme/*``).

    Raises:
        UsageError: nothing is wanted (``kmods.empty``).
    """
    by_name = {module_name(path): path for path in depends}
    queue: list[str] = []
    missing = []
    names = sorted(set(wanted))
    if not names:
        raise UsageError("a choice of no kernel modules", code="kmods.empty")
    for name in names:
        if "/" in name:
            found = fnmatch.filter(depends, name)
        else:
            found = [by_name[plain]] if (plain := name.replace("-", "_")) in by_name else []
        if not found:
            missing.append(name)
        queue += found
    chosen: set[str] = set()
    while queue:
        path = queue.pop()
        if path not in chosen:
            chosen.add(path)
            queue += depends.get(path, ())
    return ModuleChoice(paths=frozenset(chosen), missing=tuple(missing))

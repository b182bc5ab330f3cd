# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a Debian tree go into the root image: named package by package, nothing by accident.

A plan maps a package to patterns of its paths. What no pattern names stays out; shared libraries are the exception,
they come with the programs that need them (``make.elfneeds``). A pattern that matches nothing is an error, so that a
new version of a package cannot silently leave a program behind.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError

MERGED = ("bin", "sbin", "lib", "lib64")
"""Top-level names that are links into ``/usr``; package lists still use them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChoice:
    """What a plan chose: relative path to the package that owns it."""

    owners: Mapping[str, str]

    @property
    def paths(self) -> tuple[str, ...]:
        """The chosen paths, sorted."""
        return tuple(sorted(self.owners))


def merged(path: str) -> str:
    """Return the path of a package list as it is in a merged-/usr tree: relative, ``lib/x`` as ``usr/lib/x``."""
    plain = path.strip("/")
    head, slash, rest = plain.partition("/")
    return f"usr/{head}/{rest}" if head in MERGED and slash else plain


def package_of(list_name: str) -> str:
    """Return the package of a file of ``/var/lib/dpkg/info``: ``libc6:amd64.list`` is of ``libc6``."""
    return list_name.removesuffix(".list").partition(":")[0]


def choose_paths(lists: Mapping[str, Iterable[str]], plan: Mapping[str, Sequence[str]]) -> PathChoice:
    """Return the paths that ``plan`` names.

    Args:
        lists: Package to all of its paths, as in dpkg's lists.
        plan: Package to patterns (``fnmatch``, absolute; ``*`` crosses directories).

    Raises:
        UsageError: an empty plan, an absent package, or a pattern without a match.
    """
    if not plan:
        raise UsageError("an image of no packages", code="image.plan")
    absent = sorted(set(plan) - set(lists))
    if absent:
        raise UsageError(f"the tree has no package {', '.join(absent)}", code="image.plan")
    owners: dict[str, str] = {}
    unmatched = []
    for package in sorted(plan):
        have = {"/" + merged(path) for path in lists[package]}
        for pattern in plan[package]:
            found = fnmatch.filter(have, pattern)
            if not found:
                unmatched.append(f"{package}: {pattern}")
            for path in found:
                owners[path[1:]] = package
    if unmatched:
        raise UsageError(f"patterns without a match: {'; '.join(unmatched)}", code="image.plan")
    return PathChoice(owners=owners)


def owners_of(lists: Mapping[str, Iterable[str]], paths: Iterable[str]) -> dict[str, str]:
    """Return path to package for those ``paths`` that a package owns."""
    wanted = set(paths)
    owners: dict[str, str] = {}
    for package in sorted(lists):
        for path in lists[package]:
            plain = merged(path)
            if plain in wanted:
                owners.setdefault(plain, package)
    return owners

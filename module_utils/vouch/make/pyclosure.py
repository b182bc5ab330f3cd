# SPDX-License-Identifier: GPL-3.0-or-later
"""Which modules of a package one of its programs imports, read from the sources; so that no other goes into dom0."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from ..errors import UsageError


def import_closure(roots: Iterable[str], *, source: Callable[[str], bytes | None], package: str) -> dict[str, bytes]:
    """Return module name to source of ``roots``, of everything they import inside ``package``, and of the parents.

    Args:
        roots: Dotted names below ``package``, e.g. ``daemon.__main__``.
        source: Returns the source of a dotted name below ``package`` (the empty name is the package itself), None
            when there is no such module. A package is asked for by its own name.
        package: Name of the package, for absolute imports of itself.

    Raises:
        UsageError: a root that does not exist.
    """
    found: dict[str, bytes] = {}
    queue = list(roots)
    for root in queue:
        if source(root) is None:
            raise UsageError(f"{package}.{root} does not exist", code="image.python")
    while queue:
        name = queue.pop()
        text = source(name)
        if name in found or text is None:
            continue
        found[name] = text
        if name:
            queue.append(name.rpartition(".")[0])
        queue += _imports(ast.parse(text), name, package)
    return found


def _imports(tree: ast.Module, name: str, package: str) -> list[str]:
    """Return every dotted name below ``package`` that an import could mean; the caller drops what does not exist."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = _base(node, name, package)
            if base is not None:
                names.append(base)
                names += [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name.partition(".")[2] for alias in node.names if alias.name.partition(".")[0] == package]
    return names


def _base(node: ast.ImportFrom, name: str, package: str) -> str | None:
    if node.level == 0:
        head, _, rest = (node.module or "").partition(".")
        return rest if head == package else None
    # A module's own package is its parent; none of our packages imports in its __init__.
    parts = name.split(".")[: -node.level]
    return ".".join([*parts, *((node.module or "").split(".") if node.module else [])])

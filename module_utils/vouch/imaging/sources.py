# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of this package, wherever it runs from: what a build puts into an image, and what decides its bytes."""

from __future__ import annotations

import pkgutil
import sys

PACKAGE = __name__.rpartition(".imaging.")[0]
"""``vouch`` or ``ansible.module_utils.vouch``."""

DECIDING = (
    *("imaging.", "make.", "parse.pe", "parse.se"),
    *("check.cwlite", "check.flow", "model.flow", "model.integrity", "model.policydigest"),
)
"""Modules whose code is part of the key of a build."""


def source(name: str) -> bytes | None:
    """Return the source of one of our modules, be it in a folder or in the archive that Ansible sent."""
    path = name.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py") if name else ("__init__.py",):
        try:
            data = pkgutil.get_data(PACKAGE, candidate)
        except OSError:
            continue
        if data is not None:
            return data
    return None


def builder_code() -> dict[str, bytes]:
    """Return the sources that decide how an image is built, of the modules that this process has imported."""
    prefix = f"{PACKAGE}."
    names = sorted(name.removeprefix(prefix) for name in sys.modules if name.startswith(prefix))
    return {f"build/{name}": source(name) or b"" for name in names if name.startswith(DECIDING)}

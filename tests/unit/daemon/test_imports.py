# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's processes need no module that dom0's small Python lacks, also where they import late."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from ansible.module_utils.vouch.make.pyclosure import import_closure

from verifier_harness import ROOT

CORE = ROOT / "module_utils" / "vouch"
ABSENT = ("http", "multiprocessing", "shutil", "tempfile", "unittest", "uuid", "xml")
"""Modules that the image does not have, or that are no business of dom0."""

UNUSED_THERE = {("port.files", "tempfile")}
"""Imports inside functions that dom0 does not call."""


def source(name: str) -> bytes | None:
    parts = name.split(".") if name else []
    for path in (CORE.joinpath(*parts).with_suffix(".py"), CORE.joinpath(*parts, "__init__.py")):
        if path.is_file():
            return path.read_bytes()
    return None


def test_nothing_that_dom0_lacks_is_imported_anywhere() -> None:
    found = set()
    for name, text in import_closure(["daemon.__main__", "daemon.relay"], source=source, package="vouch").items():
        for node in ast.walk(ast.parse(text)):
            outside = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            found |= {(name, module) for module in outside if module.split(".")[0] in ABSENT}
    assert found == UNUSED_THERE


@pytest.mark.parametrize("module", ["daemon.__main__", "daemon.keeping", "daemon.dom0", "daemon.relay"])
def test_they_load_without_it(module: str) -> None:
    """So do the standard library's own modules that they import."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules.update(dict.fromkeys(sys.argv[3:]));"
        "__import__('vouch.' + sys.argv[2])"
    )
    argv = [sys.executable, "-I", "-S", "-E", "-c", code, str(ROOT / "module_utils"), module, *ABSENT]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

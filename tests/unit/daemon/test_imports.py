# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's processes load without what dom0's small Python lacks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from verifier_harness import ROOT

ABSENT = ("http", "multiprocessing", "shutil", "tempfile", "unittest", "uuid", "xml")
"""Modules that the image does not have, or that are no business of dom0."""


@pytest.mark.parametrize("module", ["daemon.__main__", "daemon.keeping", "daemon.dom0", "daemon.relay"])
def test_what_dom0_lacks_is_not_needed(module: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules.update(dict.fromkeys(sys.argv[3:]));"
        "__import__('vouch.' + sys.argv[2])"
    )
    argv = [sys.executable, "-I", "-S", "-E", "-c", code, str(ROOT / "module_utils"), module, *ABSENT]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

# SPDX-License-Identifier: GPL-3.0-or-later
"""dom0 gets the modules its programs import, and no other."""

from __future__ import annotations

import pathlib

import ansible.module_utils
import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.pyclosure import import_closure

SOURCES = {
    "": b"",
    "errors": b"import os\n",
    "model": b"",
    "model.key": b"from ..errors import X\n",
    "model.unused": b"",
    "daemon": b"",
    "daemon.main": b"from . import batch\nfrom ..model import key as k\ndef f():\n    from .late import g\n",
    "daemon.batch": b"import vouch.errors\n",
    "daemon.late": b"import json\n",
}


def test_closure_follows_every_kind_of_import() -> None:
    found = import_closure(["daemon.main"], source=SOURCES.get, package="vouch")
    assert set(found) == {"", "errors", "model", "model.key", "daemon", "daemon.main", "daemon.batch", "daemon.late"}
    assert found["daemon.batch"] == SOURCES["daemon.batch"]


def test_a_missing_root_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        import_closure(["daemon.none"], source=SOURCES.get, package="vouch")
    assert caught.value.code == "image.python"


def test_the_real_verifier_needs_no_third_party_and_no_appraiser() -> None:
    core = next(p for base in ansible.module_utils.__path__ if (p := pathlib.Path(base) / "vouch" / "daemon").is_dir())

    def source(name: str) -> bytes | None:
        path = core.parent / name.replace(".", "/")
        for candidate in (path.with_suffix(".py"), path / "__init__.py") if name else (path / "__init__.py",):
            if candidate.is_file():
                return candidate.read_bytes()
        return None

    found = import_closure(["daemon.__main__", "daemon.relay"], source=source, package="vouch")
    layers = {name.partition(".")[0] for name in found}
    assert {"check", "daemon", "errors", "parse", "port"} <= layers
    assert not layers & {"appraise", "install", "lab", "make", "imaging", "store"}

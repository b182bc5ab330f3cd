# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiler files: each once, by its real path; none is an error."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary.compilers import measure_compilers


def test_files_and_links(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gcc-14").write_bytes(b"gcc")
    (tmp_path / "gcc").symlink_to("gcc-14")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "cc1").write_bytes(b"cc1")
    found = measure_compilers([f"{tmp_path}/gcc", f"{tmp_path}/gcc-*", f"{tmp_path}/*/cc1", f"{tmp_path}/none"])
    assert found == {f"{tmp_path}/gcc-14": sha256(b"gcc"), f"{tmp_path}/lib/cc1": sha256(b"cc1")}


def test_none_and_too_many(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        measure_compilers([f"{tmp_path}/*"])
    assert caught.value.code == "compilers.none"
    for number in range(65):
        (tmp_path / str(number)).touch()
    with pytest.raises(UsageError) as caught:
        measure_compilers([f"{tmp_path}/*"])
    assert caught.value.code == "compilers.many"


def test_what_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        measure_compilers([str(tmp_path)])
    assert caught.value.code == "files.unreadable"

# SPDX-License-Identifier: GPL-3.0-or-later
"""UEFI variables in a folder that looks like efivarfs."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.port.efi import GLOBAL_GUID, EfivarFs


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "efi" / "efivars"
    path.mkdir(parents=True)
    for name, value in (("Boot0000", b"a"), ("Boot001F", b"b"), ("BootOrder", b"\0\0"), ("Boot00zz", b"c")):
        (path / f"{name}-{GLOBAL_GUID}").write_bytes(b"\x07\0\0\0" + value)
    (path / "Boot0001-11111111-2222-3333-4444-555555555555").write_bytes(b"\x07\0\0\0x")
    return path


def test_values_come_without_attributes(folder: pathlib.Path) -> None:
    variables = EfivarFs(folder)
    assert variables.read("BootOrder") == b"\0\0"
    assert variables.read("BootNext") is None
    assert variables.boot_entries() == {0: b"a", 0x1F: b"b"}


def test_a_write_is_attributes_and_value(folder: pathlib.Path) -> None:
    EfivarFs(folder).write("Boot0002", b"new", 7)
    assert (folder / f"Boot0002-{GLOBAL_GUID}").read_bytes() == b"\x07\0\0\0new"


def test_a_longer_value_is_replaced_or_refused(folder: pathlib.Path) -> None:
    """efivarfs replaces a variable as a whole; a file system that only overwrites its head shows another value."""
    with pytest.raises(UnreachableError) as caught:
        EfivarFs(folder).write("BootOrder", b"", 7)
    assert caught.value.code == "efi.variable.write"


@pytest.mark.parametrize(("empty", "code"), [(False, "efi.absent"), (True, "efi.variables.unmounted")])
def test_no_uefi(tmp_path: pathlib.Path, empty: bool, code: str) -> None:
    if empty:
        (tmp_path / "efi" / "efivars").mkdir(parents=True)
    with pytest.raises(UnreachableError) as caught:
        EfivarFs(tmp_path / "efi" / "efivars")
    assert caught.value.code == code
    assert caught.value.hint

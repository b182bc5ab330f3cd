# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of all bundles, by itself; what it refuses is tested with each kind (``test_bundle``)."""

from __future__ import annotations

import io
import tarfile

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.bundle import write_tar
from ansible.module_utils.vouch.parse.indexedtar import INDEX, TarForm, check_index, header, index_of, read_entries

FORM = TarForm(type="urn:example:1", part_limit={INDEX: 4096, "a": 10, "b": 10}.get, max_parts=2, max_bytes=100_000)
PARTS = {"a": b"1", "b": b"2"}


def test_entries_and_index() -> None:
    found = read_entries(write_tar(FORM.type, PARTS), FORM)
    index = found.pop(INDEX)
    assert found == PARTS
    assert index == index_of(FORM.type, PARTS)
    check_index(index, found, FORM)


def test_tar_reads_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(write_tar(FORM.type, PARTS))) as archive:
        assert archive.getnames() == [INDEX, "a", "b"]
        assert archive.getmember("a").tobuf(tarfile.USTAR_FORMAT) == header("a", 1)


def test_the_index_is_that_of_its_kind() -> None:
    for index in (index_of("urn:example:2", PARTS), index_of(FORM.type, {"a": b"1"}), b"{}"):
        with pytest.raises(ParseError):
            check_index(index, PARTS, FORM)


def test_an_index_that_the_form_does_not_limit_is_too_long() -> None:
    form = TarForm(type=FORM.type, part_limit=lambda name: 10, max_parts=2, max_bytes=100_000)
    with pytest.raises(ParseError) as caught:
        read_entries(write_tar(FORM.type, PARTS), form)
    assert caught.value.code == "bundle.too-large"

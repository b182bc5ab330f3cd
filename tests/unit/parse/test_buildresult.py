# SPDX-License-Identifier: GPL-3.0-or-later
"""The tar in which a build's result travels; that of any bundle is in ``test_indexedtar``."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.bundle import write_tar
from ansible.module_utils.vouch.parse.buildresult import BUILD_RESULT_TYPE, parse_build_result, part_limit


@pytest.mark.parametrize(
    "name", ["files/", "files/.x", "files/a/b", "files/../x", "/x", "x", "files/" + "a" * 92, "files/provenance.tar"]
)
def test_names_that_no_file_has(name: str) -> None:
    assert part_limit(name) is None


def test_a_result_without_provenance_is_none() -> None:
    with pytest.raises(ParseError) as caught:
        parse_build_result(write_tar(BUILD_RESULT_TYPE, {"files/a": b"a"}))
    assert caught.value.code == "bundle.part.missing"


def test_another_kind_of_bundle_is_none() -> None:
    with pytest.raises(ParseError) as caught:
        parse_build_result(write_tar("urn:vouch:bundle:1", {"provenance.tar": b""}))
    assert caught.value.code == "bundle.index.malformed"


def test_a_build_that_failed_says_why() -> None:
    with pytest.raises(ParseError) as caught:
        parse_build_result(b"vouch-build: failed journal.unknown\n")
    assert caught.value.code == "build.failed"
    assert "journal.unknown" in caught.value.message


@pytest.mark.parametrize(
    "data", [b"vouch-build: failed a\nb\n", b"vouch-build: failed \x1b[2J\n", b"vouch-build: failed "]
)
def test_other_lines_are_no_reason(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_build_result(data)
    assert caught.value.code != "build.failed"

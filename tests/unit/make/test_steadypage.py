# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that is the same in every guest, of real kernels."""

from __future__ import annotations

import hashlib
import pathlib

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.steadypage import steady_page
from ansible.module_utils.vouch.model.kernelprofile import TEXT

from kernels import kernels, profile

pytestmark = pytest.mark.kernel

REAL = pytest.mark.parametrize("path", kernels()[:1] or [None], ids=lambda path: str(path)[-24:])


@REAL
def test_its_digest_is_that_of_a_page_without_sites(path: pathlib.Path | None) -> None:
    if path is None:
        pytest.skip("no kernel on this machine: build a guest, or set VOUCH_TEST_KERNELS")
    address, content = steady_page(path.read_bytes(), profile(path))
    region = profile(path).regions[TEXT]
    page, rest = divmod(address - region.start, len(content))
    assert rest == 0
    # A digest is over the page with its sites as zeros: equal to the plain one only where there is none.
    assert region.page_digests[32 * page : 32 * page + 32] == hashlib.sha256(content).digest()
    assert not any(page * 4096 <= offset < (page + 1) * 4096 for offset in region.site_offsets)


@pytest.mark.thorough
@REAL
def test_a_profile_that_is_not_given_is_made(path: pathlib.Path | None) -> None:
    if path is None:
        pytest.skip("no kernel on this machine: build a guest, or set VOUCH_TEST_KERNELS")
    data = path.read_bytes()
    assert steady_page(data) == steady_page(data, profile(path))


def test_what_is_no_kernel() -> None:
    with pytest.raises(ParseError):
        steady_page(b"MZ" + bytes(4096))

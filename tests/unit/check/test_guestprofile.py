# SPDX-License-Identifier: GPL-3.0-or-later
"""The introspection profile of a guest against its package."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.check.guestprofile import verify_profile
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.model.package import GuestPackage

from guestparts import RELEASE, Guest
from sim.kernelprofile import profile

PACKAGE = Guest().package()
FILE = profile(RELEASE).to_bytes()


def refused(package: GuestPackage, data: bytes) -> list[str]:
    with pytest.raises(EvidenceError) as caught:
        verify_profile(package, data)
    return [finding.code for finding in caught.value.findings]


def test_what_is_built_is_accepted() -> None:
    assert verify_profile(PACKAGE, FILE).release == RELEASE


def test_what_cannot_be_read() -> None:
    assert refused(PACKAGE, FILE[:-1]) == ["package.profile.malformed"]
    assert refused(PACKAGE, b"") == ["package.profile.malformed"]


def test_a_profile_of_another_kernel() -> None:
    assert refused(PACKAGE, profile("6.12.58").to_bytes()) == ["package.profile.mismatch"]


@pytest.mark.parametrize("member", ["text_sha256", "rodata_sha256"])
def test_a_profile_of_other_contents(member: str) -> None:
    facts = replace(PACKAGE.introspection, **{member: b"\x01" * 32})
    assert refused(replace(PACKAGE, introspection=facts), FILE) == ["package.profile.mismatch"]

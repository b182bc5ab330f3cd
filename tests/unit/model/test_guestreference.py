# SPDX-License-Identifier: GPL-3.0-or-later
"""The present package, the next one, and those that are over."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.model.guestreference import MAX_RETIRED_PACKAGES, GuestReference
from ansible.module_utils.vouch.parse.fields import Fields

A, B, C = (bytes([number]) * 32 for number in range(3))
START = GuestReference(guest="web", package=A)


def back(reference: GuestReference) -> GuestReference:
    return GuestReference.read(Fields(reference.to_json(), "reference"))


def test_from_one_package_to_the_next() -> None:
    expecting = START.expecting(B, until_s=100)
    assert back(expecting) == expecting
    assert expecting.accepted(A, at_s=1) == expecting.accepted(C, at_s=1) == expecting
    accepted = expecting.accepted(B, at_s=50)
    # A plan that is made again keeps what was proven, one for another package does not.
    assert accepted.expecting(B, until_s=200).updated(B) == accepted.updated(B)
    with pytest.raises(UsageError, match="no evidence"):
        accepted.expecting(C, until_s=200).updated(C)
    updated = accepted.updated(B)
    assert updated == GuestReference(guest="web", package=B, retired=(A,))
    assert back(updated) == updated
    assert updated.updated(B) == updated


def test_what_runs_already_ends_a_plan() -> None:
    assert START.expecting(B, until_s=100).expecting(A, until_s=100) == START


def test_there_is_no_way_back() -> None:
    updated = START.expecting(B, until_s=100).accepted(B, at_s=50).updated(B)
    with pytest.raises(UsageError) as caught:
        updated.expecting(A, until_s=100)
    assert caught.value.code == "guest.package.retired"


@pytest.mark.parametrize("reference", [START, START.expecting(B, until_s=100), START.expecting(C, until_s=9)])
def test_nothing_is_confirmed_that_was_not_proven(reference: GuestReference) -> None:
    with pytest.raises(UsageError) as caught:
        reference.updated(B)
    assert caught.value.code == "guest.package.unproven"


def test_the_oldest_are_forgotten() -> None:
    reference = START
    for number in range(1, MAX_RETIRED_PACKAGES + 3):
        package = bytes([number]) * 32
        reference = reference.expecting(package, until_s=100).accepted(package, at_s=50).updated(package)
    assert len(back(reference).retired) == MAX_RETIRED_PACKAGES
    assert A not in reference.retired


@pytest.mark.parametrize("change", [{"guest": "-"}, {"package": "00"}, {"next": {}}, {"retired": "x"}, {"more": 1}])
def test_malformed(change: dict[str, object]) -> None:
    with pytest.raises(ParseError):
        GuestReference.read(Fields({**START.to_json(), **change}, "reference"))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The appraisal policy: what it says, and what it refuses to say."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.policy import NEEDED_PCRS, POLICY_TYPE, AppraisalPolicy
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.sign import public_pem
from ansible.module_utils.vouch.parse.canonical import dump_canonical

from sim.attester import RELEASE_KEY, release_key

DECLARED: dict[str, Any] = {
    "type": POLICY_TYPE,
    "name": "production",
    "ttl_s": 300,
    "release_keys": [public_pem(RELEASE_KEY).decode()],  # type: ignore[arg-type]
    "installer_pcr4": ["11" * 32],
}


def test_a_short_policy_has_strict_defaults() -> None:
    policy = AppraisalPolicy.from_bytes(dump_canonical(DECLARED))
    assert policy.release_keys == (release_key(),)
    assert policy.releases is None
    assert policy.max_failed_boot_attempts == 0
    assert not policy.allow_debug
    assert policy.selection.indices == NEEDED_PCRS


def test_it_survives_json_and_keeps_its_digest() -> None:
    policy = AppraisalPolicy.from_json(
        {
            **DECLARED,
            "releases": ["22" * 32],
            "retired": ["33" * 32],
            "allow_debug": True,
            "max_failed_boot_attempts": 2,
        }
    )
    again = AppraisalPolicy.from_json(policy.to_json())
    assert again == policy
    assert again.digest() == policy.digest()
    assert policy.digest() != AppraisalPolicy.from_json(DECLARED).digest()


REFUSED: dict[str, dict[str, Any]] = {
    "another type": {"type": "x"},
    "unknown key": {"max_failed_boots": 3},
    "no release key": {"release_keys": []},
    "no key at all": {"release_keys": ["00"]},
    "no installer": {"installer_pcr4": []},
    "short register": {"installer_pcr4": ["11"]},
    "empty releases": {"releases": []},
    "releases as text": {"releases": "22"},
    "a retired release that is none": {"retired": ["22"]},
    "retired as text": {"retired": "22" * 32},
    "no time to live": {"ttl_s": 0},
    "lives too long": {"ttl_s": 10**6},
    "debug as text": {"allow_debug": "yes"},
    "too many attempts": {"max_failed_boot_attempts": 99},
    "attempts as text": {"max_failed_boot_attempts": "1"},
    "register 10 is missing": {"pcrs": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]},
    "registers out of order": {"pcrs": [14, *NEEDED_PCRS[:-1]]},
    "register as boolean": {"pcrs": [*NEEDED_PCRS, True]},
    "register out of range": {"pcrs": [*NEEDED_PCRS, 24]},
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_refused(fault: str) -> None:
    with pytest.raises(UsageError):
        AppraisalPolicy.from_json({**DECLARED, **REFUSED[fault]})


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_nothing_may_be_missing(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        AppraisalPolicy.from_json({key: value for key, value in DECLARED.items() if key != name})
    assert caught.value.code == "policy.invalid"

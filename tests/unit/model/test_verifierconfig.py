# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's configuration: nobody is believed by default, every member judged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, public_pem
from ansible.module_utils.vouch.model.verifierconfig import VerifierConfig

KEY = generate_private_key()
PEM = public_pem(KEY).decode()
LEAST: dict[str, Any] = {"version": 1, "package_keys": [PEM], "order_keys": [PEM], "allow_debug": False}


def read(**members: Any) -> VerifierConfig:
    value = {name: item for name, item in {**LEAST, **members}.items() if item != "absent"}
    return VerifierConfig.from_bytes(json.dumps(value).encode())


def test_the_least_there_is() -> None:
    config = read()
    assert config.package_keys == config.order_keys == (public_key(KEY),)
    assert (config.light_s, config.allow_debug, config.tsc_mode) == (1.0, False, "")


def test_all_there_is() -> None:
    config = read(light_s=0.5, heavy_s=60, boot_limit_s=30, answer_limit_s=9, memory_reserve_mb=0, tsc_mode="native")
    assert config[3:] == (0.5, 60.0, 30.0, 9.0, 0, "native", ())
    assert read(release_keys=[PEM]).release_keys == (public_key(KEY),)


FAULTS: dict[str, dict[str, Any]] = {
    "no package key": {"package_keys": []},
    "no order key": {"order_keys": []},
    "keys missing": {"order_keys": "absent"},
    "no release key": {"release_keys": []},
    "no key": {"package_keys": ["x"]},
    "key is a number": {"package_keys": [1]},
    "debug missing": {"allow_debug": "absent"},
    "debug is a number": {"allow_debug": 1},
    "version": {"version": 2},
    "unknown": {"more": 1},
    "no time": {"light_s": 0},
    "time is true": {"light_s": True},
    "time is text": {"light_s": "1"},
    "time without end": {"heavy_s": 1e9},
    "negative reserve": {"memory_reserve_mb": -1},
    "another word": {"tsc_mode": 'native" evil="1'},
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_anything_else_is_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        read(**FAULTS[fault])


def test_not_a_number() -> None:
    with pytest.raises(ParseError):
        VerifierConfig.from_bytes(json.dumps({**LEAST, "light_s": float("nan")}).encode())

# SPDX-License-Identifier: GPL-3.0-or-later
"""The context of an appraisal: with a request, without one, and nothing in between."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.bundle import Asked, BundleContext
from ansible.module_utils.vouch.parse.canonical import dump_canonical

from sim.attester import NONCE, NOW_S, ssh_key

HOST = "00000000-0000-4000-8000-000000000001"
UNREACHED: dict[str, Any] = {"host_id": HOST, "now": NOW_S}
ASKED: dict[str, Any] = {**UNREACHED, "nonce": NONCE.hex(), "channel_key": ssh_key(1), "asked_at": NOW_S - 1}


def test_both_forms() -> None:
    asked = BundleContext.from_bytes(dump_canonical(ASKED))
    assert asked == BundleContext(
        host_id=HOST, now_s=NOW_S, asked=Asked(nonce=NONCE, channel_key=ssh_key(1), asked_at_s=NOW_S - 1)
    )
    assert BundleContext.from_bytes(dump_canonical(UNREACHED)).asked is None


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "half a request": ({**UNREACHED, "nonce": NONCE.hex()}, "parse.field.missing"),
    "no nonce": ({key: value for key, value in ASKED.items() if key != "nonce"}, "parse.field.missing"),
    "a short nonce": ({**ASKED, "nonce": "00"}, "parse.field.value"),
    "asked after it was judged": ({**ASKED, "asked_at": NOW_S + 1}, "parse.field.value"),
    "another kind of key": ({**ASKED, "channel_key": "ssh-rsa AAAA"}, "parse.key.ssh"),
    "more": ({**UNREACHED, "more": 1}, "parse.field.unknown"),
    "no time": ({"host_id": HOST}, "parse.field.missing"),
    "no host": ({"now": NOW_S, "host_id": "h1"}, "parse.field.value"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    value, code = FAULTS[fault]
    with pytest.raises(ParseError) as caught:
        BundleContext.from_bytes(dump_canonical(value))
    assert caught.value.code == code


def test_one_spelling() -> None:
    with pytest.raises(ParseError) as caught:
        BundleContext.from_bytes(dump_canonical(ASKED) + b"\n")
    assert caught.value.code == "parse.json.not-canonical"

# SPDX-License-Identifier: GPL-3.0-or-later
"""What nft is told about a guest; whether the kernel takes it is for the scenario on a real host to say."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.port.firewall import NftFirewall, closing, opening
from ansible.module_utils.vouch.port.tool import ToolError


def test_opening_begins_with_closing_and_drops_the_rest() -> None:
    lines = opening("g1", "vif3.0", [("tcp", 3632), ("udp", 68)]).splitlines()
    assert lines[:4] == closing("g1", "vif3.0").splitlines()
    assert "add rule inet vouch to-g1 tcp dport 3632 return" in lines
    assert "add rule inet vouch from-g1 tcp dport 3632 return" not in lines
    for chain in ("from-g1", "to-g1"):
        assert [line for line in lines if line.startswith(f"add rule inet vouch {chain} ")][
            -1
        ] == f"add rule inet vouch {chain} drop"
    assert lines[-2:] == [
        'add element inet vouch from_guest { "vif3.0" : goto from-g1 }',
        'add element inet vouch to_guest { "vif3.0" : goto to-g1 }',
    ]


def test_a_guest_without_a_card_has_chains_alone() -> None:
    assert closing("g1", "").splitlines() == [
        "destroy chain inet vouch from-g1",
        "destroy chain inet vouch to-g1",
    ]


def test_the_program_gets_the_transaction_and_its_failure_is_told(tmp_path: pathlib.Path) -> None:
    nft = tmp_path / "nft"
    nft.write_text(f'#!/bin/sh\ncat > {tmp_path}/said\necho "$@" >> {tmp_path}/said\n')
    nft.chmod(0o755)
    NftFirewall(str(nft)).close("g1", "vif3.0")
    assert (tmp_path / "said").read_text() == closing("g1", "vif3.0") + "-f -\n"
    nft.write_text("#!/bin/sh\necho no such table >&2\nexit 1\n")
    with pytest.raises(ToolError) as caught:
        NftFirewall(str(nft)).open("g1", "vif3.0", [])
    assert (caught.value.code, "no such table" in caught.value.message) == ("tool.failed", True)
    with pytest.raises(ToolError) as caught:
        NftFirewall(str(tmp_path / "none")).close("g1", "")
    assert caught.value.code == "tool.missing"

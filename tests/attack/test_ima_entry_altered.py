# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry of dom0's list is changed after it was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.parse.imalog import parse_binary

from sim.attester import SimAppraiser, SimHost


def flipped(data: bytes, at: int) -> bytes:
    """Return ``data`` with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("index", range(6))
def test_a_byte_of_the_digest(index: int) -> None:
    host = SimHost()
    evidence = host.evidence()
    entry = parse_binary(evidence.ima_log)[index]
    at = entry.offset_bytes + entry.size_bytes - 40
    changed = replace(evidence, ima_log=flipped(evidence.ima_log, at))
    result = SimAppraiser(host=host).appraise(changed).result
    assert (result.stage, result.codes) == ("logs", ("ima.replay.mismatch",))


def test_two_entries_change_places() -> None:
    host = SimHost()
    evidence = host.evidence()
    entries = parse_binary(evidence.ima_log)
    spans = [evidence.ima_log[e.offset_bytes : e.offset_bytes + e.size_bytes] for e in entries]
    spans[2], spans[3] = spans[3], spans[2]
    changed = replace(evidence, ima_log=b"".join(spans))
    assert SimAppraiser(host=host).appraise(changed).result.codes == ("ima.replay.mismatch",)


def test_an_unknown_file_is_called_a_violation_and_a_violation_a_file() -> None:
    host = SimHost()
    evidence = host.evidence()
    entry = parse_binary(evidence.ima_log)[3]
    at = entry.offset_bytes + 4
    lying = evidence.ima_log[:at] + bytes(20) + evidence.ima_log[at + 20 :]
    assert SimAppraiser(host=host).appraise(replace(evidence, ima_log=lying)).result.codes == ("ima.replay.mismatch",)


def test_the_unproven_sha1_of_an_entry_decides_nothing() -> None:
    host = SimHost()
    evidence = host.evidence()
    entry = parse_binary(evidence.ima_log)[3]
    lying = flipped(evidence.ima_log, entry.offset_bytes + 4)
    assert SimAppraiser(host=host).appraise(replace(evidence, ima_log=lying)).result.codes == ()


def test_a_list_of_another_boot() -> None:
    host = SimHost()
    other = SimHost(seed=2)
    other.firmware = b"firmware 2.0"
    other.boot()
    changed = replace(host.evidence(), ima_log=other.ima_log)
    assert SimAppraiser(host=host).appraise(changed).result.codes == ("ima.replay.mismatch",)

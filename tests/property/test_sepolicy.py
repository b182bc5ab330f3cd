# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies of any version, changed at any place: a policy or a ParseError, and soon; a policy has a verdict."""

from __future__ import annotations

from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.integrity import Intent
from ansible.module_utils.vouch.model.policydigest import semantic_digest
from ansible.module_utils.vouch.parse.sepolicy import NEWEST, OLDEST, parse_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.buildnode import policy
from thorough import examples

WHOLE = {}
for _version in range(OLDEST, NEWEST + 1):
    _sim = policy()
    _sim.version, _sim.constraint = _version, "init_t"
    _sim.names = [("cc_t", "etc_t", "file", "resolv.conf", "cc_tmp_t")]
    _sim.commands = [("cc_t", "etc_t", "chr_file")] if _version >= 30 else []
    WHOLE[_version] = _sim.to_bytes()

NUMBERS = st.sampled_from([0, 1, 2, 5, 63, 64, 65, 0x7FFF, 0xFFFF, 0x20000, 0x7FFFFFFF, 0xFFFFFFFF])
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 4), NUMBERS | st.integers(0, 0xFFFFFFFF)),
    min_size=1,
    max_size=4,
)


@given(st.sampled_from(sorted(WHOLE)), CHANGES)
@settings(max_examples=examples(1500), deadline=2000)
def test_changed_bytes_are_a_policy_or_an_error(version: int, changes: list[tuple[float, int, int]]) -> None:
    data = bytearray(WHOLE[version])
    for place, width, value in changes:
        at = int(place * (len(data) - width))
        data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    try:
        found = parse_policy(bytes(data))
    except ParseError:
        return
    semantic_digest(found)
    if found.types:
        verdict = check_policy(found, Intent(tcb=frozenset({found.types[min(found.types)]})))
        assert verdict.conflict_count == sum(1 for _ in verdict.conflicts())


@given(st.binary(max_size=400))
@settings(max_examples=examples(200), deadline=1000)
def test_anything_after_a_good_head_is_an_error(tail: bytes) -> None:
    try:
        parse_policy(WHOLE[33][:32] + tail)
    except ParseError:
        return
    raise AssertionError("a policy out of noise")

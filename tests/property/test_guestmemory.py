# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's memory under random changes: each round of checks gives a report or one of our errors, and soon.

The property is that of ``tests/fuzz/fuzz_guestmemory.py``.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.fuzz_guestmemory import one_input
from thorough import examples

CHANGE = st.binary(min_size=6, max_size=6)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CHANGE, min_size=1, max_size=24).map(b"".join))
def test_any_memory_gives_a_report(data: bytes) -> None:
    one_input(data)

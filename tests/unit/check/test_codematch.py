# SPDX-License-Identifier: GPL-3.0-or-later
"""What does nothing, and whether bytes are a form."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.check.codematch import compile_forms, is_nothing, nothing
from ansible.module_utils.vouch.model.codeform import FormSet, literal, nops, relative

AT = 0xFFFFFFFF81000000

NOTHING = ["90", "9090", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000", "eb03cccccc"]
SOMETHING = ["", "0f1f4001", "eb02cccccc", "eb03cc0f05", "f390", "ebfecc", "0f05", "900f05", "e900000000", "eb00"]


@pytest.mark.parametrize("code", NOTHING)
def test_doing_nothing(code: str) -> None:
    assert is_nothing(bytes.fromhex(code))


@pytest.mark.parametrize("code", SOMETHING)
def test_doing_something(code: str) -> None:
    assert not is_nothing(bytes.fromhex(code))


@pytest.mark.parametrize("length", range(1, 40))
def test_the_kernels_own_spelling(length: int) -> None:
    assert len(nothing(length)) == length
    assert is_nothing(nothing(length))


def test_a_distance_is_counted_from_the_end_of_the_instruction() -> None:
    store = (literal(b"\x48\xc7\x05"), relative(AT + 0x100, tail=4), literal(b"\x01\x00\x00\x00"))
    matcher = compile_forms(FormSet(11, 0, (store,)))
    wanted = b"\x48\xc7\x05" + (0x100 - 11).to_bytes(4, "little") + b"\x01\x00\x00\x00"
    assert matcher.allows(wanted, AT, {})
    assert not matcher.allows(wanted, AT + 1, {})


def test_addresses_wrap_as_the_processor_does_it() -> None:
    matcher = compile_forms(FormSet(5, 0, ((literal(b"\xe9"), relative(0x10)),)))
    assert matcher.allows(b"\xe9" + (0x10 + 16 - 5).to_bytes(4, "little"), (1 << 64) - 16, {})


def test_only_the_file() -> None:
    wanted = FormSet(2, 0, ((nops(2),), (literal(b"\xeb\x10"),)))
    assert compile_forms(wanted).allows(b"\xeb\x10", AT, {})
    assert not compile_forms(wanted, first_only=True).allows(b"\xeb\x10", AT, {})

# SPDX-License-Identifier: GPL-3.0-or-later
"""Host orders, update statements, proofs: whatever arrives is read whole or refused as ours, and written back alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.evidence import UpdateProof
from ansible.module_utils.vouch.model.hostorder import ACTIONS, HostOrder
from ansible.module_utils.vouch.model.update import SLOTS, UpdateStatement
from ansible.module_utils.vouch.model.updateplan import HostStatus
from hypothesis import given
from hypothesis import strategies as st

HOST = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
digests = st.binary(min_size=32, max_size=32)
statements = st.builds(
    UpdateStatement,
    host_id=st.just(HOST),
    before=digests,
    release_id=digests,
    authenticode_sha256=digests,
    slot=st.sampled_from(SLOTS),
    xen_efi_sha256=digests,
    root_img_sha256=digests,
    root_bytes=st.integers(1, 2**40),
    order=digests,
    time_s=st.integers(0, 2**40),
)
orders = st.builds(
    lambda action, challenge, release, confirm_s: HostOrder(
        action,
        HOST,
        challenge,
        release,
        store="http://192.0.2.1/store" if action == "stage" else None,
        confirm_s=confirm_s if action == "try" else None,
    ),
    st.sampled_from(ACTIONS),
    digests,
    digests,
    st.integers(60, 86400),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(statements)
def test_a_statement_there_and_back(statement: UpdateStatement) -> None:
    assert UpdateStatement.from_bytes(statement.to_bytes()) == statement


@given(orders)
def test_an_order_there_and_back(order: HostOrder) -> None:
    assert HostOrder.from_bytes(order.to_bytes()) == order


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_ours(data: bytes) -> None:
    for read in (UpdateStatement.from_bytes, HostOrder.from_bytes):
        with pytest.raises(ParseError):
            read(data)


@given(statements, orders, st.data())
def test_one_member_of_any_kind(statement: UpdateStatement, order: HostOrder, data: st.DataObject) -> None:
    """A document with one member exchanged is refused, or is another whole document that is written back alike."""
    for document, read in ((statement, UpdateStatement.from_bytes), (order, HostOrder.from_bytes)):
        value = json.loads(document.to_bytes())
        value[data.draw(st.sampled_from(sorted(value)))] = data.draw(values)
        raw = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        try:
            found: Any = read(raw)
        except ParseError:
            continue
        assert found.to_bytes() == raw


@given(values)
def test_any_value_is_no_proof_and_no_status(value: Any) -> None:
    for read in (UpdateProof.from_json, HostStatus.from_json):
        with pytest.raises(ParseError):
            read(value)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what a known appraiser sealed, byte for byte and in its place, is a standing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.seal import SealReader
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.make.sign import sign_envelope
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import SEAL_PAYLOAD_TYPE, Seal, SealedStanding, standing_leaf
from hypothesis import given
from hypothesis import strategies as st

from standingparts import KEY, OTHER_KEY, PUBLIC, sealed, standing


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 33])
def test_every_place_of_a_seal_verifies(count: int) -> None:
    standings = [standing(number) for number in range(count)]
    reader = SealReader([PUBLIC])
    assert [reader.verify(item) for item in sealed(*standings)] == standings


def test_a_seal_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, items = SealReader([PUBLIC]), sealed(*(standing(number) for number in range(4)))
    reader.verify(items[0])
    monkeypatch.setattr("ansible.module_utils.vouch.check.seal.verify_signature", None)
    for item in items:
        reader.verify(item)


def _worse(item: SealedStanding) -> SealedStanding:
    return item._replace(standing=standing(2, verdict=Verdict.CONTRAINDICATED).to_bytes())


def _unsealed_type(item: SealedStanding) -> SealedStanding:
    payload = Seal(root=standing_leaf(item.standing), size=1, sealed_at_s=1).to_bytes()
    return item._replace(seal=sign_envelope("text/plain", payload, KEY), place=0, path=b"")


def _no_standing(item: SealedStanding) -> SealedStanding:
    data = b'{"type":"urn:vouch:standing:1"}'
    payload = Seal(root=standing_leaf(data), size=1, sealed_at_s=1).to_bytes()
    return SealedStanding(standing=data, seal=sign_envelope(SEAL_PAYLOAD_TYPE, payload, KEY), place=0, path=b"")


def _no_seal(item: SealedStanding) -> SealedStanding:
    return item._replace(seal=sign_envelope(SEAL_PAYLOAD_TYPE, b"{}", KEY))


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("seal.path", _worse),
        ("seal.path", lambda item: item._replace(place=2)),
        ("seal.path", lambda item: item._replace(place=99)),
        ("seal.path", lambda item: item._replace(place=-1)),
        ("seal.path", lambda item: item._replace(path=item.path[:-1])),
        ("seal.path", lambda item: item._replace(path=item.path[32:])),
        ("seal.path", lambda item: item._replace(path=item.path + bytes(32))),
        ("seal.signature", lambda item: item._replace(seal=sealed(standing(1), key=OTHER_KEY)[0].seal)),
        ("seal.signature", lambda item: item._replace(seal=b"")),
        ("seal.signature", lambda item: item._replace(seal=b"{}")),
        ("seal.malformed", _unsealed_type),
        ("seal.malformed", _no_seal),
        ("seal.standing", _no_standing),
    ],
)
def test_what_was_altered_is_refused(code: str, change: Callable[[SealedStanding], SealedStanding]) -> None:
    item = sealed(standing(1), standing(2), standing(3))[1]
    with pytest.raises(EvidenceError) as caught:
        SealReader([PUBLIC]).verify(change(item))
    assert caught.value.code == code


@given(st.data())
def test_one_flipped_bit_is_never_another_standing(data: st.DataObject) -> None:
    item = sealed(standing(1), standing(2))[0]
    part = data.draw(st.sampled_from(["standing", "path"]))
    value = bytearray(getattr(item, part))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EvidenceError):
        SealReader([PUBLIC]).verify(item._replace(**{part: bytes(value)}))


def test_without_a_key_nothing_is_read() -> None:
    with pytest.raises(UsageError, match=r"key\.none"):
        SealReader([])

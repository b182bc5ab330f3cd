# SPDX-License-Identifier: GPL-3.0-or-later
"""PCR algebra."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.digest import PcrBank, PcrSelection, extend, hash_bytes, sha256


def test_extend_is_the_hash_of_both() -> None:
    for name in ("sha1", "sha256", "sha384", "sha512"):
        size = hashlib.new(name).digest_size
        digest = hash_bytes(name, b"event")
        assert extend(name, bytes(size), digest) == hashlib.new(name, bytes(size) + digest).digest()


@pytest.mark.parametrize(
    ("algorithm", "register", "digest", "code"),
    [
        ("md5", bytes(16), bytes(16), "digest.algorithm"),
        ("sha256", bytes(31), bytes(32), "digest.length"),
        ("sha256", bytes(32), bytes(20), "digest.length"),
    ],
)
def test_extend_refuses(algorithm: str, register: bytes, digest: bytes, code: str) -> None:
    with pytest.raises(UsageError) as error:
        extend(algorithm, register, digest)
    assert error.value.code == code


def test_an_unknown_hash_is_refused() -> None:
    with pytest.raises(UsageError):
        hash_bytes("md5", b"")
    assert sha256(b"") == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    ("algorithm", "indices", "code"),
    [
        ("sha256", (), "pcr.selection.empty"),
        ("sha256", (1, 0), "pcr.selection.order"),
        ("sha256", (1, 1), "pcr.selection.order"),
        ("sha256", (24,), "pcr.selection.range"),
        ("sha256", (-1,), "pcr.selection.range"),
        ("md5", (1,), "digest.algorithm"),
    ],
)
def test_selection_refuses(algorithm: str, indices: tuple[int, ...], code: str) -> None:
    with pytest.raises(UsageError) as error:
        PcrSelection(algorithm, indices)
    assert error.value.code == code


def test_selection_of_any_order() -> None:
    assert str(PcrSelection.of("sha256", [7, 0, 7])) == "sha256:0,7"


@pytest.mark.parametrize(
    ("values", "code"), [({24: bytes(32)}, "pcr.selection.range"), ({0: bytes(20)}, "digest.length")]
)
def test_bank_refuses(values: dict[int, bytes], code: str) -> None:
    with pytest.raises(UsageError) as error:
        PcrBank("sha256", values)
    assert error.value.code == code


def test_bank_is_ordered_and_immutable() -> None:
    bank = PcrBank("sha256", {2: b"b" * 32, 0: b"a" * 32})
    assert list(bank) == [0, 2]
    assert len(bank) == 2
    assert bank.composite(PcrSelection("sha256", (0, 2))) == b"a" * 32 + b"b" * 32
    assert bank.hex() == {"0": "61" * 32, "2": "62" * 32}
    after = bank.extended(0, bytes(32))
    assert after[0] == hashlib.sha256(b"a" * 32 + bytes(32)).digest()
    assert bank[0] == b"a" * 32
    with pytest.raises(TypeError):
        bank.values[0] = bytes(32)  # type: ignore[index]


def test_bank_does_not_invent_registers() -> None:
    bank = PcrBank("sha256", {0: bytes(32)})
    for call in (lambda: bank[1], lambda: bank.composite(PcrSelection("sha256", (0, 1)))):
        with pytest.raises(UsageError) as error:
            call()
        assert error.value.code == "pcr.missing"
    with pytest.raises(UsageError) as error:
        bank.composite(PcrSelection("sha1", (0,)))
    assert error.value.code == "pcr.bank"

# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests, PCR selections and PCR banks, with the one operation a PCR knows: extend.

Source: TPM 2.0 Library, Part 1, clause 17 (PCR operations); Part 2, 10.6 (TPMS_PCR_SELECTION).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import UsageError

PCR_COUNT = 24
"""PCRs of a PC Client TPM (PTP 1.05, 4.6)."""

HASH_SIZE_BYTES: Mapping[str, int] = MappingProxyType({"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64})
"""Algorithms we can compute, by their hashlib name."""

TPM_ALG_TO_NAME: Mapping[int, str] = MappingProxyType(
    {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
)
"""TPM_ALG_ID of the hashes above (TPM 2.0 Part 2, table 9)."""

NAME_TO_TPM_ALG: Mapping[str, int] = MappingProxyType({name: alg for alg, name in TPM_ALG_TO_NAME.items()})


def hash_bytes(algorithm: str, data: bytes) -> bytes:
    """Return the digest of ``data``.

    Raises:
        UsageError: for an algorithm not in ``HASH_SIZE_BYTES``.
    """
    if algorithm not in HASH_SIZE_BYTES:
        raise UsageError(f"unknown hash algorithm {algorithm!r}", code="digest.algorithm")
    return hashlib.new(algorithm, data).digest()


def sha256(data: bytes) -> bytes:
    """Return the 32-byte SHA-256 of ``data``."""
    return hashlib.sha256(data).digest()


def extend(algorithm: str, register: bytes, digest: bytes) -> bytes:
    """Return H(register || digest), the new value of a PCR.

    Args:
        algorithm: Name of the bank's hash.
        register: Current value, as long as the hash.
        digest: What is extended, as long as the hash.

    Raises:
        UsageError: for an unknown algorithm or a wrong length.
    """
    size = HASH_SIZE_BYTES.get(algorithm)
    if size is None:
        raise UsageError(f"unknown hash algorithm {algorithm!r}", code="digest.algorithm")
    if len(register) != size or len(digest) != size:
        raise UsageError(f"extend in bank {algorithm} takes {size}-byte values", code="digest.length")
    return hashlib.new(algorithm, register + digest).digest()


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """Which registers of which bank: never empty, ascending, no register twice."""

    algorithm: str
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.algorithm not in HASH_SIZE_BYTES:
            raise UsageError(f"unknown hash algorithm {self.algorithm!r}", code="digest.algorithm")
        if not self.indices:
            raise UsageError("an empty PCR selection proves nothing", code="pcr.selection.empty")
        if list(self.indices) != sorted(set(self.indices)):
            raise UsageError("PCR indices must ascend without repeats", code="pcr.selection.order")
        if self.indices[0] < 0 or self.indices[-1] >= PCR_COUNT:
            raise UsageError(f"PCR indices run from 0 to {PCR_COUNT - 1}", code="pcr.selection.range")

    @classmethod
    def of(cls, algorithm: str, indices: Iterable[int]) -> PcrSelection:
        """Return the selection of ``indices`` in any order, repeats dropped."""
        return cls(algorithm, tuple(sorted(set(indices))))

    def __str__(self) -> str:
        return f"{self.algorithm}:{','.join(str(i) for i in self.indices)}"


@dataclass(frozen=True, slots=True)
class PcrBank:
    """Values of some registers of one bank; immutable.

    ``values`` maps index to value; every value is as long as the bank's hash.
    """

    algorithm: str
    values: Mapping[int, bytes]

    def __post_init__(self) -> None:
        size = HASH_SIZE_BYTES.get(self.algorithm)
        if size is None:
            raise UsageError(f"unknown hash algorithm {self.algorithm!r}", code="digest.algorithm")
        for index, value in self.values.items():
            if not 0 <= index < PCR_COUNT:
                raise UsageError(f"PCR {index} does not exist", code="pcr.selection.range")
            if len(value) != size:
                raise UsageError(f"PCR {index}: {len(value)} bytes in bank {self.algorithm}", code="digest.length")
        object.__setattr__(self, "values", MappingProxyType(dict(sorted(self.values.items()))))

    def __getitem__(self, index: int) -> bytes:
        try:
            return self.values[index]
        except KeyError:
            raise UsageError(f"PCR {index} is not in this bank", code="pcr.missing") from None

    def __iter__(self) -> Iterator[int]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def extended(self, index: int, digest: bytes) -> PcrBank:
        """Return a bank whose register ``index`` is extended by ``digest``."""
        return PcrBank(self.algorithm, {**self.values, index: extend(self.algorithm, self[index], digest)})

    def composite(self, selection: PcrSelection) -> bytes:
        """Return the concatenation of the selected values in ascending order.

        Its hash under the quote's scheme is TPMS_QUOTE_INFO.pcrDigest (TPM 2.0 Part 1, 17.6.2).

        Raises:
            UsageError: for another bank or a register that is not here.
        """
        if selection.algorithm != self.algorithm:
            raise UsageError(f"selection is of bank {selection.algorithm}, not {self.algorithm}", code="pcr.bank")
        return b"".join(self[i] for i in selection.indices)

    def hex(self) -> dict[str, str]:
        """Return index (decimal text) to lower-case hex value."""
        return {str(i): v.hex() for i, v in self.values.items()}

# SPDX-License-Identifier: GPL-3.0-or-later
"""PCR values of an image before its first boot.

What UEFI firmware extends into PCR 4 for one boot of one application (seen with OVMF, bit for bit)::

    H("Calling EFI Application from Boot Option")       EV_EFI_ACTION
    H(00 00 00 00)                                      EV_SEPARATOR
    for each boot option that was tried first and failed:
        H("Returning from EFI Application from Boot Option")
        H("Calling EFI Application from Boot Option")
    Authenticode digest of the application              EV_EFI_BOOT_SERVICES_APPLICATION

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5 (PCR[4]) and 10.4.4 (EV_EFI_ACTION strings).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UsageError
from ..model.boot import SEPARATORS_NORMAL
from ..model.digest import HASH_SIZE_BYTES, extend, hash_bytes
from ..model.launchregister import CALLING_EFI_APPLICATION, RETURNING_FROM_EFI_APPLICATION

MAX_FAILED_ATTEMPTS = 16
"""More failed boot options than this is no machine whose boot order anybody looked after."""


def extend_all(digests: Iterable[bytes], *, algorithm: str = "sha256", start: bytes | None = None) -> bytes:
    """Return a register that began at ``start`` (zeros when None) after extending ``digests`` in order."""
    register = bytes(HASH_SIZE_BYTES[algorithm]) if start is None else start
    for digest in digests:
        register = extend(algorithm, register, digest)
    return register


def predict_pcr4(authenticode: bytes, failed_attempts: int = 0) -> bytes:
    """Return PCR 4 (SHA-256 bank) after the firmware starts one application.

    Args:
        authenticode: SHA-256 Authenticode digest of the application, 32 bytes.
        failed_attempts: Boot options that were called before and returned without starting anything.

    Raises:
        UsageError: a digest of another length, or a count out of range.
    """
    return _after_applications((authenticode,), failed_attempts)


def pcr4_candidates(authenticode: bytes, max_failed_attempts: int) -> tuple[bytes, ...]:
    """Return PCR 4 for 0 to ``max_failed_attempts`` failed boot options, in this order."""
    return tuple(predict_pcr4(authenticode, n) for n in range(_attempts(max_failed_attempts) + 1))


def predict_uki_pcr4(uki: bytes, kernel: bytes, failed_attempts: int = 0) -> bytes:
    """Return PCR 4 after a unified kernel image: its stub makes the firmware load, and so measure, the kernel too.

    Args:
        uki: Authenticode digest of the whole image.
        kernel: Authenticode digest of the kernel inside it.
        failed_attempts: As for ``predict_pcr4``.
    """
    return _after_applications((uki, kernel), failed_attempts)


def _attempts(count: int) -> int:
    if not 0 <= count <= MAX_FAILED_ATTEMPTS:
        raise UsageError(f"failed boot attempts run from 0 to {MAX_FAILED_ATTEMPTS}", code="predict.attempts")
    return count


def _after_applications(applications: tuple[bytes, ...], failed_attempts: int) -> bytes:
    for digest in applications:
        if len(digest) != HASH_SIZE_BYTES["sha256"]:
            raise UsageError(f"an Authenticode SHA-256 has 32 bytes, not {len(digest)}", code="digest.length")
    calling = hash_bytes("sha256", CALLING_EFI_APPLICATION.encode())
    returning = hash_bytes("sha256", RETURNING_FROM_EFI_APPLICATION.encode())
    before = [calling, hash_bytes("sha256", SEPARATORS_NORMAL[0]), *((returning, calling) * _attempts(failed_attempts))]
    return extend_all([*before, *applications])

# SPDX-License-Identifier: GPL-3.0-or-later
"""PCR 4 after one application was started: the values it can have, by the application's Authenticode digest.

The appraiser accepts by them, and a host knows by them what it runs; the build predicts apart from here
(``make.predict``), so that both agree only when both are right. dom0 reads this, hence no import but of hashes.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5 (PCR 4), 10.4.4 (EV_EFI_ACTION).
"""

from __future__ import annotations

import hashlib

from ..errors import UsageError

CALLING_EFI_APPLICATION = "Calling EFI Application from Boot Option"
RETURNING_FROM_EFI_APPLICATION = "Returning from EFI Application from Boot Option"

MAX_FAILED_ATTEMPTS = 16
"""Failed boot options that can be tolerated; each lengthens the list of values that are accepted."""


def pcr4_values(authenticode_sha256: bytes, max_failed_attempts: int) -> tuple[bytes, ...]:
    """Return PCR 4 after one application was started, for 0 to ``max_failed_attempts`` boot options that failed before.

    Raises:
        UsageError: for a count out of range or a digest that is not 32 bytes long.
    """
    if not 0 <= max_failed_attempts <= MAX_FAILED_ATTEMPTS:
        raise UsageError(f"failed boot attempts run from 0 to {MAX_FAILED_ATTEMPTS}", code="policy.invalid")
    if len(authenticode_sha256) != 32:
        raise UsageError("an Authenticode digest is a SHA-256")
    register = _extended(_extended(bytes(32), _CALLING), _SEPARATOR)
    values = []
    for _ in range(max_failed_attempts + 1):
        values.append(_extended(register, authenticode_sha256))
        register = _extended(_extended(register, _RETURNING), _CALLING)
    return tuple(values)


def _extended(register: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(register + digest).digest()


_CALLING = hashlib.sha256(CALLING_EFI_APPLICATION.encode("ascii")).digest()
_RETURNING = hashlib.sha256(RETURNING_FROM_EFI_APPLICATION.encode("ascii")).digest()
_SEPARATOR = hashlib.sha256(bytes(4)).digest()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot registers of a running Xen host against the release and the machine's baseline.

Under Xen there is no firmware log, so registers are compared as values: PCR 4 with what the release predicts, the
firmware's registers with what was replayed at installation and pinned.

The PCR 4 values are computed here from the release's Authenticode digest, not taken from the side that predicts:
build and appraisal agree only when both are right.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5 (PCR 4), 10.4.4 (EV_EFI_ACTION).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UsageError
from ..model.boot import CALLING_EFI_APPLICATION, RETURNING_FROM_EFI_APPLICATION
from ..model.digest import PcrBank, extend, sha256
from ..model.enrolment import FIRMWARE_PCRS
from ..model.finding import Finding, Severity

PCR4 = 4
SOURCE = "TCG PC Client Platform Firmware Profile 1.06, 3.3.4"

MAX_FAILED_ATTEMPTS = 16
"""Failed boot options a policy may tolerate; each lengthens the list of values that are accepted."""

_CALLING = sha256(CALLING_EFI_APPLICATION.encode("ascii"))
_RETURNING = sha256(RETURNING_FROM_EFI_APPLICATION.encode("ascii"))
_SEPARATOR = sha256(bytes(4))


def pcr4_values(authenticode_sha256: bytes, max_failed_attempts: int) -> tuple[bytes, ...]:
    """Return PCR 4 after one application was started, for 0 to ``max_failed_attempts`` boot options that failed before.

    Raises:
        UsageError: for a count out of range or a digest that is not 32 bytes long.
    """
    if not 0 <= max_failed_attempts <= MAX_FAILED_ATTEMPTS:
        raise UsageError(f"failed boot attempts run from 0 to {MAX_FAILED_ATTEMPTS}", code="policy.invalid")
    register = extend("sha256", extend("sha256", bytes(32), _CALLING), _SEPARATOR)
    values = []
    for _ in range(max_failed_attempts + 1):
        values.append(extend("sha256", register, authenticode_sha256))
        register = extend("sha256", extend("sha256", register, _RETURNING), _CALLING)
    return tuple(values)


def check_pcr4(
    bank: PcrBank, *, authenticode_sha256: bytes, max_failed_attempts: int, others: Mapping[bytes, str]
) -> tuple[Finding, ...]:
    """Return the findings on PCR 4.

    Args:
        bank: Quoted registers.
        authenticode_sha256: Digest of the release's xen.efi.
        max_failed_attempts: Boot options that may have failed before.
        others: Authenticode digest to name of other releases: only used to say what was booted instead.

    Returns:
        DENY ``boot.pcr4.unexpected``; NOTE ``boot.pcr4.attempts``.
    """
    found = bank[PCR4]
    values = pcr4_values(authenticode_sha256, max_failed_attempts)
    if found not in values:
        names = [name for digest, name in sorted(others.items()) if found in pcr4_values(digest, MAX_FAILED_ATTEMPTS)]
        if found in pcr4_values(authenticode_sha256, MAX_FAILED_ATTEMPTS):
            names = [f"this release after more than {max_failed_attempts} failed boot attempts"]
        actual = f"{found.hex()} ({names[0]})" if names else found.hex()
        return (_finding("boot.pcr4.unexpected", PCR4, values[0].hex(), actual, Severity.DENY),)
    attempts = values.index(found)
    if attempts:
        return (_finding("boot.pcr4.attempts", PCR4, "0", f"{attempts} boot options failed before", Severity.NOTE),)
    return ()


def check_baseline(bank: PcrBank, baseline: Mapping[int, bytes]) -> tuple[Finding, ...]:
    """Return the findings on the firmware's registers.

    Args:
        bank: Quoted registers; all of ``FIRMWARE_PCRS`` are there.
        baseline: Pinned values; a register that is not pinned yet gets a note.

    Returns:
        DENY ``boot.baseline.mismatch`` for each other value; NOTE ``boot.baseline.unpinned``.
    """
    found = []
    for index in FIRMWARE_PCRS:
        pinned = baseline.get(index)
        if pinned is None:
            found.append(
                _finding("boot.baseline.unpinned", index, "pinned by this boot", bank[index].hex(), Severity.NOTE)
            )
        elif pinned != bank[index]:
            found.append(_finding("boot.baseline.mismatch", index, pinned.hex(), bank[index].hex(), Severity.DENY))
    return tuple(found)


def _finding(code: str, pcr: int, expected: str, actual: str, severity: Severity) -> Finding:
    return Finding(code=code, severity=severity, subject=f"pcr:{pcr}", expected=expected, actual=actual, source=SOURCE)

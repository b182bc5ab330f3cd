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

from ..model.digest import PcrBank
from ..model.enrolment import FIRMWARE_PCRS
from ..model.finding import Finding, Severity
from ..model.launchregister import MAX_FAILED_ATTEMPTS, pcr4_values

__all__ = ["MAX_FAILED_ATTEMPTS", "PCR4", "SOURCE", "check_baseline", "check_pcr4", "pcr4_values"]

PCR4 = 4
SOURCE = "TCG PC Client Platform Firmware Profile 1.06, 3.3.4"


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

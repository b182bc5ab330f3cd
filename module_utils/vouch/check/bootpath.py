# SPDX-License-Identifier: GPL-3.0-or-later
"""What PCR 4 of a verified log says was started, in words an administrator can act on.

Under Xen there is no log to read; this explains the boots that have one (the installer, a machine before its
installation) and a refusal of theirs: "expected xen.efi X, found Y".

No digest covers an event's type: who writes the log may call a started image an "action", with the very bytes that were
hashed as its text. So an event of PCR 4 is either an image, or one of the few sentences and separators known here, word
for word and covered by its digest; everything else is unexplained, and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError, shown
from ..model.boot import (
    BootAction,
    BootApplication,
    BootClaim,
    Coverage,
    SeparatorSeen,
)
from ..model.finding import Finding, Locator, Severity
from ..model.launchregister import CALLING_EFI_APPLICATION, RETURNING_FROM_EFI_APPLICATION
from .replay import PART, VerifiedLog

PCR_BOOT_APPLICATION = 4
_SOURCE = "TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPath:
    """What was started.

    Attributes:
        applications: Images of either kind, in order; their digests are proven, their device paths are what the
            firmware wrote.
        unexplained: Events that are neither an image nor a known sentence; each may hide a started image.
        failed_attempts: Boot options that returned before the last one was called.
        steps: One line per event of PCR 4.
    """

    applications: tuple[BootApplication, ...]
    unexplained: tuple[BootClaim, ...]
    failed_attempts: int
    steps: tuple[str, ...]


def explain_pcr4(log: VerifiedLog) -> BootPath:
    """Return the story of PCR 4.

    Raises:
        UsageError: PCR 4 was not among the registers that ``log`` was verified against.
    """
    if PCR_BOOT_APPLICATION not in log.bank.values:
        raise UsageError("the log was not verified against PCR 4", code="pcr.missing")
    claims = tuple(log.claims(PCR_BOOT_APPLICATION))
    returns = sum(_is_action(claim, RETURNING_FROM_EFI_APPLICATION) for claim in claims)
    return BootPath(
        applications=tuple(c for c in claims if isinstance(c, BootApplication)),
        unexplained=tuple(c for c in claims if not isinstance(c, BootApplication) and not _is_known(c)),
        failed_attempts=returns,
        steps=tuple(_step(claim) for claim in claims),
    )


def check_applications(path: BootPath, approved: Mapping[bytes, str]) -> tuple[Finding, ...]:
    """Return a finding for each started image that is not approved, each unexplained event, and for no image at all.

    Args:
        path: From ``explain_pcr4``.
        approved: Authenticode digest to the name to show, for instance "xen.efi of release 12".

    Raises:
        UsageError: nothing is approved.
    """
    if not approved:
        raise UsageError("no approved boot applications", code="boot.approved.empty")
    expected = shown(", ".join(f"{name} {digest.hex()}" for digest, name in approved.items()))
    if not path.applications:
        return (_unexpected(expected, "no application was started", None),)
    started = [
        _unexpected(expected, f"{shown(app.device_path or 'image without a path')} {app.digest.hex()}", app.event_index)
        for app in path.applications
        if app.digest not in approved
    ]
    hidden = [
        _unexpected(expected, f"unexplained {claim.type_name} {claim.digest.hex()}", claim.event_index)
        for claim in path.unexplained
    ]
    return tuple(started + hidden)


def _unexpected(expected: str, actual: str, entry: int | None) -> Finding:
    return Finding(
        code="boot.application.unexpected",
        severity=Severity.DENY,
        subject=f"pcr:{PCR_BOOT_APPLICATION}",
        where=Locator(part=PART, entry=entry),
        expected=expected,
        actual=actual,
        source=_SOURCE,
    )


def _is_known(claim: BootClaim) -> bool:
    if isinstance(claim, SeparatorSeen):
        return not claim.error
    return any(_is_action(claim, text) for text in (CALLING_EFI_APPLICATION, RETURNING_FROM_EFI_APPLICATION))


def _is_action(claim: BootClaim, text: str) -> bool:
    return isinstance(claim, BootAction) and claim.coverage is Coverage.WHOLE and claim.text == text


def _step(claim: BootClaim) -> str:
    if isinstance(claim, BootApplication):
        return f"started {claim.digest.hex()} (firmware says: {shown(claim.device_path or 'no path')})"
    if isinstance(claim, SeparatorSeen):
        return "separator: firmware error" if claim.error else "separator"
    if isinstance(claim, BootAction) and claim.coverage is Coverage.WHOLE:
        known = {CALLING_EFI_APPLICATION: "boot option called", RETURNING_FROM_EFI_APPLICATION: "boot option returned"}
        return known.get(claim.text, f"action: {shown(claim.text)}")
    return f"{claim.type_name} {claim.digest.hex()}"

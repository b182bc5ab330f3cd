# SPDX-License-Identifier: GPL-3.0-or-later
"""The introspection profile of a guest against its package.

Standard library only: dom0 runs ``verify_profile`` before it starts a guest.

1. It can be read, whole and within bounds.
2. It is of the kernel that the package names, and describes the text and read-only data that the package names.

That the profile is of the ``vmlinuz`` beside it is seen when the guest was loaded and has not run: its memory is then
compared with the profile. Whoever has more time than dom0 makes the profile again and compares
(``appraise.guestpackage``).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ParseError, shown
from ..model.finding import Finding, Severity, deny
from ..model.kernelprofile import RODATA, TEXT, Profile
from ..model.package import PROFILE, GuestPackage
from .packagerules import raise_denials


def verify_profile(package: GuestPackage, data: bytes) -> Profile:
    """Return the profile of a guest.

    Args:
        package: What it should be.
        data: The file ``profile``.

    Raises:
        EvidenceError: ``package.profile.malformed``, or with every finding of ``check_profile``.

    Trust: compare it with its digest first (``check.blobs``).
    """
    try:
        profile = Profile.from_bytes(data)
    except ParseError as error:
        raise deny("package.profile.malformed", f"package:{package.name}/{PROFILE}", actual=error) from None
    raise_denials(tuple(check_profile(package, profile)))
    return profile


def check_profile(package: GuestPackage, profile: Profile) -> Iterator[Finding]:
    """Yield where the package says something else of the profile than it does itself."""
    facts = package.introspection
    said = (
        ("kernel", facts.release, profile.release),
        ("digest of the text", facts.text_sha256.hex(), profile.regions[TEXT].sha256.hex()),
        ("digest of the read-only data", facts.rodata_sha256.hex(), profile.regions[RODATA].sha256.hex()),
    )
    for name, expected, actual in said:
        if expected != actual:
            yield Finding(
                code="package.profile.mismatch",
                severity=Severity.DENY,
                subject=f"package:{package.name}/{PROFILE}",
                expected=shown(f"{name} {expected}"),
                actual=shown(f"{name} {actual}"),
            )

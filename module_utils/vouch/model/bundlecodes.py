# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of findings about evidence bundles: can they be read, and are they true. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

DENY = Severity.DENY

_ALTERED = "do not rely on it; ask whoever keeps the bundles for another copy"
_TRUST = "find out who made the bundle, or correct what you said you trust"

BUNDLE_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    # The file.
    ("bundle.digest.mismatch", DENY, "A part is not the one that the bundle's index, or its name, says.", _ALTERED),
    ("bundle.index.malformed", DENY, "The index of the bundle cannot be read, or is of another version.", _ALTERED),
    ("bundle.link", DENY, "An entry of the bundle is a link, a folder or a device.", _ALTERED),
    ("bundle.malformed", DENY, "The file is no tar in the one spelling of bundles.", _ALTERED),
    ("bundle.part.duplicate", DENY, "A part stands twice in the bundle.", _ALTERED),
    ("bundle.part.malformed", DENY, "A part of the bundle cannot be read.", _ALTERED),
    ("bundle.part.missing", DENY, "The bundle lacks a part.", _ALTERED),
    ("bundle.part.order", DENY, "The parts of the bundle are not in their order.", _ALTERED),
    ("bundle.part.unknown", DENY, "The bundle holds something that has no place in one.", _ALTERED),
    ("bundle.part.unlisted", DENY, "A part is not in the bundle's index.", _ALTERED),
    ("bundle.part.unused", DENY, "The bundle holds a part that its result was not made from.", _ALTERED),
    ("bundle.too-large", DENY, "The bundle, or a part of it, is longer than allowed.", _ALTERED),
    ("bundle.too-many", DENY, "The bundle has more parts than allowed.", _ALTERED),
    ("bundle.trailing", DENY, "Something follows the last part.", _ALTERED),
    ("bundle.truncated", DENY, "The bundle ends too early.", _ALTERED),
    # What it says.
    ("bundle.context.mismatch", DENY, "Request, enrolment, evidence and result do not belong together.", _ALTERED),
    ("bundle.ear.mismatch", DENY, "The signed result says something else than the bundle it stands in.", _ALTERED),
    ("bundle.result.mismatch", DENY, "The parts lead to another result than the one that is recorded.", _ALTERED),
    # What it was held against.
    ("bundle.anchor.installer", DENY, "The host was installed by an installer that is not among those given.", _TRUST),
    ("bundle.anchor.package", DENY, "A guest's package is not signed by one of the keys given.", _TRUST),
    ("bundle.anchor.release", DENY, "The release is not signed by one of the keys given.", _TRUST),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of findings about the result store: it is judged like evidence, since it steers plays. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

DENY = Severity.DENY

_RESTORE = "find out who can write to the store; appraise every host again into a new one"

STORE_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    ("seal.malformed", DENY, "What an appraiser signed is no seal.", _RESTORE),
    ("seal.path", DENY, "A standing is not among those that its seal signs.", _RESTORE),
    (
        "seal.signature",
        DENY,
        "A seal is not by one of the appraisers that are believed.",
        "add the appraiser's public key, if it is yours; else as for an altered store",
    ),
    ("seal.standing", DENY, "An appraiser sealed something that is no standing.", "use one version of Vouch"),
    ("store.duplicate", DENY, "Two standings claim one host, or two hosts one name.", _RESTORE),
    ("store.tampered", DENY, "A row of the store is not as an appraiser sealed it.", _RESTORE),
)

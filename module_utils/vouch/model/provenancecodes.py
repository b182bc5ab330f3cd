# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of findings about compile jobs, the statements about them, and bundles of these. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

DENY = Severity.DENY

_PLAIN = "use plain distcc 3: no `,lzo`, no `,cpp`, no pump mode"
_SENDER = "the sender is broken or hostile; look at its version"
_NODE = "do not use what that node made; find out what runs there"
_CONSOLE = "look at what the guest said on its console, mend the cause, and start the guest again"
_ALTERED = "do not rely on it; ask whoever keeps the bundles for another copy"
_TRUST = "find out who made the bundle, or correct what you said you trust"

PROVENANCE_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    # The distcc protocol.
    ("distcc.arguments", DENY, "The arguments of a compile job are none, too many, or no text.", _SENDER),
    ("distcc.nonce", DENY, "The nonce of a compile job has another length.", _SENDER),
    ("distcc.number", DENY, "A token of the distcc protocol carries no number.", _SENDER),
    ("distcc.status", DENY, "The status of a compile job cannot be one, or does not fit the object.", _SENDER),
    ("distcc.token", DENY, "Another token of the distcc protocol was expected.", _SENDER),
    ("distcc.too-large", DENY, "A part of a compile job is longer than allowed.", _SENDER),
    ("distcc.trailing", DENY, "Something follows a message of the distcc protocol.", _SENDER),
    ("distcc.truncated", DENY, "A message of the distcc protocol ends too early.", _SENDER),
    ("distcc.version", DENY, "Compressed and pump versions of the distcc protocol are not spoken.", _PLAIN),
    # A statement and what it is about.
    ("provenance.answer", DENY, "The statement is about another object or status than what came with it.", _NODE),
    ("provenance.builder", DENY, "The statement names another guest or channel than the one it came from.", _NODE),
    ("provenance.certificate", DENY, "The channel certificate is none, or names no guest.", _NODE),
    ("provenance.key", DENY, "The endorsement of a work key cannot be read or is of another kind.", _NODE),
    ("provenance.key.owner", DENY, "The work key is endorsed for another guest or channel.", _NODE),
    ("provenance.malformed", DENY, "The statement cannot be read or is of another kind.", _NODE),
    ("provenance.nonce", DENY, "The statement is about another request: its nonce is another.", _NODE),
    ("provenance.package", DENY, "The statement names another guest package than the evidence.", _NODE),
    ("provenance.request", DENY, "The statement is about other arguments or another source.", _NODE),
    ("provenance.time", DENY, "The work was done outside the time its keys and evidence are good for.", _NODE),
    # What a build gives out, and a bundle of statements in it.
    ("build.failed", DENY, "The guest says that its build failed, and why.", _CONSOLE),
    ("provenance.bundle.acceptance", DENY, "An acceptance in the bundle cannot be read.", _ALTERED),
    (
        "provenance.bundle.chain",
        DENY,
        "The chain names a statement that is not there, or about another object.",
        _ALTERED,
    ),
    ("provenance.bundle.name", DENY, "A part of the bundle is not what its name says.", _ALTERED),
    ("provenance.bundle.unused", DENY, "The bundle holds a part that nothing in it needs.", _ALTERED),
    ("provenance.anchor.evidence", DENY, "Evidence of a guest does not hold by what you trust.", _TRUST),
)

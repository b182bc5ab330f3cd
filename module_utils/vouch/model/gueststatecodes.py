# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of findings about guests that run: what the appraiser says of them. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

NOTE, DENY = Severity.NOTE, Severity.DENY

_LOOK = "look at the VM verifier's log of this host; stop the guest, and start it again when the reason is known"
_REINSTALL = "treat the host as compromised; install it again"

GUEST_STATE_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    ("guest.check.missing", DENY, "A guest that runs was never checked.", _LOOK),
    ("guest.check.pending", NOTE, "The guest is coming up; nothing can be said of it yet.", "ask again"),
    (
        "guest.check.stale",
        DENY,
        "The last check of the guest lies too far back.",
        "see that the VM verifier of the host runs; raise guest_max_age_s if its rounds are slower on purpose",
    ),
    ("guest.host.contraindicated", DENY, "The guest's host is not to be trusted, so neither is what it says.", ""),
    ("guest.log.order", DENY, "The log tells of a guest what cannot have happened in this order.", _REINSTALL),
    ("guest.log.violation", DENY, "The guest broke a rule while it ran, by the host's log.", _LOOK),
    (
        "guest.package.mismatch",
        DENY,
        "The host states another root image, policy, name or kind of domain than the guest's package.",
        _REINSTALL,
    ),
    ("guest.package.next", NOTE, "The guest runs the next package of an update that is being made.", ""),
    (
        "guest.package.retired",
        DENY,
        "The policy does not list the guest's package any more, or the guest was updated from it.",
        "start the guest from the package that it is meant to run",
    ),
    (
        "guest.package.unexpected",
        DENY,
        "The guest runs another package than the one recorded of it.",
        "bring it to that package by role guest, entry point update, or see who started it",
    ),
    (
        "guest.package.unknown",
        DENY,
        "The guest runs a package that is not among the signed ones the appraiser was given.",
        "give the appraiser the package, if it is yours, and the key that signed it",
    ),
    (
        "guest.package.window",
        DENY,
        "The guest still runs the next package after the time that was planned for its update.",
        "confirm the update, or plan it anew",
    ),
    ("guest.paused", NOTE, "The guest is paused by order; nothing of it runs.", "order it to resume"),
    ("guest.statement.launch", DENY, "The host states a guest that its log never launched.", _REINSTALL),
    ("guest.statement.mismatch", DENY, "What the host states of the guest contradicts its own log.", _REINSTALL),
    ("guest.statement.missing", DENY, "By the log the guest lives, and the host states nothing of it.", _REINSTALL),
)

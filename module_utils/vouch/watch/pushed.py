# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells by itself, read strictly. One thing of it is believed: that a guest of its own broke a rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..model.gueststate import GUEST_ID
from ..model.standing import MAX_REASONS

VIOLATION = "guest.violation"
UNNAMED = "guest.violation.unnamed"
"""Reason where a host tells of a violation and names none that could be a code."""

MAX_EVENT_CODES_CHARS = 4096
_CODE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+){0,5}\Z")


class PushedViolation(NamedTuple):
    """A guest, and the codes of what it broke."""

    guest: str
    codes: tuple[str, ...]


def read_violation(event: Mapping[str, Any]) -> PushedViolation | None:
    """Return the violation that an event tells of; None for every other event, and for one that cannot be understood.

    Trust: the event is the host's word. What it says can only be held against its own guest.
    """
    guest, codes = event.get("guest"), event.get("codes")
    if event.get("event") != VIOLATION or not isinstance(guest, str) or GUEST_ID.match(guest) is None:
        return None
    text = codes[:MAX_EVENT_CODES_CHARS] if isinstance(codes, str) else ""
    found = tuple(dict.fromkeys(code for code in text.split(",") if len(code) <= 128 and _CODE.match(code)))
    return PushedViolation(guest, found[:MAX_REASONS] or (UNNAMED,))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as documents write them: UTC, whole seconds, one spelling (RFC 3339, profile of 5.6)."""

from __future__ import annotations

import datetime

_TEXT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def utc_text(time_s: int) -> str:
    """Return Unix seconds as text, ``2026-01-01T00:00:00Z``."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime(_TEXT_FORMAT)


def utc_seconds(text: str) -> int:
    """Return Unix seconds of what ``utc_text`` wrote.

    Raises:
        ValueError: for any other text.
    """
    return int(datetime.datetime.strptime(text, _TEXT_FORMAT).replace(tzinfo=datetime.UTC).timestamp())

# SPDX-License-Identifier: GPL-3.0-or-later
"""Times in documents: whole seconds, UTC, there and back."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.model.utctime import utc_seconds, utc_text


@pytest.mark.parametrize(("seconds", "text"), [(0, "1970-01-01T00:00:00Z"), (1_800_000_000, "2027-01-15T08:00:00Z")])
def test_there_and_back(seconds: int, text: str) -> None:
    assert utc_text(seconds) == text
    assert utc_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "2027-01-15", "2027-01-15T08:00:00+00:00", "2027-13-15T08:00:00Z"])
def test_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="time data"):
        utc_seconds(text)

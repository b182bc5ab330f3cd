# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a slow test does: everything in ``make test`` and in CI, a part where somebody waits for ``make check``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

THOROUGH = bool(os.environ.get("CI") or os.environ.get("VOUCH_THOROUGH"))
"""What is marked ``thorough`` runs only then (tests/conftest.py)."""


def examples(number: int) -> int:
    """Return how many of ``number`` examples to try."""
    return number if THOROUGH else max(number // 4, 20)


def some(items: Sequence[T]) -> Sequence[T]:
    """Return all of ``items`` to go through, or every third."""
    return items if THOROUGH else items[::3]

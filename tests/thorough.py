# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples a slow property test takes: all in CI, a quarter where somebody waits for ``make check``."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("CI"))


def examples(number: int) -> int:
    """Return how many of ``number`` examples to try."""
    return number if THOROUGH else max(number // 4, 20)

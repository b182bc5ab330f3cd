# SPDX-License-Identifier: GPL-3.0-or-later
"""That something changed, and who waits for it: programs of this guest are told, instead of asking again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Changes:
    """Counts the changes of what programs may ask about.

    Attributes:
        count: Changes so far; 1 at first, so that 0 stands for whoever knows of none.
    """

    def __init__(self) -> None:
        self.count = 1
        self._condition = asyncio.Condition()

    async def tell(self) -> None:
        """Something changed."""
        self.count += 1
        async with self._condition:
            self._condition.notify_all()

    async def next(self, limit_s: float) -> None:
        """Return after the next change, or after ``limit_s``."""
        known = self.count
        await self.until(lambda: self.count != known, limit_s)

    async def until(self, holds: Callable[[], bool], limit_s: float) -> None:
        """Return when ``holds``, which is looked at after each change, or after ``limit_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s), self._condition:
                await self._condition.wait_for(holds)

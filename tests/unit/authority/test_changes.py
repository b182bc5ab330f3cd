# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits for a change hears of each, and waits no longer than he wants to."""

from __future__ import annotations

import asyncio

from ansible.module_utils.vouch.authority.changes import Changes


def test_each_change_is_counted_and_told() -> None:
    async def scenario() -> None:
        changes, seen = Changes(), []
        assert changes.count == 1

        async def wait(known: int) -> None:
            await changes.until(lambda: changes.count != known, 5)
            seen.append(changes.count)

        waiting = [asyncio.create_task(wait(1)) for _ in range(3)]
        await asyncio.sleep(0)
        await changes.tell()
        await asyncio.gather(*waiting)
        # Who knows of an older one does not wait at all.
        await asyncio.wait_for(wait(1), 1)
        assert seen == [2, 2, 2, 2]

    asyncio.run(scenario())


def test_nothing_changes() -> None:
    async def scenario() -> None:
        changes = Changes()
        await asyncio.wait_for(changes.until(lambda: False, 0.05), 5)
        # A change that is not the right one is none.
        waiting = asyncio.create_task(changes.until(lambda: changes.count == 3, 5))
        await asyncio.sleep(0)
        await changes.tell()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await changes.tell()
        await waiting

    asyncio.run(scenario())

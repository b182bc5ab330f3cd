# SPDX-License-Identifier: GPL-3.0-or-later
"""Two who want the same lock get the same one; one that nobody wants is gone."""

from __future__ import annotations

import asyncio

from ansible.module_utils.vouch.authority.locks import Locks


def test_one_lock_for_each_name_while_it_is_wanted() -> None:
    async def scenario() -> None:
        locks, order = Locks(), []

        async def hold(name: str, label: str) -> None:
            async with locks[name]:
                order.append(f"+{label}")
                await asyncio.sleep(0.01)
                order.append(f"-{label}")

        await asyncio.gather(hold("a", "1"), hold("a", "2"), hold("b", "3"))
        assert order.index("-1") < order.index("+2")
        assert order.index("+3") < order.index("-1")
        async with locks["a"]:
            assert len(locks) == 1
            assert locks["a"].locked()
        assert len(locks) == 0

    asyncio.run(scenario())

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watch costs over many hosts, and how soon a dead one's hosts are taken over.

The hosts are simulated: software keys sign evidence for each fresh nonce, in this process. Their own time, measured
in the thread that makes the evidence, is taken off; what is left is the watch's: asking, appraising, sealing,
writing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from .harness import ROOT, Measured, NotMeasuredError, at_most, row, use_tests

HOSTS = 2000
INTERVAL_S = 60
TAKEOVER_HOSTS = 50
TAKEOVER_INTERVAL_S = 5
LIMIT_S = 120
VIOLATIONS = 20


def _config(links: dict[str, Any], interval_s: int, *, subscribe: bool = False) -> Any:
    from ansible.module_utils.vouch.watch.config import read_config

    from watchparts import configuration

    hosts = [
        {"name": f"h{at}", "host_id": host_id, "address": "192.0.2.1", "port": 22, "user": "vouch"}
        for at, host_id in enumerate(links)
    ]
    changes = {"hosts": hosts, "interval_s": interval_s, "jitter_s": 0, "subscribe": subscribe, "capacity": len(hosts)}
    return read_config(json.dumps(configuration(**changes)).encode())


@row("watch.fleet", "cores", target=at_most(1.0), slow=True)
def fleet() -> Measured:
    """Measure the processor time of a watch over simulated hosts through one whole interval."""
    use_tests()
    from ansible.module_utils.vouch.store.schema import open_store
    from ansible.module_utils.vouch.watch.service import Watch

    from sim.attester import SimHost
    from watchparts import SimLink, parts_of

    lock, theirs = threading.Lock(), [0.0]

    class Timed(SimLink):
        def ask(self, *args: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return super().ask(*args, **named)
            finally:
                with lock:
                    theirs[0] += time.thread_time() - began

    links = {host.host_id: Timed(host) for host in (SimHost(seed=seed) for seed in range(1, HOSTS + 1))}
    with tempfile.TemporaryDirectory(prefix="vouch-bench.") as name:
        database = open_store(f"sqlite:///{name}/store.db", make=True)
        config = _config(links, INTERVAL_S)
        parts = parts_of(database, links, lease_s=config.lease_s)

        async def run() -> tuple[float, float, int]:
            stop = asyncio.Event()
            task = asyncio.create_task(Watch(config, parts).run(stop))
            await asyncio.sleep(INTERVAL_S + 10)  # Each was asked once: connections, keys and caches are warm.
            asked = sum(len(link.nonces) for link in links.values())
            began, off, wall = time.process_time(), theirs[0], time.perf_counter()
            await asyncio.sleep(INTERVAL_S)
            used = time.process_time() - began - (theirs[0] - off)
            wall_s = time.perf_counter() - wall
            done = sum(len(link.nonces) for link in links.values()) - asked
            stop.set()
            await task
            return used, wall_s, done

        used_s, wall_s, done = asyncio.run(run())
        database.close()
    if done < HOSTS * 0.95 * wall_s / INTERVAL_S:
        raise NotMeasuredError(f"only {done} hosts were asked in {wall_s:.0f} s")
    note = (
        f"{done} appraisals of {HOSTS} simulated hosts (software keys, fresh nonces) in {wall_s:.0f} s, SQLite, no SSH;"
        f" {used_s / done * 1000:.1f} ms each; headroom {wall_s / used_s:.1f}x"
    )
    return Measured(value=used_s / wall_s, note=note)


CHILD = """
import asyncio, sys
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1]]
from tests.bench.rows_fleet import watch_some
watch_some(sys.argv[2], sys.argv[3])
"""


def watch_some(url: str, owner: str) -> None:
    """Be one of two watch processes that share a store, until killed."""
    use_tests()
    from ansible.module_utils.vouch.store.schema import open_store
    from ansible.module_utils.vouch.watch.service import Watch

    from sim.attester import SimHost
    from watchparts import SimLink, parts_of

    links = {host.host_id: SimLink(host) for host in (SimHost(seed=seed) for seed in range(1, TAKEOVER_HOSTS + 1))}
    config = _config(links, TAKEOVER_INTERVAL_S)
    parts = parts_of(open_store(url), links, owner=owner, lease_s=config.lease_s)
    asyncio.run(Watch(config, parts).run(asyncio.Event()))


@row("watch.takeover", "intervals", target=at_most(2.0), slow=True)
def takeover() -> Measured:
    """Measure how long after kill -9 of a watch the last of its hosts is claimed by another one."""
    use_tests()
    from ansible.module_utils.vouch.store.database import Database
    from ansible.module_utils.vouch.store.schema import open_store
    from ansible.module_utils.vouch.store.tables import WATCHES
    from sqlalchemy import select

    from postgres_fixture import a_server

    def owners(database: Database) -> set[str]:
        with database.reading() as connection:
            return set(connection.execute(select(WATCHES.c.owner)).scalars())

    def wait(database: Database, wanted: set[str]) -> None:
        until_s = time.monotonic() + LIMIT_S
        while owners(database) != wanted:
            if time.monotonic() > until_s:
                raise NotMeasuredError(f"owners are {owners(database)}, not {wanted}")
            time.sleep(0.05)

    with a_server() as server, tempfile.TemporaryFile() as log:
        url = server.database()
        database = open_store(url, make=True)
        children = []
        try:
            for owner in ("first", "second"):
                command = [sys.executable, "-c", CHILD, str(ROOT), url, owner]
                children.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT))
                if owner == "first":
                    wait(database, {"first"})
            time.sleep(2 * TAKEOVER_INTERVAL_S)
            os.kill(children[0].pid, signal.SIGKILL)
            began = time.monotonic()
            wait(database, {"second"})
            took_s = time.monotonic() - began
        finally:
            for child in children:
                child.kill()
                child.wait()
            database.close()
    note = f"{TAKEOVER_HOSTS} simulated hosts, interval {TAKEOVER_INTERVAL_S} s; {took_s:.1f} s"
    return Measured(value=took_s / TAKEOVER_INTERVAL_S, note=note)


@row(
    "watch.group", "ms", target=at_most(110), baseline="Keylime's detection on a vTPM, 110 ms (published, not run here)"
)
def group() -> Measured:
    """Measure from the host's word of a violation until a reader of the store has the guest contraindicated."""
    use_tests()
    from ansible.module_utils.vouch.fleet.register import read_register
    from ansible.module_utils.vouch.store.results import ResultStore
    from ansible.module_utils.vouch.store.schema import open_store
    from ansible.module_utils.vouch.watch.service import Watch

    from sim.attester import SimHost
    from standingparts import PUBLIC
    from watchparts import SimLink, parts_of

    link = SimLink(SimHost(seed=1))
    links = {link.host.host_id: link}
    took: list[float] = []
    with tempfile.TemporaryDirectory(prefix="vouch-bench.") as name:
        database = open_store(f"sqlite:///{name}/store.db", make=True)
        store = ResultStore(database)
        config = _config(links, 1, subscribe=True)
        parts = parts_of(database, links, lease_s=config.lease_s)

        def seen(guest: str) -> bool:
            found = read_register(store, [PUBLIC]).guest("h0", guest)
            return found is not None and found.verdict.value == "contraindicated"

        async def run() -> None:
            stop = asyncio.Event()
            task = asyncio.create_task(Watch(config, parts).run(stop))
            while not link.nonces or link.told.qsize():
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)
            for number in range(VIOLATIONS):
                began = time.perf_counter()
                link.told.put({"event": "guest.violation", "guest": f"g{number}", "codes": "guest.text.changed"})
                while not await asyncio.to_thread(seen, f"g{number}"):
                    if time.perf_counter() - began > LIMIT_S:
                        raise NotMeasuredError("the violation never reached the store")
                    await asyncio.sleep(0.001)
                took.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.3)
            stop.set()
            await task

        asyncio.run(run())
        database.close()
    took.sort()
    note = (
        f"median of {VIOLATIONS}, worst {took[-1]:.0f} ms; SQLite; the host is simulated, so without its SSH connection"
    )
    return Measured(value=took[len(took) // 2], note=note)

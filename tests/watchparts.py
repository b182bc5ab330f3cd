# SPDX-License-Identifier: GPL-3.0-or-later
"""A watch for tests: simulated hosts behind links in memory, a real store."""

from __future__ import annotations

import asyncio
import datetime
import json
import queue
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from ansible.module_utils.vouch.appraise.standings import worth
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.fleet.appraiser import Appraiser
from ansible.module_utils.vouch.fleet.recorder import Recorder
from ansible.module_utils.vouch.fleet.register import read_register
from ansible.module_utils.vouch.make.sign import public_key
from ansible.module_utils.vouch.model.standing import Standing
from ansible.module_utils.vouch.port.clock import ManualClock, SystemClock
from ansible.module_utils.vouch.port.hostlink import Evidence
from ansible.module_utils.vouch.store.claims import ClaimStore, all_watched
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.events import EventStore
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments
from ansible.module_utils.vouch.watch.config import CONFIG_TYPE, WatchConfig, read_config
from ansible.module_utils.vouch.watch.desk import Desk
from ansible.module_utils.vouch.watch.metrics import Metrics
from ansible.module_utils.vouch.watch.service import Parts, Watch

from bundles import PACKAGE_KEY, SIGNED_PACKAGE
from sim.attester import NOW_S, SimAppraiser, SimHost
from standingparts import KEY, PUBLIC, host_id


def configuration(**changes: Any) -> dict[str, Any]:
    """Return a configuration as JSON."""
    hosts = [
        {"name": f"h{number}", "host_id": host_id(number), "address": "192.0.2.1", "port": 22, "user": "vouch"}
        for number in (1, 2)
    ]
    return {
        "type": CONFIG_TYPE,
        "store": "sqlite:///store.db",
        "enrolments": "sqlite:///store.db",
        "bundles": "",
        "appraiser_key": "/k.pem",
        "private_key": "/ssh",
        "interval_s": 60,
        "jitter_s": 10,
        "workers": 4,
        "capacity": 100,
        "subscribe": True,
        "releases": [],
        "image_store": "/store",
        "packages": [],
        "policy": {"name": "p"},
        "hosts": hosts,
        "hooks": [],
        "metrics": None,
        **changes,
    }


class SimLink:
    """A simulated host behind a link. What ``answer`` does instead of answering is each test's choice."""

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.nonces: list[bytes] = []
        self.offsets: list[int] = []
        self.answer: Callable[[bytes], bytes] = lambda nonce: self.host.evidence(nonce).to_bytes()
        self.channel_key = host.ssh_host_key
        self.told: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def ask(self, nonce: bytes, pcrs: Sequence[int], *, ima_offset: int) -> Evidence:
        """Return what ``answer`` gives."""
        self.nonces.append(nonce)
        self.offsets.append(ima_offset)
        self.host.ima_offset = ima_offset
        return Evidence(self.answer(nonce), self.channel_key)

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Yield what a test puts into ``told``; None ends it."""
        while (event := self.told.get()) is not None:
            yield event
        raise UnreachableError("the end", code="ssh.closed")

    def close(self) -> None:
        """Wake up whoever waits."""
        self.told.put(None)


class JumpyClock(ManualClock):
    """A clock at ``NOW_S`` that somebody sets while it runs."""

    def __init__(self) -> None:
        super().__init__(datetime.datetime.fromtimestamp(NOW_S, datetime.UTC))

    def jump(self, seconds: float) -> None:
        """Set the time of day; no time passes."""
        self._now += datetime.timedelta(seconds=seconds)


def silent(_nonce: bytes) -> bytes:
    """Be a host that does not answer."""
    raise UnreachableError("no route", code="ssh.connect")


def parts_of(
    database: Database, links: dict[str, SimLink], *, owner: str = "one", lease_s: int = 5, log: list[str] | None = None
) -> Parts:
    """Return the parts of a watch over simulated hosts, which are enrolled on the way."""
    any_host = next(iter(links.values())).host
    appraiser = SimAppraiser(host=any_host, policy_changes={"package_keys": (public_key(PACKAGE_KEY),)})
    hosts = [link.host for link in links.values()]
    releases = {host.release_id: (host.release.envelope, host.release.manifest) for host in hosts}
    enrolments = SqlEnrolments(database)
    for link in links.values():
        if enrolments.find(link.host.host_id) is None:
            enrolments.add(link.host.enrolment)
    claims = ClaimStore(database, owner, lease_s=lease_s)
    say = (log if log is not None else []).append
    return Parts(
        appraiser=Appraiser(appraiser.policy, releases, [SIGNED_PACKAGE]),
        enrolments=enrolments,
        claims=claims,
        desk=Desk(Recorder(database, KEY), enrolments, EventStore(database), claims, say),
        metrics=Metrics(),
        links=lambda host, _key: links[host.host_id],
        clock=SystemClock(),
        say=say,
    )


LIMIT_S = 60.0
"""Longer than anything here takes."""


class Field:
    """Two simulated hosts, a store, and watches over them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = open_store(url, make=True)
        self.links = {host.host_id: SimLink(host) for host in (SimHost(seed=1), SimHost(seed=2))}
        self.one, self.two = self.links.values()
        self.log: list[str] = []

    def config(self, **changes: Any) -> WatchConfig:
        hosts = [
            {"name": f"h{at}", "host_id": host_id, "address": "192.0.2.1", "port": 22, "user": "vouch"}
            for at, host_id in enumerate(self.links, start=1)
        ]
        return read_config(json.dumps(configuration(hosts=hosts, interval_s=1, jitter_s=0, **changes)).encode())

    def watch(self, owner: str = "one", *, database: Database | None = None, **changes: Any) -> Watch:
        config = self.config(**changes)
        parts = parts_of(database or self.database, self.links, owner=owner, lease_s=config.lease_s, log=self.log)
        self.metrics = parts.metrics
        return Watch(config, parts)

    def standing(self, name: str, guest: str = "") -> Standing | None:
        register = read_register(ResultStore(self.database), [PUBLIC])
        return register.guest(name, guest) if guest else register.host(name)

    def status(self, name: str, guest: str = "") -> str:
        return worth(self.standing(name, guest), now_s=int(time.time())).status

    def states(self) -> dict[str, str]:
        return {host_id: item.state for host_id, item in all_watched(self.database).items()}

    def events(self, link: SimLink) -> list[tuple[str, str]]:
        return [(event.kind, event.code) for event in EventStore(self.database).of_host(link.host.host_id)]


def run(*watches: Watch, then: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run watches while ``then`` runs, and stop them."""

    async def together() -> None:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(watch.run(stop)) for watch in watches]
        try:
            await then()
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    asyncio.run(together())


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    end_s = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end_s, what
        await asyncio.sleep(0.05)

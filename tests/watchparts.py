# SPDX-License-Identifier: GPL-3.0-or-later
"""A watch for tests: simulated hosts behind links in memory, a real store."""

from __future__ import annotations

import datetime
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.fleet.appraiser import Appraiser
from ansible.module_utils.vouch.fleet.recorder import Recorder
from ansible.module_utils.vouch.make.sign import public_key
from ansible.module_utils.vouch.port.clock import ManualClock, SystemClock
from ansible.module_utils.vouch.port.hostlink import Evidence
from ansible.module_utils.vouch.store.claims import ClaimStore
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.events import EventStore
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments
from ansible.module_utils.vouch.watch.config import CONFIG_TYPE
from ansible.module_utils.vouch.watch.desk import Desk
from ansible.module_utils.vouch.watch.metrics import Metrics
from ansible.module_utils.vouch.watch.service import Parts

from bundles import PACKAGE_KEY, SIGNED_PACKAGE
from sim.attester import NOW_S, SimAppraiser, SimHost
from standingparts import KEY, host_id


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

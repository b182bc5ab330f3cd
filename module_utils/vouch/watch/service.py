# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch: one loop that looks after many hosts.

::

    claims ──► a task per host: wait, ask with a fresh nonce, appraise ──► desk ──► store
                 ▲ woken at once                                             ▲
    a thread per subscription: what the host tells ──────────────────────────┘

The loop itself never waits for anything but time: asking, appraising, writing and hooks run in threads, each kind in
a pool of its own, so that a slow one does not hold up the others. When the process dies, what it wrote expires, and
its claims run out: another process takes its hosts over.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ..appraise.standings import worth
from ..errors import UnreachableError, VouchError
from ..fleet.appraiser import Appraiser
from ..model.enrolment import Enrolment
from ..port.clock import Clock
from ..port.hostlink import HostLink
from ..store.anyenrolments import Enrolments
from ..store.claims import ClaimStore, Watched
from ..store.events import Event
from . import hooks
from .asking import Asker
from .config import Hook, WatchConfig, WatchedHost
from .desk import Appraised, Desk, Note
from .metrics import Metrics
from .pushed import read_violation
from .schedule import Schedule
from .ward import Change, Ward

WRITE_EVERY_S = 1.0
TICK_EVERY_S = 1.0
STORE_PAUSE_S = 5.0
RESUBSCRIBE_S = 5.0
PAUSE_S = 1.0
"""Between two questions to one host. A violation counts from the next second on: an answer before that is no news."""

CLAIMS_PER_LEASE = 4
HOOK_THREADS = 4

T = TypeVar("T")

LinkMaker = Callable[[WatchedHost, str], HostLink]
"""Host and its SSH host key to a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a watch works with.

    Attributes:
        appraiser: Judges.
        enrolments: What is known of the hosts.
        claims: Who watches what.
        desk: Writes.
        metrics: Counts.
        links: Makes the connection to a host.
        clock: Time and chance.
        say: Takes a line for the log.
    """

    appraiser: Appraiser
    enrolments: Enrolments
    claims: ClaimStore
    desk: Desk
    metrics: Metrics
    links: LinkMaker
    clock: Clock
    say: Callable[[str], None]


class _Care:
    """One host that is looked after, with what runs for it."""

    def __init__(self, ward: Ward) -> None:
        self.ward = ward
        self.wake = asyncio.Event()
        self.ended = threading.Event()
        self.link: HostLink | None = None
        self.host_key = ""
        self.task: asyncio.Task[None] | None = None
        self.listener: threading.Thread | None = None


class Watch:
    """Looks after the hosts of a configuration until it is told to stop."""

    def __init__(self, config: WatchConfig, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._hosts = {host.host_id: host for host in config.hosts}
        self._schedule = Schedule(interval_s=config.interval_s, jitter_s=config.jitter_s)
        self._cares: dict[str, _Care] = {}
        self._asking = ThreadPoolExecutor(config.workers, thread_name_prefix="ask")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._hooking = ThreadPoolExecutor(HOOK_THREADS, thread_name_prefix="hook")
        self._hook_tasks: set[asyncio.Task[None]] = set()
        self._write_now = asyncio.Event()
        self._asker = Asker(parts.appraiser, parts.enrolments, parts.clock)
        self._our_fault = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until ``stop`` is set; then write what waits and give the claims back.

        Anything unforeseen ends the whole process: its supervisor starts it again, and meanwhile its hosts are taken
        over or expire. A watch that goes on with one host forgotten would be worse.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in (self._claim(group), self._write(), self._tick())]
                await stop.wait()
                for task in (*tasks, *(care.task for care in self._cares.values() if care.task)):
                    task.cancel()
        finally:
            await self._end()

    # Claims

    async def _claim(self, group: asyncio.TaskGroup) -> None:
        claims, registered = self._parts.claims, False
        while True:
            try:
                now_s = self._now_s()
                if not registered:
                    await self._in(self._writing, claims.register, self._hosts, now_s=now_s)
                    registered = True
                held = await self._in(self._writing, claims.renew, now_s=now_s)
                for host_id in set(self._cares) - set(held):
                    self._drop(host_id)
                await self._take(group, [item for item in held.values() if item.host_id not in self._cares])
            except UnreachableError as error:
                self._parts.say(f"claims: {error}")
            await asyncio.sleep(max(0.2, self._config.lease_s / CLAIMS_PER_LEASE))

    async def _take(self, group: asyncio.TaskGroup, held: Iterable[Watched]) -> None:
        """Look after what is held and was not looked after, and after what can be had beside it."""
        free = [host_id for host_id in self._hosts if host_id not in self._cares]
        room = self._config.capacity - len(self._cares)
        taken = list(held)
        if free and room > len(taken):
            claim = self._parts.claims.take
            taken += await self._in(self._writing, claim, free, limit=room - len(taken), now_s=self._now_s())
        for watched in taken:
            host = self._hosts.get(watched.host_id)
            if host is None or watched.host_id in self._cares:
                continue
            care = _Care(Ward(host, known=watched.state, since_s=watched.state_since_s, now_s=self._now_s()))
            self._cares[host.host_id] = care
            care.task = group.create_task(self._look_after(care))

    def _drop(self, host_id: str) -> None:
        """Stop to look after a host that somebody else has taken over."""
        care = self._cares.pop(host_id)
        self._parts.say(f"{care.ward.host.name}: looked after elsewhere")
        if care.task is not None:
            care.task.cancel()
        self._hang_up(care)
        with contextlib.suppress(KeyError):
            self._parts.metrics.forget(care.ward.host.name)

    # One host

    async def _look_after(self, care: _Care) -> None:
        delay_s, asked_s = self._schedule.first_s(self._chance()), 0.0
        while True:
            await wait(care.wake, delay_s)
            # However much a host tells, it is not asked more often than this.
            await asyncio.sleep(max(0.0, asked_s + PAUSE_S - self._parts.clock.monotonic_s()))
            care.wake.clear()
            asked_s = self._parts.clock.monotonic_s()
            if not await self._attest(care):
                delay_s = min(STORE_PAUSE_S, self._config.interval_s)
                continue
            delay_s = self._schedule.next_s(self._chance(), failures=care.ward.failures)
            state = care.ward.state
            due_at_s = self._now_s() + int(delay_s)
            self._parts.desk.put_note(Note(care.ward.host.host_id, state.state, state.since_s, due_at_s))

    async def _attest(self, care: _Care) -> bool:
        """Ask one host, and take what comes of it; False: nothing did, because of us."""
        clock, host = self._parts.clock, care.ward.host
        began_s = clock.monotonic_s()
        try:
            appraisal, before = await self._in(
                self._asking, self._asker.ask, host, functools.partial(self._connect, care)
            )
        except UnreachableError as error:
            self._parts.metrics.unasked()
            if error.code != self._our_fault:
                self._parts.say(f"{error}; nothing is said about hosts meanwhile")
            self._our_fault = error.code
            return False
        self._our_fault = ""
        mono_s = clock.monotonic_s()
        self._tell(care.ward.appraised(appraisal, before, now_s=self._now_s(), mono_s=mono_s))
        self._parts.desk.put(Appraised(host.name, appraisal, before))
        result = appraisal.result
        self._parts.metrics.appraised(
            host.name, result.verdict, expires_at_s=result.expires_at_s, took_s=mono_s - began_s
        )
        self._count_guests(care)
        if self._config.subscribe and before is not None and (care.listener is None or not care.listener.is_alive()):
            self._listen(care)
        return True

    def _connect(self, care: _Care, known: Enrolment) -> HostLink:
        if care.link is None or care.host_key != known.ssh_host_key:
            if care.link is not None:  # The host was installed and enrolled again.
                care.link.close()
            care.link = self._parts.links(care.ward.host, known.ssh_host_key)
            care.host_key = known.ssh_host_key
        return care.link

    # What hosts tell

    def _listen(self, care: _Care) -> None:
        loop = asyncio.get_running_loop()
        care.listener = threading.Thread(
            target=self._subscribe, args=(care, loop), name=f"listen-{care.ward.host.name}", daemon=True
        )
        care.listener.start()

    def _subscribe(self, care: _Care, loop: asyncio.AbstractEventLoop) -> None:
        """Hand on what a host tells; runs in a thread of its own until the host is dropped."""
        while not care.ended.is_set() and care.link is not None:
            heard = False
            try:
                for event in care.link.events():
                    heard = True
                    if care.ended.is_set():
                        return
                    if event is not None and not _hand(loop, self._told, care, dict(event)):
                        return
            except VouchError:
                # That the host went away is for a question to find at once; that it is still away, in its time.
                if heard and not _hand(loop, care.wake.set):
                    return
            care.ended.wait(RESUBSCRIBE_S)

    def _told(self, care: _Care, event: dict[str, object]) -> None:
        violation = read_violation(event)
        if violation is None or care.ended.is_set():
            return
        if not care.ward.knows(violation.guest):
            self._parts.metrics.stranger()
            if care.ward.stranger():
                self._parts.say(f"{care.ward.host.name}: told of a guest that its evidence does not have: asked again")
                care.wake.set()
            return
        standing, changes = care.ward.pushed(violation, now_s=self._now_s(), ttl_s=self._parts.appraiser.policy.ttl_s)
        if standing is None:
            return
        self._parts.metrics.violation()
        self._parts.desk.put_pushed(standing)
        self._write_now.set()
        self._tell(changes)
        self._count_guests(care)
        care.wake.set()

    def _hang_up(self, care: _Care) -> None:
        care.ended.set()
        if care.link is not None:
            self._asking.submit(care.link.close)

    # The store, the time, the hooks

    async def _write(self) -> None:
        desk, metrics = self._parts.desk, self._parts.metrics
        while True:
            await wait(self._write_now, WRITE_EVERY_S)
            self._write_now.clear()
            try:
                if await self._in(self._writing, desk.write, now_s=self._now_s()):
                    metrics.wrote(now_s=self._now_s(), waiting=desk.waiting)
            except UnreachableError as error:
                metrics.write_failed(waiting=desk.waiting)
                self._parts.say(f"store: {error}; {desk.waiting} results wait")
                await asyncio.sleep(STORE_PAUSE_S)

    async def _tick(self) -> None:
        while True:
            now_s, mono_s = self._now_s(), self._parts.clock.monotonic_s()
            for care in self._cares.values():
                self._tell(care.ward.tick(now_s=now_s, mono_s=mono_s))
            self._parts.metrics.states([care.ward.state.state for care in self._cares.values()])
            await asyncio.sleep(TICK_EVERY_S)

    def _tell(self, changes: Iterable[Change]) -> None:
        """Have changes written as events, and tell the hooks of each."""
        for change in changes:
            if change.kind == "state":
                detail = f"{change.before or 'unknown'} became {change.after}"
                event = Event(change.at_s, change.host_id, change.subject, "state", change.after, detail)
                self._parts.desk.put_events([event])
            self._parts.say(
                f"{change.name} {change.subject}: {change.kind} {change.before or 'unknown'} became {change.after}"
                f"{' for ' + ', '.join(change.reasons) if change.reasons else ''}"
            )
            for hook in self._config.hooks:
                task = asyncio.get_running_loop().create_task(self._hook(hook, change))
                self._hook_tasks.add(task)
                task.add_done_callback(self._hook_tasks.discard)

    async def _hook(self, hook: Hook, change: Change) -> None:
        try:
            await self._in(self._hooking, hooks.call, hook, change.to_json())
        except UnreachableError as error:
            self._parts.metrics.hook_failed()
            self._parts.say(str(error))
            event = Event(self._now_s(), change.host_id, change.subject, "hook", error.code, error.message)
            self._parts.desk.put_events([event])

    def _count_guests(self, care: _Care) -> None:
        now_s = self._now_s()
        found = [worth(item, now_s=now_s).status for item in care.ward.standings if item.guest]
        self._parts.metrics.guests(care.ward.host.name, found)

    async def _end(self) -> None:
        for care in self._cares.values():
            self._hang_up(care)
        if self._hook_tasks:
            await asyncio.wait(self._hook_tasks, timeout=10)
        try:
            await self._in(self._writing, self._parts.desk.write, now_s=self._now_s())
            await self._in(self._writing, self._parts.claims.release)
        except UnreachableError as error:
            self._parts.say(f"store: {error}; {self._parts.desk.waiting} results are lost")
        for pool in (self._asking, self._writing, self._hooking):
            pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[..., T], *args: object, **named: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, lambda: work(*args, **named))

    def _now_s(self) -> int:
        return int(self._parts.clock.now().timestamp())

    def _chance(self) -> float:
        return int.from_bytes(self._parts.clock.random_bytes(4), "big") / 2**32


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so long. ``asyncio.wait_for`` would swallow a cancellation now and then (gh-86296)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _hand(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *args: object) -> bool:
    """Have the loop do something; say whether it still runs."""
    try:
        loop.call_soon_threadsafe(work, *args)
    except RuntimeError:
        return False
    return True

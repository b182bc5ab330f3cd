# SPDX-License-Identifier: GPL-3.0-or-later
"""No sequence of events makes a host affirming without fresh evidence for a nonce of its own."""

from __future__ import annotations

import re
import tempfile
from typing import Any

from ansible.module_utils.vouch.appraise.standings import CLOCK_SKEW_S, worth
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.fleet.appraiser import Answer, Appraiser
from ansible.module_utils.vouch.fleet.recorder import Found, Recorder
from ansible.module_utils.vouch.fleet.register import read_register
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.watch.config import WatchedHost
from ansible.module_utils.vouch.watch.pushed import PushedViolation
from ansible.module_utils.vouch.watch.ward import Ward
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bundles import launch
from sim.attester import NOW_S, TTL_S, SimAppraiser, SimHost
from standingparts import KEY, PUBLIC
from thorough import THOROUGH

HOSTS = {"a": SimHost(seed=11), "b": SimHost(seed=12)}
for _host in HOSTS.values():
    launch(_host)  # A guest whose package nobody has: its host knows it, and it is never affirming.
names = st.sampled_from(sorted(HOSTS))


class Watching(RuleBasedStateMachine):
    """Two hosts, an appraiser, a store; answers as the worst network would deliver them."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = open_store(f"sqlite:///{self.folder.name}/store.db", make=True)
        self.recorder = Recorder(self.database, KEY)
        sims = [SimAppraiser(host=host) for host in HOSTS.values()]
        releases = {host.release_id: (host.release.envelope, host.release.manifest) for host in HOSTS.values()}
        self.appraiser = Appraiser(sims[0].policy, releases)
        self.now_s, self.count = NOW_S, 0
        self.enrolments: dict[str, Enrolment] = {name: host.enrolment for name, host in HOSTS.items()}
        self.wards = {name: self._ward(name) for name in HOSTS}
        self.answers: list[tuple[str, bytes, bytes]] = []
        self.good: dict[str, list[int]] = {name: [] for name in HOSTS}

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def _ward(self, name: str) -> Ward:
        host = HOSTS[name]
        watched = WatchedHost(name=name, host_id=host.host_id, address="x", port=22, user="vouch")
        return Ward(watched, now_s=self.now_s)

    def _nonce(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(32, "big")

    def _take(self, name: str, answer: Answer | UnreachableError) -> Any:
        host = HOSTS[name]
        before = self.enrolments[name]
        try:
            appraisal = self.appraiser.appraise(host.host_id, answer, before, now_s=self.now_s)
        except UsageError:
            return None
        self.wards[name].appraised(appraisal, before, now_s=self.now_s, mono_s=0.0)
        if appraisal.enrolment is not None:
            self.enrolments[name] = appraisal.enrolment
        self.recorder.record([Found(name=name, result=appraisal.result)], now_s=self.now_s)
        return appraisal.result

    def _answer(self, name: str, nonce: bytes, data: bytes, asked_at_s: int) -> Answer:
        return Answer(evidence=data, nonce=nonce, channel_key=HOSTS[name].ssh_host_key, asked_at_s=asked_at_s)

    @rule(name=names, delay_s=st.integers(0, 100))
    def answers_well(self, name: str, delay_s: int) -> None:
        nonce, host = self._nonce(), HOSTS[name]
        resume = self.enrolments[name].ima
        host.ima_offset = resume.offset_bytes if resume is not None else 0
        data = host.evidence(nonce).to_bytes()
        asked_at_s = self.now_s
        self.now_s += delay_s
        self.answers.append((name, nonce, data))
        result = self._take(name, self._answer(name, nonce, data, asked_at_s))
        if result is not None and result.verdict is Verdict.AFFIRMING:
            self.good[name].append(asked_at_s)

    @rule(name=names, data=st.data())
    def replays(self, name: str, data: st.DataObject) -> None:
        """An old answer, of this host or the other, for a nonce that was made just now."""
        if self.answers:
            _, _, old = data.draw(st.sampled_from(self.answers))
            result = self._take(name, self._answer(name, self._nonce(), old, self.now_s))
            assert result.verdict is Verdict.CONTRAINDICATED

    @rule(name=names, data=st.data())
    def relays(self, name: str, data: st.DataObject) -> None:
        """The other host's fresh answer to our nonce."""
        other = next(item for item in HOSTS if item != name)
        nonce = self._nonce()
        result = self._take(name, self._answer(name, nonce, HOSTS[other].evidence(nonce).to_bytes(), self.now_s))
        assert result.verdict is Verdict.CONTRAINDICATED

    @rule(name=names, at=st.integers(0, 10**6), bit=st.integers(0, 7))
    def answers_falsely(self, name: str, at: int, bit: int) -> None:
        nonce = self._nonce()
        data = bytearray(HOSTS[name].evidence(nonce).to_bytes())
        at %= len(data)
        # The installer's event log and IMA's list carry digests of other banks beside the ones that are looked at. Not
        # hypothesis' assume: an answer's length varies with its signatures, and what a test draws may not hang on that.
        *_, log = re.finditer(rb'"event_log":"[^"]*"', data)
        (measured,) = re.finditer(rb'"ima":{"log":"[^"]*"', data)
        at = next((part.end() for part in (log, measured) if part.start() <= at < part.end()), at)
        data[at] ^= 1 << bit
        result = self._take(name, self._answer(name, nonce, bytes(data), self.now_s))
        assert result.verdict is Verdict.CONTRAINDICATED

    @rule(name=names)
    def is_silent(self, name: str) -> None:
        self._take(name, UnreachableError("no route", code="ssh.connect"))

    @rule(name=names)
    def tells_of_a_violation(self, name: str) -> None:
        told, _ = self.wards[name].pushed(PushedViolation("web", ("guest.text.changed",)), now_s=self.now_s, ttl_s=60)
        if told is not None:
            self.recorder.record_standings([told], now_s=self.now_s)

    @rule(seconds=st.integers(-5000, 5000))
    def the_clock_moves(self, seconds: int) -> None:
        self.now_s = max(1, self.now_s + seconds)

    @rule(name=names)
    def the_watch_starts_again(self, name: str) -> None:
        self.wards[name] = self._ward(name)

    @invariant()
    def affirming_means_fresh(self) -> None:
        if not hasattr(self, "database"):
            return
        register = read_register(ResultStore(self.database), [PUBLIC])
        for name in HOSTS:
            if worth(register.host(name), now_s=self.now_s).status == "affirming":
                assert any(at_s - CLOCK_SKEW_S <= self.now_s < at_s + TTL_S for at_s in self.good[name])
            assert worth(register.guest(name, "web"), now_s=self.now_s).status != "affirming"


Watching.TestCase.settings = settings(max_examples=25 if THOROUGH else 8, stateful_step_count=12, deadline=None)
TestWatching = Watching.TestCase

# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests watched as the VM verifier does it, with attacks at moments that nobody planned: how long each round took,
and how long it was from the change in memory to the guest that stands still.

Runs in dom0 beside ``guest_attacks.py``, whose attack on SELinux's enforcing flag it uses; each guest is watched by a
process of its own. After each attack memory is put back and the guest goes on. One JSON object a line:

    running, pid                       the domain is up and explained; of this program
    round, seconds, pause_s, cpu_s     one light round of the domain while nobody attacks it
    attack, seconds, codes             from the change to the standing domain

With ``forever`` as SECONDS the guests are watched until this program is ended, and nothing is attacked; SIGUSR1 has the
watchers rest between two rounds, SIGUSR2 has them go on.

usage: guest_watch.py SECONDS|forever ATTACKS PROFILE POLICY DOMAIN...
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from guest_attacks import BOOT_LIMIT_S, PV, RUNNING, STEPS, Budget, Target, enforcing, told

PERIOD_S = 1.0
"""Between the end of a round and the begin of the next: ``light_s`` of a host's configuration."""

ATTACK_LIMIT_S = 300.0
SEED = 2009


class Watcher:
    """The process that watches one guest, as its parent sees it."""

    def __init__(self, domain: int, profile: Path, policy: Path) -> None:
        self.domain = domain
        self._said, said = os.pipe()
        go, self._go = os.pipe()
        self._buffer = b""
        self.pid = os.fork()
        if self.pid == 0:
            watch(domain, profile, policy, said, go)
        os.close(said)
        os.close(go)

    def lines(self, limit_s: float) -> Iterator[dict[str, Any]]:
        """Yield what it says within a time."""
        until_s = time.monotonic() + limit_s
        while True:
            while b"\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\n", 1)
                yield json.loads(line)
            ready, _, _ = select.select([self._said], [], [], max(until_s - time.monotonic(), 0))
            if not ready:
                return
            data = os.read(self._said, 65536)
            if not data:
                sys.exit(f"domain {self.domain} is watched by nobody any more")
            self._buffer += data

    def go_on(self) -> None:
        """Have it take back its pause."""
        os.write(self._go, b".")

    def end(self) -> None:
        """Return when it is gone; the guest goes on."""
        self.go_on()
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)


def watch(domain: int, profile: Path, policy: Path, said: int, go: int) -> NoReturn:
    """Check in turn, as ``daemon.watcher`` does, and hold the guest when something is found."""
    resting = ending = False

    def rest(number: int, _: object) -> None:
        nonlocal resting, ending
        resting, ending = number == signal.SIGUSR1, number == signal.SIGTERM

    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, rest)
    target = Target(domain, PV, profile, policy)
    phase = ""
    # Never ended in the middle of a round, which would leave the guest standing.
    while not ending:
        if resting:
            time.sleep(PERIOD_S)
            continue
        cpu_s = time.process_time()
        report = target.measurer.light()
        if report.violations:
            target.memory.pause()
            codes = [finding.code for finding in report.violations]
            say(said, paused_at_s=target.memory.paused_at_s or time.monotonic(), codes=codes)
            os.read(go, 1)
            target.memory.let_go()
        elif report.phase != phase:
            phase = report.phase
            say(said, phase=phase)
        elif phase == RUNNING:
            say(said, seconds=report.seconds, pause_s=report.pause_s, cpu_s=time.process_time() - cpu_s)
        time.sleep(PERIOD_S)
    target.memory.let_go()
    os._exit(0)


def hand_on(watchers: list[Watcher]) -> NoReturn:
    """Give signals to the watchers, and take no notice of what they say, until this program is ended."""
    wanted = {signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    while True:
        number = signal.sigtimedwait(wanted, PERIOD_S)
        for watcher in watchers:
            if number is not None:
                os.kill(watcher.pid, number.si_signo)
            for _ in watcher.lines(0):
                pass


def say(stream: int, **members: Any) -> None:
    """Write one line to the parent."""
    os.write(stream, (json.dumps(members) + "\n").encode())


def opened(domain: int, profile: Path, policy: Path) -> Target:
    """Return a guest that runs, as an attacker sees it."""
    target = Target(domain, PV, profile, policy)
    root = (target.memory.vcpus()[0].cr3 & 0x000F_FFFF_FFFF_F000) >> 12
    target.measurer._kernel = target.measurer._open(root, Budget(STEPS, float("inf"), time.monotonic))
    return target


def attack(watcher: Watcher, target: Target) -> None:
    """Have the guest's SELinux enforce nothing, and tell how long that lasted."""
    # Looked up before, so that the clock runs for the watcher alone.
    with enforcing(target):
        changed_s = time.monotonic()
        for line in watcher.lines(ATTACK_LIMIT_S):
            if "paused_at_s" in line:
                told(attack=watcher.domain, seconds=line["paused_at_s"] - changed_s, codes=line["codes"])
                break
        else:
            sys.exit(f"domain {watcher.domain}: an attack was not noticed")
    watcher.go_on()


def main() -> None:
    """Run the program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    seconds, attacks, profile, policy = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    watchers = [Watcher(int(domain), profile, policy) for domain in sys.argv[5:]]
    try:
        for watcher in watchers:
            if not any(line.get("phase") == RUNNING for line in watcher.lines(BOOT_LIMIT_S)):
                sys.exit(f"domain {watcher.domain} did not come up")
            told(running=watcher.domain, pid=os.getpid())
        if seconds == "forever":
            hand_on(watchers)
        time.sleep(float(seconds))
        for watcher in watchers:
            for line in watcher.lines(0):
                if "cpu_s" in line:
                    told(round=watcher.domain, **line)
        chance = random.Random(SEED)
        targets = [opened(watcher.domain, profile, policy) for watcher in watchers]
        for number in range(attacks):
            # At any moment between two rounds.
            time.sleep(1 + chance.random())
            attack(watchers[number % len(watchers)], targets[number % len(watchers)])
    finally:
        for watcher in watchers:
            watcher.end()


if __name__ == "__main__":
    main()

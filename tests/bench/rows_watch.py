# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that are watched: how soon an attack is noticed, what watching takes from a guest, what a launch takes longer.

All on one debug host of the lab, with the VM verifier's own code in its dom0.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import shlex
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .harness import ROOT, Measured, at_most, row
from .rows_guest import BOOT_LIMIT_S, GUEST, HOST, build, domain_of, free_port, host

if TYPE_CHECKING:
    from xen_guests import XenHost

COMPILER = "distcc_node"
SHARED = ROOT / "molecule" / "shared"
COUNTS = (1, 2, 4)
ATTACKS = 50
QUIET_S = 60
PAIRS = 5
LAUNCHES = 3
JOB_LIMIT_S = 300
FUNCTIONS = 2500
ROUND_LIMIT_S = 1200
HOST_MEMORY_MB = 4608
"""For dom0 and four guests."""


FOLDER = tempfile.TemporaryDirectory(prefix="vouch-")


@functools.cache
def state() -> pathlib.Path:
    """Return the folder in which host and guests were built; it is gone when Python ends."""
    folder = pathlib.Path(FOLDER.name)
    build(folder, "watched_guests.yml", GUEST, COMPILER)
    return folder


@functools.cache
def watched() -> Mapping[int, Sequence[Mapping[str, Any]]]:
    """Return what ``guest_watch.py`` told, by the number of guests that ran."""
    from xen_guests import GUESTS

    told = {}
    with host(state(), [state() / "vouch" / "output" / GUEST], HOST_MEMORY_MB) as dom0, contextlib.ExitStack() as stack:
        push_programs(dom0)
        started = 0
        for count in COUNTS:
            for number in range(started, count):
                folder = f"{GUESTS}/{GUEST}"
                dom0.run(f"cp {folder}/root.img {folder}/root-{number}.img")
                domain = domain_of(state(), GUEST, f"{GUEST}-{number}")
                guest = stack.enter_context(dom0.guest(replace(domain, image=f"{folder}/root-{number}.img")))
                guest.wait_for(f"vouch-guest: ready {GUEST}\n", BOOT_LIMIT_S)
            started = count
            domains = [dom0.run(f"xl domid {GUEST}-{number}").strip() for number in range(count)]
            files = [f"{GUESTS}/{GUEST}/profile", f"{GUESTS}/{GUEST}/policy"]
            argv = ["python3.13", "-ISB", "/run/guest_watch.py", str(QUIET_S), str(ATTACKS), *files, *domains]
            lines = dom0.run(shlex.join(argv), timeout_s=ROUND_LIMIT_S).splitlines()
            told[count] = [json.loads(line) for line in lines]
    return told


def push_programs(dom0: XenHost) -> None:
    """Put the programs into dom0."""
    for name in ("guest_attacks.py", "guest_watch.py", "distcc_client.py"):
        dom0.run(f"cat > /run/{name}", stdin=(SHARED / name).read_bytes())


def pause(count: int) -> Measured:
    """From a change of SELinux's enforcing flag to the guest that stands still; the worst of all attacks."""
    seconds = [line["seconds"] for line in watched()[count] if "attack" in line]
    note = f"worst of {len(seconds)} attacks at moments of chance, median {statistics.median(seconds):.2f} s"
    return Measured(value=max(seconds), note=f"{note}; 1 s between two rounds")


def light(count: int) -> Measured:
    """One light round of one guest: dom0's processor time, as the median."""
    lines = [line for line in watched()[count] if "round" in line]
    typical = statistics.median(line["cpu_s"] for line in lines) * 1000
    still = statistics.median(line["pause_s"] for line in lines) * 1000
    note = f"median of {len(lines)}; the guest stands still {still:.0f} ms of it"
    return Measured(value=typical, note=note)


for number in COUNTS:
    row(f"watch.pause.{number}", "s", target=at_most(1.5), slow=True)(functools.partial(pause, number))
    row(f"watch.light.{number}", "ms", slow=True)(functools.partial(light, number))


@row("watch.compile", "s", baseline="the same job in the same guest while nobody watches it", slow=True)
def compile_job() -> Measured:
    """A compile job in ``distcc_node``, watched and not in turn; medians. dom0 has the guest's processor too."""
    from xen_guests import GUESTS

    domain = domain_of(state(), COMPILER)
    files = [f"{GUESTS}/{COMPILER}/profile", f"{GUESTS}/{COMPILER}/policy"]
    on: list[float] = []
    off: list[float] = []
    with host(state(), [state() / "vouch" / "output" / COMPILER]) as dom0, dom0.guest(domain) as guest:
        push_programs(dom0)
        guest.wait_for(f"vouch-guest: ready {COMPILER}\n", BOOT_LIMIT_S)
        guest.wait_for_network(BOOT_LIMIT_S)
        number = dom0.run(f"xl domid {COMPILER}").strip()
        argv = shlex.join(["python3.13", "-ISB", "/run/guest_watch.py", "forever", "0", *files, number])
        with watching(dom0, argv) as pid:
            for _ in range(PAIRS):
                dom0.run(f"kill -USR2 {pid}; sleep 3")
                on.append(job(dom0))
                dom0.run(f"kill -USR1 {pid}; sleep 3")
                off.append(job(dom0))
    baseline = statistics.median(off)
    note = f"{PAIRS} pairs; watched {spread(on)}, not watched {spread(off)}; target: 2 % more"
    return Measured(value=statistics.median(on), baseline_value=baseline, target=at_most(1.02 * baseline), note=note)


@contextlib.contextmanager
def watching(dom0: XenHost, command: str) -> Iterator[int]:
    """Run ``guest_watch.py`` beside the block; gives its process id once the guest is explained."""
    process = dom0.open(command)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        pid = int(json.loads(said)["pid"])
        yield pid
        dom0.run(f"kill {pid}")
    finally:
        process.kill()
        process.wait()


def job(dom0: XenHost) -> float:
    """Return the seconds of one compile job, as dom0's own clock has them."""
    source = "".join(
        f"int f{n}(int a, int b) {{ return a % (b + {n}) + a / (b + 7) * {n}; }}\n" for n in range(FUNCTIONS)
    )
    from xen_guests import ADDRESS

    argv = ["python3.13", "-I", "/run/distcc_client.py", ADDRESS, "3632", str(JOB_LIMIT_S)]
    argv += ["gcc", "-O2", "-c", "job.i", "-o", "job.o"]
    command = (
        f"begin=$(date +%s.%N); {shlex.join(argv)} > /run/answer; date +%s.%N; echo $begin; head -c 12 /run/answer"
    )
    end, begin, answer = dom0.run(command, stdin=source.encode(), timeout_s=2 * JOB_LIMIT_S).splitlines()
    if answer != '{"status": 0':
        raise RuntimeError(f"the compiler failed: {answer}")
    return float(end) - float(begin)


def spread(seconds: Sequence[float]) -> str:
    """Return the least and the most."""
    return f"{min(seconds):.1f}-{max(seconds):.1f} s"


@row("launch.checked", "s", baseline="xl create of the same files on the same host", slow=True)
def launch() -> Measured:
    """From the order to the release of ``base``, its files already on the host, and plain ``xl create``, in turn."""
    from verified_host import VerifiedHost

    from vouch.lab.storecontrol import StoreProcess, StoreSpec

    ours: list[dict[str, int]] = []
    plain: list[float] = []
    output = state() / "vouch" / "output" / GUEST
    store = StoreProcess(state() / "lab")
    port = free_port()
    store.start(StoreSpec(folder=str(state() / "vouch" / "store"), port=port))
    try:
        with host(state(), [output]) as dom0:
            verified = VerifiedHost(
                dom0,
                port=dom0.port,
                host_id=str(uuid.uuid5(uuid.NAMESPACE_DNS, HOST)),
                host_key=(state() / "known_hosts").read_text().split(" ", 1)[1].strip(),
                state=state() / "vouch",
                store=f"http://10.0.2.2:{port}",
            )
            for number in range(LAUNCHES + 1):
                with dom0.guest(domain_of(state(), GUEST)) as guest:
                    plain.append(guest.created_in_s)
                answer = verified.start(GUEST, GUEST, "pv")
                verified.order("stop", GUEST)
                if number:
                    # The first one fetches the files and proves the policy.
                    ours.append({name: spent for name, spent in answer["milliseconds"].items() if name != "firewall"})
                time.sleep(1)
    finally:
        store.stop()
    whole = statistics.median(sum(item.values()) for item in ours) / 1000
    baseline = statistics.median(plain)
    parts = ", ".join(f"{name} {statistics.median(item[name] for item in ours):.0f}" for name in ours[0])
    note = f"{LAUNCHES} launches after the first; ms: {parts}; target: 1 s more"
    return Measured(value=whole, baseline_value=baseline, target=at_most(baseline + 1), note=note)

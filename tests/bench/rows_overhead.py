# SPDX-License-Identifier: GPL-3.0-or-later
"""What all of it costs a build: real guests of the lab with everything on, and with all of it off, in turn.

On is what molecule scenario ``distcc`` has, with a larger project: guests with SELinux and verity, that are watched,
prove themselves to each other, speak ESP, and sign what they compile. Off is a domain of the same kernel, compiler and
size with none of that, in which a shell is all there is (``plain_controller.sh``, ``plain_node.sh``). All of them stand
on one host; who has no part in a build waits, and takes no processor.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from .harness import ROOT, Measured, NotMeasuredError, at_most, row

if TYPE_CHECKING:
    from verified_host import VerifiedHost
    from xen_guests import Guest, XenHost

    from vouch.model.package import GuestPackage

SCENARIO = ROOT / "molecule" / "distcc"
SETTINGS = ROOT / "tests" / "bench" / "farm.yml"
HOST = "dh1"
CONTROLLER, NODES = "controller", ("node-a", "node-b")
CONTROLLER_IMAGE, NODE_IMAGE = "distcc_controller-debug", "distcc_node-debug"
KIND = "pvh"
VERIFIER = "vouch-verifier.service"
PAIRS = int(os.environ.get("VOUCH_BENCH_PAIRS", "5"))
UNWATCHED_PAIRS = int(os.environ.get("VOUCH_BENCH_UNWATCHED", PAIRS // 2))
PLAYBOOK_LIMIT_S = 3600
BUILD_LIMIT_S = 1800
READY_LIMIT_S = 300
MADE = re.compile(r"made in ([\d.]+) s")
SEALED = re.compile(r"sealed in ([\d.]+) s")
END = re.compile(r"vouch-build: (?:done (\d+) ([0-9a-f]{64})|failed (\S+))")
PLAIN_END = re.compile(r"plain: code (\d+) from ([\d.]+) to ([\d.]+) objects (\d+)")


def setting(name: str) -> Any:
    """Return what this bench has otherwise than the scenario."""
    return yaml.safe_load(SETTINGS.read_text())[name]


class Seconds(NamedTuple):
    """How long each build took, by the clock of the guest in which make ran; ``on`` and ``unwatched`` with the seal."""

    off: list[float]
    on: list[float]
    unwatched: list[float]
    sealed: list[float]
    objects: int


class Farm(NamedTuple):
    """The host, and the folder of what was built for it."""

    dom0: XenHost
    verified: VerifiedHost
    state: pathlib.Path

    def package(self, image: str) -> GuestPackage:
        """Return what the package of an image says."""
        from vouch.model.package import GuestPackage
        from vouch.parse.envelope import parse_envelope

        return GuestPackage.from_bytes(parse_envelope(self.verified.package(image)).payload)


def playbook(folder: pathlib.Path, name: str) -> None:
    """Run a playbook of the scenario below ``folder``."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "XDG_STATE_HOME": str(folder),
        "VOUCH_SCENARIO": str(folder / "output"),
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", str(SCENARIO / "inventory"), f"-e@{SETTINGS}"]
    done = subprocess.run(
        [*argv, str(SCENARIO / name)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PLAYBOOK_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stdout + done.stderr
        raise RuntimeError(f"{name}: {said[max(said.find('[ERROR]'), len(said) - 3000) :][:600]}")


@contextlib.contextmanager
def farm() -> Iterator[Farm]:
    """Install a host as the scenario does; it is gone when the block ends."""
    from verified_host import VerifiedHost
    from xen_guests import XenHost

    from vouch.model.enrolment import Enrolment

    with tempfile.TemporaryDirectory(prefix="vouch-") as name:
        folder = pathlib.Path(name)
        state = folder / "vouch"
        try:
            playbook(folder, "create.yml")
            playbook(folder, "converge.yml")
            (record,) = (state / "enrolments").glob("*.json")
            enrolment = Enrolment.from_json(json.loads(record.read_text()))
            known_hosts = folder / "known_hosts"
            known_hosts.write_text(f"{HOST} {enrolment.ssh_host_key}\n")
            port, store = setting("farm_port"), f"http://10.0.2.2:{setting('farm_store_port')}"
            dom0 = XenHost(name=HOST, port=port, key=state / "keys" / "controller", known_hosts=known_hosts)
            try:
                verified = VerifiedHost(
                    dom0,
                    port=port,
                    host_id=record.stem,
                    host_key=enrolment.ssh_host_key,
                    state=state,
                    store=store,
                )
                yield Farm(dom0, verified, state)
            finally:
                dom0.close()
        finally:
            playbook(folder, "destroy.yml")


@contextlib.contextmanager
def plain(farm: Farm, name: str, image: str, program: str, **words: str) -> Iterator[Guest]:
    """Run a domain of an image's files with all of it off."""
    from plain_guest import open_wall, plain_address, plain_guest

    package = farm.package(image)
    words = {"OWN": plain_address(farm.verified.host_id, name), **words}
    text = (ROOT / "tests" / "bench" / program).read_text()
    with plain_guest(
        farm.dom0,
        name,
        host_id=farm.verified.host_id,
        package=package,
        initrd=(farm.state / "output" / image / "initrd.img").read_bytes(),
        program=re.sub(r"@(\w+)@", lambda found: words[found[1]], text),
        memory_mb=package.resources.memory_mb,
    ) as guest:
        open_wall(farm.dom0, farm.verified.host_id, name)
        guest.wait_for("plain: ready", READY_LIMIT_S)
        yield guest


@contextlib.contextmanager
def nobody_watches(farm: Farm) -> Iterator[None]:
    """Hold the VM verifier still, and no guest with it."""
    for _ in range(READY_LIMIT_S):
        farm.dom0.run(f"systemctl kill --signal=STOP {VERIFIER}")
        # A guest that is looked at right now stands still.
        states = [line.split()[4] for line in farm.dom0.run("xl list").splitlines()[1:]]
        if not any("p" in state for state in states):
            break
        farm.dom0.run(f"systemctl kill --signal=CONT {VERIFIER}; sleep 0.3")
    else:
        raise RuntimeError("there is always a guest that stands still")
    try:
        yield
    finally:
        farm.dom0.run(f"systemctl kill --signal=CONT {VERIFIER}")


def attested_build(farm: Farm, *, watched: bool) -> tuple[float, float, int]:
    """Start the controller, which builds; return seconds of make, of the seal, and the number of objects."""
    log = f"/var/log/xen/guest-{CONTROLLER}.log"
    farm.dom0.run(f"rm -f {log}")
    farm.verified.start(CONTROLLER, CONTROLLER_IMAGE, KIND)
    try:
        said_within(farm.dom0, log, "nodes: ", READY_LIMIT_S)
        with contextlib.nullcontext() if watched else nobody_watches(farm):
            said_within(farm.dom0, log, "made in ", BUILD_LIMIT_S)
        # It is the host that speaks for the controller in the seal.
        said = said_within(farm.dom0, log, "vouch-build: ", BUILD_LIMIT_S)
    finally:
        farm.verified.order("stop", CONTROLLER)
    end, made, sealed = END.search(said), MADE.search(said), SEALED.search(said)
    local = json.loads((farm.state.parent / "output" / "local.json").read_text())
    if end is None or made is None or sealed is None or end[2] != local["digest"]:
        raise RuntimeError(f"no build, or another one: {said[-3000:]}")
    return float(made[1]), float(sealed[1]), int(end[1])


def said_within(dom0: XenHost, log: str, text: str, limit_s: int) -> str:
    """Return what a console shows once ``text`` is there. dom0 waits, since each question costs it some time."""
    wait = f"until grep -q {shlex.quote(text)} {log}; do sleep 10; done"
    dom0.run(f"timeout {limit_s} sh -c {shlex.quote(wait)} || :; sleep 2", timeout_s=limit_s + 60)
    said = dom0.run(f"cat {log}")
    if text not in said:
        raise RuntimeError(f"no {text!r} within {limit_s} s: {said[-3000:]}")
    return said


def plain_build(farm: Farm, words: Mapping[str, str]) -> tuple[float, int]:
    """Have a plain controller build; return seconds of make and the number of objects."""
    with plain(farm, "plain", CONTROLLER_IMAGE, "plain_controller.sh", **words) as controller, nobody_watches(farm):
        controller.type("go\n")
        controller.wait_for("plain: over", BUILD_LIMIT_S)
        end = PLAIN_END.search(controller.console)
        if end is None or end[1] != "0":
            raise RuntimeError(f"no build: {controller.console[-3000:]}")
        return float(end[3]) - float(end[2]), int(end[4])


@functools.cache
def builds() -> Seconds | Exception:
    """Return what all builds took, or why there is nothing: three rows are not three attempts."""
    try:
        return measured_builds()
    except Exception as error:  # noqa: BLE001  # raised again by each row
        return error


def found_builds() -> Seconds:
    """Return what all builds took."""
    found = builds()
    if isinstance(found, Exception):
        raise found
    return found


def measured_builds() -> Seconds:
    """Return what all builds took; the first of each kind, which fills caches, is not among them."""
    seconds = Seconds([], [], [], [], 0)
    with farm() as host, contextlib.ExitStack() as stack:
        for node in NODES:
            host.verified.start(node, NODE_IMAGE, KIND)
            host.verified.wait_until_up(node)
        # The files of a package are in the host while a guest of it runs.
        attested_build(host, watched=True)
        words = start_plain_nodes(host, stack)
        plain_build(host, words)
        for turn in range(1, PAIRS + 1):
            off, objects = plain_build(host, words)
            on, sealed, built = attested_build(host, watched=True)
            if objects != built:
                raise RuntimeError(f"{objects} objects with all of it off, {built} with everything on")
            seconds.off.append(off)
            seconds.on.append(on + sealed)
            seconds.sealed.append(sealed)
            seconds = seconds._replace(objects=built)
            times = {"turn": turn, "off": off, "on": on, "sealed": sealed}
            if turn > PAIRS - UNWATCHED_PAIRS:
                unwatched, unwatched_sealed, _ = attested_build(host, watched=False)
                seconds.unwatched.append(unwatched + unwatched_sealed)
                times["unwatched"] = unwatched
            print(json.dumps(times), flush=True)
    return seconds


def start_plain_nodes(farm: Farm, stack: contextlib.ExitStack) -> dict[str, str]:
    """Start the nodes with all of it off; return what their controller is told."""
    from plain_guest import plain_address

    settings: Mapping[str, Any] = setting("farm_build")
    names = {"NODE_A": "plain-a", "NODE_B": "plain-b"}
    for name in names.values():
        stack.enter_context(plain(farm, name, NODE_IMAGE, "plain_node.sh"))
    words = {word: plain_address(farm.verified.host_id, name) for word, name in names.items()}
    words |= {"SOURCE": settings["source"], "FOLDER": settings["folder"], "JOBS": str(settings["jobs"])}
    return words | {"ARGUMENTS": shlex.join(settings["arguments"])}


def of_pairs(values: Sequence[float], baselines: Sequence[float]) -> float:
    """Return the median of the ratios of the last turns, as many as both have."""
    count = min(len(values), len(baselines))
    if not count:
        raise NotMeasuredError("no such build was asked for")
    return statistics.median(
        value / baseline for value, baseline in zip(values[-count:], baselines[-count:], strict=True)
    )


def spread(seconds: Sequence[float]) -> str:
    """Return the least and the most."""
    return f"{min(seconds):.1f}-{max(seconds):.1f} s"


OFF = "the same kernel and compiler in unprotected domains of the same host, distcc straight to distccd, in turn"
UNWATCHED = "everything on, the VM verifier held still meanwhile, in turn"


@row("farm.overhead", "ratio", target=at_most(1.0365), baseline=OFF, slow=True)
def overhead() -> Measured:
    """Everything on: make and seal, through make with all of it off; the median of the pairs."""
    found = found_builds()
    pairs = f"{PAIRS} pairs, {found.objects} objects of libmbedcrypto (83,000 lines)"
    note = f"{pairs}; on {spread(found.on)}, off {spread(found.off)}"
    return Measured(value=of_pairs(found.on, found.off), baseline_value=1.0, note=note)


@row(
    "farm.overhead.watching",
    "ratio",
    baseline=UNWATCHED,
    slow=True,
)
def watching() -> Measured:
    """What of it is introspection."""
    found = found_builds()
    note = f"on {spread(found.on)}, unwatched {spread(found.unwatched)}"
    return Measured(value=of_pairs(found.on, found.unwatched), baseline_value=1.0, note=note)


@row("farm.overhead.guests", "ratio", baseline=OFF, slow=True)
def guests() -> Measured:
    """What of it is in the guests: SELinux, verity, evidence, ESP, signatures and their verification, the seal."""
    found = found_builds()
    sealed = f"the seal {statistics.median(found.sealed):.2f} s"
    note = f"unwatched {spread(found.unwatched)}, off {spread(found.off)}; {sealed}"
    return Measured(value=of_pairs(found.unwatched, found.off), baseline_value=1.0, note=note)

# SPDX-License-Identifier: GPL-3.0-or-later
"""One build across guests, in the middle of which a node is attacked, and the VM verifier killed: what came out, and by
whom.

The tests stand in the order in which things happen.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from farm import (
    BUILD_LIMIT_S,
    CONTROLLER,
    HOST_ID,
    NODES,
    OUTPUT,
    RELEASE,
    RESULT_PORT,
    STATE,
    STRANGER,
    address,
    console,
    package,
)
from verified_host import VerifiedHost
from xen_guests import GUESTS, XenHost

from vouch.appraise.provenance import ProvenanceRecheck, recheck_provenance
from vouch.appraise.provenancejudge import PeerJudge, ProvenanceAnchors
from vouch.appraise.recheck import Outcome
from vouch.model.digest import sha256
from vouch.model.gueststate import GuestRecord
from vouch.model.key import PublicKey
from vouch.parse.buildresult import BuildResult, parse_build_result
from vouch.parse.provenancebundle import parse_provenance_bundle

SHARED = Path(__file__).resolve().parents[2] / "shared"
VICTIM, LEFT = NODES[1], NODES[0]
ATTACK_AFTER_OBJECTS = 6
END_LIMIT_S = 120
ADOPT_LIMIT_S = 300
END = re.compile(r"vouch-build: (done (\d+) ([0-9a-f]{64})|failed \S+)")


def wait_for(dom0: XenHost, pattern: re.Pattern[str], limit_s: float) -> re.Match[str]:
    """Return the first match on the controller's console, once there is one."""
    deadline = time.monotonic() + limit_s
    while not (match := pattern.search(said := console(dom0, CONTROLLER))):
        assert time.monotonic() < deadline, said[-4000:]
        time.sleep(5)
    return match


@pytest.fixture(scope="module")
def attack(dom0: XenHost, host: VerifiedHost) -> dict[str, float]:
    """A node's SELinux is switched off in the middle of the build: times of day of that, and of what came of it."""
    objects = "|".join(str(number) for number in range(ATTACK_AFTER_OBJECTS, 33))
    wait_for(dom0, re.compile(rf"\b(?:{objects}) objects\b|vouch-build: "), BUILD_LIMIT_S)
    assert not END.search(console(dom0, CONTROLLER)), "the build was over before the attack"
    dom0.run("cat > /run/guest_attacks.py", stdin=(SHARED / "guest_attacks.py").read_bytes())
    # The host removes a guest's files when nobody runs it, so they are where its own launch put them.
    record = host.guests()[VICTIM]
    folder = f"{GUESTS}/attack"
    dom0.run(f"mkdir -p {folder}")
    for name in ("profile", "policy"):
        data = (STATE / "output" / "distcc_node-debug" / name).read_bytes()
        dom0.run(f"cat > {folder}/{name}", stdin=data)
    argv = f"python3.13 -ISB - {record.domain_id} pvh {folder}/profile {folder}/policy"
    dom0.run("cat > /run/channel_end.py", stdin=(SHARED / "channel_end.py").read_bytes())
    card = f"vif{host.guests()[CONTROLLER].domain_id}.0"
    log = f"/var/log/xen/guest-{CONTROLLER}.log"
    watching = ["python3.13", "-ISB", "/run/channel_end.py", "/run/vouch/eventlog", VICTIM, card, log, address(VICTIM)]
    process = dom0.open(shlex.join([*watching, str(END_LIMIT_S)]))
    assert process.stdout is not None
    try:
        assert "listening" in json.loads(process.stdout.readline())
        attacked = float(dom0.run(argv, stdin=(SHARED / "enforcing_off.py").read_bytes()).split()[-1])
        seen = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
    (OUTPUT / "ended.json").write_text(json.dumps({"attacked": attacked, **seen}) + "\n")
    return {"attacked": attacked, **seen}


def connected(said: str) -> dict[str, dict[str, int]]:
    """Return milliseconds of each step to a channel, by the node's address, as a controller's console tells them."""
    lines = re.findall(r"(\S+): connected, ms: ([a-z]+ \d+(?:, [a-z]+ \d+)*)", said)
    return {node: {name: int(ms) for name, ms in map(str.split, steps.split(", "))} for node, steps in lines}


@pytest.fixture(scope="module")
def killed(dom0: XenHost, attack: dict[str, float]) -> None:
    """The VM verifier is killed while the node that is left builds on."""
    dom0.run("systemctl kill --signal=KILL vouch-verifier.service")
    assert not END.search(console(dom0, CONTROLLER)), "the build was over before the VM verifier was killed"


@pytest.fixture(scope="module")
def built(dom0: XenHost, killed: None) -> tuple[int, bytes]:
    """How many objects there are, and the digest of all of them, as the controller says it."""
    match = wait_for(dom0, END, BUILD_LIMIT_S)
    assert match[2], console(dom0, CONTROLLER)[-4000:]
    return int(match[2]), bytes.fromhex(match[3])


@pytest.fixture(scope="module")
def adopted(host: VerifiedHost, built: tuple[int, bytes]) -> dict[str, GuestRecord]:
    """The guests once the new VM verifier has looked at all of them, which stand still until then."""
    begin = [at for at, event in enumerate(host.events()) if event["event"] == "verifier.start"][1]
    deadline, found = time.monotonic() + ADOPT_LIMIT_S, set[str]()
    while not found >= {CONTROLLER, LEFT, STRANGER}:
        assert time.monotonic() < deadline, host.journal()
        time.sleep(5)
        found = {event["guest"] for event in host.events()[begin:] if event["event"] == "guest.adopted"}
    return host.guests()


@pytest.fixture(scope="module")
def result(host: VerifiedHost, adopted: dict[str, GuestRecord]) -> BuildResult:
    """What the controller gives out."""
    with host.client() as client:
        data = client.fetch(CONTROLLER, RESULT_PORT)
    (OUTPUT / "result.tar").write_bytes(data)
    return parse_build_result(data)


def anchors(**changes: object) -> ProvenanceAnchors:
    """Return what is trusted from outside, with some of it replaced."""
    keys = STATE / "keys"
    known = {
        "enrolment_keys": (PublicKey.from_pem((keys / "enrolment.pem.pub").read_bytes()),),
        "release_keys": (PublicKey.from_pem((STATE / "releases" / f"{RELEASE}.pub.pem").read_bytes()),),
        "installer_pcr4": (bytes.fromhex(json.loads((STATE / "installer" / "installer.json").read_text())["pcr4"]),),
        "package_keys": (PublicKey.from_pem((keys / "package.pem.pub").read_bytes()),),
        "names": ("distcc_controller-debug", "distcc_node-debug"),
        "allow_debug": True,
    }
    return ProvenanceAnchors(**{**known, **changes})  # type: ignore[arg-type]


def recheck(result: BuildResult, judge: PeerJudge, **altered: bytes) -> ProvenanceRecheck:
    """Return what the provenance proves of the files, some of them altered."""
    files: Mapping[str, bytes] = {**result.files, **altered}
    digests = {name: sha256(data) for name, data in files.items()}
    return recheck_provenance(parse_provenance_bundle(result.provenance), judge, files=digests)


@pytest.fixture(scope="module")
def proven(result: BuildResult) -> ProvenanceRecheck:
    """What the provenance proves."""
    return recheck(result, PeerJudge(anchors()))


def test_another_package_is_no_node(dom0: XenHost, built: tuple[int, bytes]) -> None:
    said = console(dom0, CONTROLLER)
    assert f"{address(STRANGER)}: refused peer.package.name" in said
    assert f"nodes: {', '.join(sorted(map(address, NODES)))}" in said


def test_channels_are_told_with_their_steps(dom0: XenHost, built: tuple[int, bytes]) -> None:
    steps = connected(console(dom0, CONTROLLER))
    assert set(map(address, NODES)) <= set(steps)
    # For `make bench ONLY=farm`.
    (OUTPUT / "connected.json").write_text(json.dumps(steps) + "\n")


def test_objects_are_those_of_the_same_compiler_here(built: tuple[int, bytes]) -> None:
    local = json.loads((OUTPUT / "local.json").read_text())
    assert built == (local["objects"], bytes.fromhex(local["digest"]))


def test_provenance_is_proven_from_outside(proven: ProvenanceRecheck) -> None:
    assert proven.outcome is Outcome.PROVEN, [str(finding) for finding in proven.findings]


def test_both_nodes_compiled(proven: ProvenanceRecheck, built: tuple[int, bytes]) -> None:
    made = [done.job.builder.guest for done in proven.jobs.values()]
    assert set(made) == set(NODES)
    print(json.dumps({node: made.count(node) for node in NODES}))


def test_the_attack_is_found_and_held(host: VerifiedHost, attack: dict[str, float]) -> None:
    record = host.guests()[VICTIM]
    assert (record.state, record.violations) == ("violated", ("guest.selinux.enforcing",))


def test_its_peer_is_told_and_ends_the_channel(attack: dict[str, float]) -> None:
    print(json.dumps(attack))
    assert attack["attacked"] <= attack["violation"] <= attack["told"] <= attack["ended"]


def test_a_new_verifier_adopts_the_farm_and_the_violation(adopted: dict[str, GuestRecord]) -> None:
    assert {adopted[name].state for name in (CONTROLLER, LEFT, STRANGER)} == {"running"}
    assert (adopted[VICTIM].state, adopted[VICTIM].violations) == ("violated", ("guest.selinux.enforcing",))


def test_nothing_of_the_attacked_node_was_taken_afterwards(host: VerifiedHost, proven: ProvenanceRecheck) -> None:
    violation = host.wait_for_event("guest.violation", VICTIM, 1)
    ends = {node: [d.job.run.finished_s for d in proven.jobs.values() if d.job.builder.guest == node] for node in NODES}
    assert max(ends[VICTIM]) <= violation["time"] < max(ends[LEFT])


@pytest.mark.parametrize("name", ["installer_pcr4", "names"])
def test_provenance_by_other_criteria(result: BuildResult, name: str) -> None:
    other = {"installer_pcr4": (bytes(32),), "names": ("base",)}
    assert recheck(result, PeerJudge(anchors(**{name: other[name]}))).outcome is Outcome.FALSE


def test_debug_guests_are_not_believed_unasked(result: BuildResult) -> None:
    assert recheck(result, PeerJudge(anchors(allow_debug=False))).outcome is Outcome.FALSE


def test_another_file_is_not_of_this_build(result: BuildResult) -> None:
    (name,) = result.files
    found = recheck(result, PeerJudge(anchors()), **{name: result.files[name] + b"\0"})
    assert found.outcome is Outcome.FALSE


def test_packages_are_those_that_were_built(proven: ProvenanceRecheck) -> None:
    assert proven.build is not None
    assert proven.build.build.builder.host_id == HOST_ID
    roots = {package("distcc_node-debug").verity.root_hash}
    assert {done.job.builder.verity_root for done in proven.jobs.values()} == roots

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory plugin costs a play with ten thousand results."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import yaml

from .harness import ROOT, Measured, NotMeasuredError, at_most, row, use_tests

HOSTS = 10_000
BATCH = 33
"""Results that share one seal: what a watch of 2,000 hosts, each asked every 60 s, writes in a second."""

ROUNDS = 3
BASELINE = "the same 10,000 hosts without the plugin"


def _site(folder: pathlib.Path) -> None:
    """Write an inventory of hosts, a store with a result of each, and a play that reaches the proven ones."""
    use_tests()
    from ansible.module_utils.vouch.make.sign import public_pem
    from ansible.module_utils.vouch.store.results import ResultStore
    from ansible.module_utils.vouch.store.schema import open_store

    from standingparts import KEY, sealed, standing

    now_s = int(time.time())
    store = ResultStore(open_store(f"sqlite:///{folder}/store.db", make=True))
    standings = [standing(number, issued_at_s=now_s, expires_at_s=now_s + 3600) for number in range(HOSTS)]
    for at in range(0, HOSTS, BATCH):
        store.put(sealed(*standings[at : at + BATCH]))
    (folder / "key.pub").write_bytes(public_pem(KEY))
    hosts = {"measured_hosts": {"hosts": {f"h{number}": None for number in range(HOSTS)}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": hosts}}))
    source = {"plugin": "attestation", "store": "sqlite:///store.db", "appraiser_keys": ["key.pub"]}
    (folder / "verdicts.attestation.yml").write_text(yaml.safe_dump(source))
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "attestation_affirming", "gather_facts": False}]))
    (folder / "ansible.cfg").write_text(
        f"[defaults]\ninventory_plugins = {ROOT}/inventory_plugins\ninject_facts_as_vars = False\n"
        "[inventory]\nany_unparsed_is_failed = True\n"
    )


def _seconds(folder: pathlib.Path, *sources: str) -> tuple[float, str]:
    """Return how long Ansible takes to find the hosts of the play, and what it printed."""
    command = [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "--list-hosts", "play.yml"]
    for source in sources:
        command += ["-i", source]
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    elapsed_s = time.perf_counter() - began
    if done.returncode != 0:
        raise NotMeasuredError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
    return elapsed_s, done.stdout


@functools.cache
def _compared() -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="vouch-bench.") as name:
        folder = pathlib.Path(name)
        _site(folder)
        ours, plain = [], []
        for _ in range(ROUNDS):
            plain.append(_seconds(folder, "hosts.yml")[0])
            took_s, told = _seconds(folder, "hosts.yml", "verdicts.attestation.yml")
            ours.append(took_s)
            if f"hosts ({HOSTS})" not in told:
                raise NotMeasuredError("not every host is in attestation_affirming")
        return min(ours), min(plain)


@row("inventory.plugin", "s", baseline=BASELINE)
def plugin() -> Measured:
    """Measure `ansible-playbook --list-hosts` of a play for attestation_affirming: seconds, best of some rounds."""
    ours, plain = _compared()
    note = f"{HOSTS:,} results, {BATCH} to a seal, every seal and path verified; {ours - plain:.2f} s more"
    return Measured(value=ours, baseline_value=plain, target=at_most(plain + 1.0), note=note)

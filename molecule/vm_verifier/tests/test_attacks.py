# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on the memory and the processor of guests that run: each is found, under its name, and how long that takes.

The guests are started here without the VM verifier, and its code is run against them in dom0, attack after attack. More
attacks, on a guest under QEMU alone, are in tests/system/test_measurer.py.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from verifier import OUTPUT, STATE
from xen_guests import GUESTS, Domain, XenHost

from vouch.model.package import GuestPackage
from vouch.parse.envelope import parse_envelope

IMAGE = "base-debug"
ROUNDS = 200
LIMIT_S = 2400
PROGRAM = Path(__file__).resolve().parents[2] / "shared" / "guest_attacks.py"

CODES: Mapping[str, str] = {
    "enforcing": "guest.selinux.enforcing",
    "text": "guest.text.changed",
    "remapped": "guest.text.remapped",
    "hook": "guest.rodata.changed",
    "gate": "guest.idt.gate",
    "syscall": "guest.syscall.entry",
    "permissive": "guest.selinux.permissive",
    "modprobe": "guest.kernel.switch",
    "rule": "guest.selinux.rule.added",
    "module": "guest.module.missing",
}
KINDS = ["pv", "pvh"]
IMPOSSIBLE = {("pv", "remapped"): "Xen lets not even dom0 write a page table of a PV guest"}


@pytest.fixture(scope="module", params=KINDS)
def told(request: pytest.FixtureRequest, dom0: XenHost) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What the program said, line by line, of a guest of one kind."""
    kind = request.param
    package = GuestPackage.from_bytes(parse_envelope((STATE / "packages" / f"{IMAGE}.dsse.json").read_bytes()).payload)
    folder = f"{GUESTS}/{IMAGE}"
    domain = Domain(
        name=f"attacked-{kind}",
        kind=kind,
        kernel=f"{folder}/vmlinuz",
        initrd=f"{folder}/initrd.img",
        image=f"{folder}/root.img",
        cmdline=package.cmdline,
        memory_mb=package.resources.memory_mb,
        mac="00:16:3e:00:00:02",
    )
    dom0.run("cat > /run/guest_attacks.py", stdin=PROGRAM.read_bytes())
    with dom0.guest(domain) as guest:
        number = dom0.run(f"xl domid {domain.name}").strip()
        argv = ["python3.13", "-ISB", "/run/guest_attacks.py", number, kind, f"{folder}/profile", f"{folder}/policy"]
        try:
            said = dom0.run(shlex.join([*argv, str(ROUNDS)]), timeout_s=LIMIT_S)
        finally:
            (OUTPUT / f"attacked-{kind}.console.log").write_text(guest.console)
        (OUTPUT / f"attacked-{kind}.jsonl").write_text(said)
        yield kind, [json.loads(line) for line in said.splitlines()]


def test_no_false_alarm(told: tuple[str, list[dict[str, Any]]]) -> None:
    rounds = [line for line in told[1] if "round" in line]
    assert len(rounds) == ROUNDS
    assert [line for line in rounds if line["violations"]] == []


@pytest.mark.parametrize("attack", CODES)
def test_attack(told: tuple[str, list[dict[str, Any]]], attack: str) -> None:
    kind, lines = told
    (found,) = [line for line in lines if line.get("attack") == attack and "after" not in line]
    print(json.dumps(found))
    if (kind, attack) in IMPOSSIBLE:
        assert "impossible" in found, IMPOSSIBLE[kind, attack]
    else:
        assert CODES[attack] in found.get("codes", []), found
    assert [line for line in lines if line.get("attack") == attack and "after" in line] == []

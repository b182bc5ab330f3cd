# SPDX-License-Identifier: GPL-3.0-or-later
"""What others reach of guests in plain: a domain that nobody ordered has a card on the same host, and is all root's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import CONTROLLER, HOST_ID, NODES, OUTPUT, STATE, address
from verified_host import VerifiedHost
from xen_guests import Domain, Guest, XenHost

from vouch.model.guestaddress import address_of, derived_mac

PROGRAM = Path(__file__).parent / "intruder.sh"
FOLDER = "/run/intruder"
ROUND_LIMIT_S = 300
ROUND_OVER = "intruder: round over"
MODE = 0o100755


def entry(name: str, data: bytes, mode: int, number: int) -> bytes:
    """Return an entry of a cpio archive ("newc"; Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + "".join(f"{value:08x}" for value in fields).encode() + name.encode() + b"\0"
    return padded(head) + padded(data)


def padded(data: bytes) -> bytes:
    """Return the data up to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


@pytest.fixture(scope="module")
def intruder(dom0: XenHost, host: VerifiedHost) -> Iterator[Guest]:
    """The domain: kernel and drivers of a guest, and a first program of its own."""
    image = STATE / "output" / "base-debug"
    archive = entry("intruder", PROGRAM.read_bytes(), MODE, 1) + entry("TRAILER!!!", b"", 0, 0)
    dom0.run(f"mkdir -p {FOLDER} && truncate -s 1M {FOLDER}/disk")
    dom0.run(f"cat > {FOLDER}/vmlinuz", stdin=(image / "vmlinuz").read_bytes())
    dom0.run(f"cat > {FOLDER}/initrd", stdin=padded((image / "initrd.img").read_bytes()) + archive)
    mac = derived_mac(HOST_ID, "intruder")
    addresses = ",".join((address_of(HOST_ID, mac), address(CONTROLLER), address(NODES[0])))
    domain = Domain(
        name="intruder",
        kind="pvh",
        kernel=f"{FOLDER}/vmlinuz",
        initrd=f"{FOLDER}/initrd",
        image=f"{FOLDER}/disk",
        cmdline=f"console=hvc0 quiet rdinit=/intruder intruder={addresses}",
        memory_mb=256,
        mac=mac,
    )
    with dom0.guest(domain) as guest:
        try:
            yield guest
        finally:
            (OUTPUT / "intruder.console.log").write_text(guest.console)


def answers(guest: Guest) -> dict[str, str]:
    """Return what the next whole round of attempts came to."""
    said = ""
    while said.count(ROUND_OVER) < 2:
        said += guest.until(ROUND_OVER, ROUND_LIMIT_S)
    return dict(re.findall(r"intruder: (\S+) (open|shut)", said.split(ROUND_OVER)[1]))


def test_nothing_is_reached_in_plain_and_the_wall_is_why(dom0: XenHost, intruder: Guest) -> None:
    """The same attempt succeeds when the wall is taken away, so it is the wall that it failed at."""
    assert answers(intruder) == {"job": "shut", "job-as-another": "shut", "authority": "shut", "host": "shut"}
    card = f"vif{dom0.run('xl domid intruder').strip()}.0"
    own = address_of(HOST_ID, derived_mac(HOST_ID, "intruder"))
    dom0.run(
        f"nft insert rule inet vouch forward iifname {card} accept"
        f" && nft insert rule inet vouch forward oifname {card} accept"
        f" && ip -6 route replace {own}/128 dev {card}"
    )
    assert answers(intruder)["job"] == "open"

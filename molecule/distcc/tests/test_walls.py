# SPDX-License-Identifier: GPL-3.0-or-later
"""What others reach of guests in plain: a domain that nobody ordered has a card on the same host, and is all root's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import CONTROLLER, HOST_ID, NODES, OUTPUT, STATE, address, package
from plain_guest import open_wall, plain_address, plain_guest
from xen_guests import Guest, XenHost

IMAGE = "base-debug"
NAME = "intruder"
PROGRAM = Path(__file__).parent / "intruder.sh"
ROUND_LIMIT_S = 300
ROUND_OVER = "intruder: round over"
ATTEMPTS = ("job", "job-as-another", "authority", "host")


@pytest.fixture(scope="module")
def intruder(dom0: XenHost) -> Iterator[Guest]:
    """The domain, with the kernel of a guest that runs here."""
    addresses = {"OWN": plain_address(HOST_ID, NAME), "OTHER": address(CONTROLLER), "NODE": address(NODES[0])}
    with plain_guest(
        dom0,
        NAME,
        host_id=HOST_ID,
        package=package(IMAGE),
        initrd=(STATE / "output" / IMAGE / "initrd.img").read_bytes(),
        program=re.sub(r"@(\w+)@", lambda found: addresses[found[1]], PROGRAM.read_text()),
        memory_mb=256,
    ) as guest:
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
    """The same attempts succeed when the wall is taken away, so it is the wall that they failed at."""
    assert answers(intruder) == dict.fromkeys(ATTEMPTS, "shut")
    open_wall(dom0, HOST_ID, NAME)
    assert answers(intruder)["authority"] == "open"

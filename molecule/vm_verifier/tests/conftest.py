# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: its VM verifier through SSH's one subsystem, and, as it is the debug image, dom0 through a shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "module_utils"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from verified_host import VerifiedHost
from verifier import HOST, HOST_ID, HOST_LIMIT_S, OUTPUT, PORT, STATE, STORE, host_key
from xen_guests import XenHost


@pytest.fixture(scope="session")
def dom0() -> Iterator[XenHost]:
    """The debug host, once it starts guests."""
    host = XenHost(
        name=HOST, port=PORT, key=STATE / "keys" / "controller", known_hosts=STATE / "lab" / f"{HOST}.known_hosts"
    )
    try:
        host.wait_until_up(HOST_LIMIT_S)
        yield host
    finally:
        host.close()


@pytest.fixture(scope="session")
def host(dom0: XenHost) -> Iterator[VerifiedHost]:
    """Its VM verifier; every guest is removed at the end, and what they said on their consoles is kept."""
    verified = VerifiedHost(dom0, port=PORT, host_id=HOST_ID, host_key=host_key(), state=STATE, store=STORE)
    try:
        yield verified
    finally:
        OUTPUT.mkdir(mode=0o700, exist_ok=True, parents=True)
        for name in verified.remove_all():
            log = dom0.run(f"cat /var/log/xen/guest-{name}.log || :")
            (OUTPUT / f"{name}.console.log").write_text(log)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The host through SSH's one subsystem and, as it is the debug image, dom0 through a shell; what the guests said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "module_utils"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from farm import CONTROLLER, HOST, HOST_ID, NODES, OUTPUT, PORT, STATE, STORE, STRANGER, console, enrolment
from verified_host import VerifiedHost
from xen_guests import XenHost


@pytest.fixture(scope="session")
def dom0(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XenHost]:
    """The debug host, as root, with the host key that its installation proved."""
    known_hosts = tmp_path_factory.mktemp("ssh") / "known_hosts"
    known_hosts.write_text(f"{HOST} {enrolment().ssh_host_key}\n")
    host = XenHost(name=HOST, port=PORT, key=STATE / "keys" / "controller", known_hosts=known_hosts)
    try:
        yield host
    finally:
        host.close()


@pytest.fixture(scope="session")
def host(dom0: XenHost) -> Iterator[VerifiedHost]:
    """Its VM verifier; what the guests said on their consoles is kept."""
    verified = VerifiedHost(
        dom0, port=PORT, host_id=HOST_ID, host_key=enrolment().ssh_host_key, state=STATE, store=STORE
    )
    try:
        yield verified
    finally:
        OUTPUT.mkdir(mode=0o700, exist_ok=True, parents=True)
        for name in (CONTROLLER, *NODES, STRANGER):
            (OUTPUT / f"{name}.console.log").write_text(console(dom0, name))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the host of this scenario is, who runs on it, and what was built for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from xen_guests import XenHost

from vouch.model.enrolment import Enrolment
from vouch.model.guestaddress import address_of, derived_mac
from vouch.model.package import GuestPackage
from vouch.parse.envelope import parse_envelope

OUTPUT = Path(os.environ["VOUCH_SCENARIO"])
STATE = Path(os.environ["VOUCH_STATE"])
HOST, PORT = "dh1", 22781
RELEASE = "vouch-host-farm"
HOST_ID = "5b0f2c1e-0d38-4c57-9a51-0c1f6a3d7781"
HOST_LIMIT_S = 900
BUILD_LIMIT_S = 2400
STORE = "http://10.0.2.2:22780"
"""QEMU's user network shows this computer's loopback as 10.0.2.2."""

CONTROLLER, NODES, STRANGER = "controller", ("node-a", "node-b"), "stranger"
RESULT_PORT, NODE_PORT = 3634, 3632


def address(guest: str) -> str:
    """Return the address of a guest of this host."""
    return address_of(HOST_ID, derived_mac(HOST_ID, guest))


def package(image: str) -> GuestPackage:
    """Return what the package of an image says."""
    envelope = (STATE / "packages" / f"{image}.dsse.json").read_bytes()
    return GuestPackage.from_bytes(parse_envelope(envelope).payload)


def enrolment() -> Enrolment:
    """Return what is recorded of the host."""
    return Enrolment.from_json(json.loads((STATE / "enrolments" / f"{HOST_ID}.json").read_text()))


def console(dom0: XenHost, guest: str) -> str:
    """Return what a guest said on its console."""
    return dom0.run(f"cat /var/log/xen/guest-{guest}.log || :")

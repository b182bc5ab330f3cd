# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the host of this scenario is, and what was built for it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

OUTPUT = Path(os.environ["VOUCH_SCENARIO"])
STATE = OUTPUT.parent / "vouch"
HOST, PORT = "vh1", 22721
HOST_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, HOST))
HOST_LIMIT_S = 900
STORE = "http://10.0.2.2:8480"
"""QEMU's user network shows this computer's loopback as 10.0.2.2."""


def signed_package(name: str) -> bytes:
    """Return the signed package file of an image."""
    return (STATE / "packages" / f"{name}.dsse.json").read_bytes()


def host_key() -> str:
    """Return type and base64 of the host's SSH key."""
    return (STATE / "lab" / f"{HOST}.known_hosts").read_text().split(" ", 1)[1].strip()

# SPDX-License-Identifier: GPL-3.0-or-later
"""A way into the debug host. testinfra's own ``host`` fixture is not used: the production host has no shell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "module_utils"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from outcomes import KEY, OUTPUT, PORTS


@pytest.fixture(scope="session")
def dom0() -> Host:
    """The debug host, as root, over SSH with the enrolled host key."""
    return testinfra.get_host(
        f"ssh://root@127.0.0.1:{PORTS['mh2']}",
        ssh_identity_file=str(KEY),
        ssh_extra_args=(
            f"-F/dev/null -oBatchMode=yes -oIdentitiesOnly=yes -oStrictHostKeyChecking=yes -oHostKeyAlias=mh2"
            f" -oUserKnownHostsFile={OUTPUT / 'mh2.known_hosts'}"
        ),
        controlpersist=60,
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that speak to a host, run by Ansible: a host that nobody enrolled is not spoken to."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

from conftest import ROOT

HOST_ID = "11111111-2222-4333-8444-555555555555"
NOWHERE = {"address": "127.0.0.1", "port": 9, "private_key": "none", "host_id": HOST_ID}

ROLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "guest": ("guest", "main", {"guest_order_key": "none"}),
    "guest, update": ("guest", "update", {"guest_order_key": "none"}),
    "guest, confirm": ("guest", "confirm", {"guest_order_key": "none"}),
    "attested_channel": (
        "attested_channel",
        "main",
        {
            **{f"attested_channel_{name}": "none" for name in ("enrolment_key", "credentials", "release")},
            "attested_channel_image_store": "none",
            "attested_channel_keys": ["none"],
        },
    ),
}
"""Role, entry point, and what it takes besides the way to the host. Role ``distcc`` has a file of its own."""


@pytest.mark.parametrize("case", ROLES)
def test_a_host_that_nobody_enrolled(tmp_path: pathlib.Path, case: str) -> None:
    role, entry, more = ROLES[case]
    way = {f"{role}_{name}": value for name, value in {**NOWHERE, "enrolments": str(tmp_path / "enrolments")}.items()}
    task = {"name": "Run it", "ansible.builtin.include_role": {"name": role, "tasks_from": entry}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "web", "gather_facts": False, "tasks": [task]}]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [
            str(pathlib.Path(sys.executable).parent / "ansible-playbook"),
            *("-i", "web,", "-e", json.dumps({**way, **more}), str(tmp_path / "play.yml")),
        ],
        env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0, done.stdout
    said = " ".join(done.stdout.split())
    assert f"host {HOST_ID} is not enrolled: nothing of it is in {tmp_path}/enrolments [enrolment.missing]" in said

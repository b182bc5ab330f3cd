# SPDX-License-Identifier: GPL-3.0-or-later
"""A small build node that keeps to its intent: docs/cwlite.md tells its story, tests break it."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.make.flowproof import make_proof
from ansible.module_utils.vouch.model.integrity import Intent
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.policy import SimPolicy, allow

INTENT = """
version: 1
boolean_mode: all
tcb: [kernel_t, init_t]
applications: [distccd_t]
filters:
  - subject: distccd_t
    object: distccd_t
    class: tcp_socket
    permissions: [read]
    reason: distccd reads jobs in a framed protocol with fixed limits and rejects everything else
  - subject: distccd_t
    object: cc_tmp_t
    class: file
    permissions: [read]
    reason: the compiler's output is copied to the network as bytes; distccd does not look into it
entries: []
"""
"""The intent that docs/cwlite.md shows."""


def policy() -> SimPolicy:
    """Return the policy: init starts distccd, which starts a compiler and reads what it wrote."""
    return SimPolicy(
        types=[
            *("kernel_t", "init_t", "distccd_t", "cc_t"),
            *("distccd_exec_t", "cc_exec_t", "cc_tmp_t", "etc_t", "unlabeled_t"),
        ],
        attributes={"domain": ["kernel_t", "init_t", "distccd_t", "cc_t"]},
        rules=[
            allow("kernel_t init_t:process transition"),
            allow("init_t distccd_t:process transition"),
            allow("distccd_t cc_t:process transition"),
            allow("distccd_t distccd_exec_t:file read execute entrypoint"),
            allow("cc_t cc_exec_t:file read execute entrypoint"),
            allow("domain etc_t:file read getattr open"),
            allow("cc_t cc_tmp_t:file create read write"),
            allow("distccd_t cc_tmp_t:file getattr read"),
            allow("distccd_t distccd_t:tcp_socket create read write"),
        ],
        booleans={"cc_debug": False},
        conditionals=[("cc_debug", [allow("cc_t etc_t:file getattr")], [])],
    )


def document() -> dict[str, Any]:
    """Return the intent as parsed YAML, to be changed."""
    value: dict[str, Any] = copy.deepcopy(yaml.safe_load(INTENT))
    return value


def intent() -> Intent:
    """Return the intent."""
    return Intent.from_json(document())


def proof(sim: SimPolicy | None = None, wanted: Intent | None = None) -> bytes:
    """Return the proof of a policy that passes; of the one above without arguments."""
    data = (sim or policy()).to_bytes()
    db, wanted = parse_policy(data), wanted or intent()
    return make_proof(data, db, wanted, check_policy(db, wanted))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that `make demo` left in the lab: switched off, on, and asked until it proves itself."""

from __future__ import annotations

import os
import pathlib
import secrets
import time
import uuid

from .harness import NotMeasuredError
from .service import PCRS

HOST = "vouch1"
TO_UUID_NAMESPACE = uuid.UUID("361e6d51-faec-444a-9079-341386da8e2e")
"""Of Ansible's filter ``to_uuid``, by which the inventory names hosts."""

SSH_PORT = 22
BOOT_LIMIT_S = 600
POLL_S = 0.25


def state_folder() -> pathlib.Path:
    """Return where the playbooks keep what is made at run time."""
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(state) / "vouch"


def power_on_to_evidence() -> float:
    """Return the seconds from power-on to the first evidence whose quote verifies for our nonce.

    Raises:
        NotMeasuredError: when the demo's machine or its enrolment is not there.
    """
    from vouch.check.identity import check_ak_public
    from vouch.check.quote import verify_quote
    from vouch.errors import UnreachableError
    from vouch.lab.control import Machine
    from vouch.lab.machine import MachinePaths
    from vouch.model.digest import PcrSelection
    from vouch.model.evidence import Evidence
    from vouch.port.ssh import SshVerifier
    from vouch.store.enrolments import EnrolmentStore

    state = state_folder()
    control = Machine(MachinePaths(directory=state / "lab", name=HOST))
    spec = control.observe().spec
    enrolment = EnrolmentStore(state / "enrolments").find(str(uuid.uuid5(TO_UUID_NAMESPACE, HOST)))
    if spec is None or enrolment is None:
        raise NotMeasuredError(f"machine {HOST} is not installed in {state / 'lab'}; `make demo` installs it")
    port = next(forward.host_port for forward in spec.forwards if forward.guest_port == SSH_PORT)
    was_on = control.stop()
    began = time.monotonic()
    control.start()
    try:
        while time.monotonic() < began + BOOT_LIMIT_S:
            nonce = secrets.token_bytes(32)
            try:
                with SshVerifier(
                    "127.0.0.1",
                    port=port,
                    user="vouch",
                    key_file=str(state / "keys" / "controller"),
                    host_key=enrolment.ssh_host_key,
                ) as verifier:
                    evidence = Evidence.from_bytes(verifier.evidence(nonce, PCRS))
            except UnreachableError:
                if not control.is_on():
                    raise
                time.sleep(POLL_S)
                continue
            verify_quote(
                ak=check_ak_public(enrolment.ak_public),
                nonce=nonce,
                selection=PcrSelection("sha256", PCRS),
                evidence=evidence,
            )
            return time.monotonic() - began
    finally:
        if not was_on:
            control.stop()
    raise RuntimeError(f"no evidence within {BOOT_LIMIT_S} s of power-on")

# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM of a lab machine that is off, put on a bench: its state is served by a swtpm of our own for a moment."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.lab.control import Machine
from vouch.port.tpm import Tpm

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10


@contextlib.contextmanager
def bench(state: Path) -> Iterator[Tpm]:
    """Yield the TPM whose state is in ``state``, started as after power-on; its state is written back at the end."""
    with tempfile.TemporaryDirectory(prefix="vouch-tpm-") as folder:
        # swtpm's socket takes commands; the TSS wants the control channel beside it, at the same path plus ".ctrl".
        data, control = f"{folder}/tpm", f"{folder}/tpm.ctrl"
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600"]
        argv += ["--server", f"type=unixio,path={data},mode=0600", "--ctrl", f"type=unixio,path={control},mode=0600"]
        argv += ["--flags", "not-need-init,startup-clear"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not Path(control).exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"swtpm did not start on {state}")
                time.sleep(0.05)
            with Tpm(f"swtpm:path={data}") as tpm:
                yield tpm
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def clear(machine: Machine) -> None:
    """Do TPM2_Clear, as the firmware's set-up or a person with the lockout authorization does."""
    with bench(machine.paths.tpm) as tpm:
        tpm.ak_public()
        tpm.clear()


def exchange(machine: Machine) -> None:
    """Put another TPM into the machine: made by the same authority, with an attestation key at the same handle."""
    spec = machine.observe().spec
    if spec is None:
        raise RuntimeError(f"there is no machine {machine.paths.name}")
    shutil.rmtree(machine.paths.tpm)
    machine.make(spec)
    with bench(machine.paths.tpm) as tpm:
        tpm.create_ak()

# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM verifier as it runs in dom0, on a software TPM and a made-up measurement list, and a client for it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .harness import ROOT, NotMeasuredError

PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14)
IMA_ENTRIES = 2_000
START_LIMIT_S = 20.0
ANSWER_LIMIT_S = 120.0
PORT_BASE = int(os.environ.get("VOUCH_BENCH_PORT", "22600"))
"""swtpm's TCP port on loopback; the next one is its control port."""

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 42 + "B"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds."""

    descriptors: int
    memory_bytes: int


class Service:
    """A running VM verifier; made by ``running``."""

    def __init__(self, process: subprocess.Popen[bytes], socket_path: pathlib.Path, ima_bytes: int, tcti: str) -> None:
        self.process = process
        self.socket_path = socket_path
        self.ima_bytes = ima_bytes
        self.tcti = tcti
        self.errors = b""

    def connect(self) -> socket.socket:
        """Return a new connection to the service."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_LIMIT_S)
        connection.connect(str(self.socket_path))
        return connection

    def usage(self) -> Usage:
        """Return open descriptors and resident memory of the service."""
        folder = pathlib.Path("/proc") / str(self.process.pid)
        rss = re.search(r"^VmRSS:\s+(\d+) kB", (folder / "status").read_text(), re.MULTILINE)
        assert rss is not None
        return Usage(len(list((folder / "fd").iterdir())), int(rss[1]) * 1024)

    def stop(self) -> tuple[int, int]:
        """Stop the service; return how many proofs it gave by how many quotes."""
        self.process.send_signal(signal.SIGTERM)
        _, self.errors = self.process.communicate(timeout=60)
        found = re.search(rb"stopped after (\d+) proofs by (\d+) quotes", self.errors)
        if self.process.returncode != 0 or found is None:
            raise RuntimeError(f"the service ended badly: {self.errors[-400:]!r}")
        return int(found[1]), int(found[2])

    def request(self, nonce: bytes) -> bytes:
        """Return the frame that asks for evidence, from the end of the measurement list."""
        body = {
            "id": nonce.hex()[:16],
            "ima_offset": self.ima_bytes,
            "nonce": nonce.hex(),
            "pcrs": list(PCRS),
            "request": "evidence",
            "version": 1,
        }
        encoded = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
        return len(encoded).to_bytes(4, "big") + encoded


def new_nonces(count: int) -> list[bytes]:
    """Return ``count`` fresh nonces."""
    return [secrets.token_bytes(32) for _ in range(count)]


def read_answer(connection: socket.socket) -> dict[str, Any]:
    """Return the result of the next answer; an error answer is an error of the benchmark."""
    size = int.from_bytes(read_exactly(connection, 4), "big")
    answer = json.loads(read_exactly(connection, size))
    if not answer["ok"]:
        raise RuntimeError(f"the service refused: {answer['error']}")
    result: dict[str, Any] = answer["result"]
    return result


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next ``count`` bytes."""
    chunks = bytearray()
    while len(chunks) < count:
        chunk = connection.recv(count - len(chunks))
        if not chunk:
            raise RuntimeError("the service closed the connection")
        chunks += chunk
    return bytes(chunks)


def ask(service: Service, connection: socket.socket, nonces: list[bytes]) -> list[dict[str, Any]]:
    """Send all requests at once, then read all answers; each must carry its own nonce."""
    connection.sendall(b"".join(service.request(nonce) for nonce in nonces))
    results = [read_answer(connection) for _ in nonces]
    if [result["nonce"] for result in results] != [nonce.hex() for nonce in nonces]:
        raise RuntimeError("an answer carries another asker's nonce")
    return results


@contextlib.contextmanager
def running() -> Iterator[Service]:
    """Run a service on a fresh TPM with an attestation key; both are gone afterwards."""
    for program in ("swtpm", "swtpm_setup"):
        if shutil.which(program) is None:
            raise NotMeasuredError(f"{program} is not installed; `make lab-up` installs it")
    with tempfile.TemporaryDirectory(prefix="vouch-bench-") as name, contextlib.ExitStack() as stack:
        work = pathlib.Path(name)
        tcti = stack.enter_context(software_tpm(work))
        make_key(tcti)
        ima_bytes = make_data(work)
        socket_path = work / "verifier.sock"
        options = {"data": work / "data", "run": work / "run", "socket": socket_path, "ima": work / "ima", "tpm": tcti}
        process = subprocess.Popen(
            [sys.executable, "-m", "vouch.daemon", *(part for k, v in options.items() for part in (f"--{k}", str(v)))],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "module_utils")},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        stack.callback(end, process)
        wait_until(socket_path.exists, process, "the service")
        yield Service(process, socket_path, ima_bytes, tcti)


@contextlib.contextmanager
def software_tpm(work: pathlib.Path) -> Iterator[str]:
    """Run a fresh swtpm on loopback; give its TCTI."""
    state = work / "tpm"
    state.mkdir()
    subprocess.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--pcr-banks", "sha256"], check=True, capture_output=True
    )
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"),
            *("--server", f"type=tcp,port={PORT_BASE},bindaddr=127.0.0.1"),
            *("--ctrl", f"type=tcp,port={PORT_BASE + 1},bindaddr=127.0.0.1"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: listens(PORT_BASE + 1), process, "swtpm")
        yield f"swtpm:host=127.0.0.1,port={PORT_BASE}"
    finally:
        end(process)


def make_key(tcti: str) -> None:
    """Make the attestation key of the TPM behind ``tcti``."""
    from vouch.port.tpm import Tpm

    with Tpm(tcti) as tpm:
        tpm.create_ak()


def open_handles(tcti: str) -> int:
    """Return how many transient objects and sessions the TPM holds. The service must not be connected."""
    from vouch.port.tpm import Tpm

    with Tpm(tcti) as tpm:
        return sum(tpm.open_handles().values())


def make_data(work: pathlib.Path) -> int:
    """Write what the installer leaves on the data partition, and a measurement list; return the list's length."""
    from vouch.parse.imalog import encode_entry, encode_template_data

    (work / "run").mkdir()
    (work / "data" / "ssh").mkdir(parents=True)
    identity = {"host_id": "6a1d2c34-9d55-4a7e-8c51-b1d1f5a0c3e2", "release_id": "00" * 32, "version": 1}
    (work / "data" / "identity.json").write_text(json.dumps(identity))
    (work / "data" / "ssh" / "ssh_host_ed25519_key.pub").write_text(f"{HOST_KEY} bench\n")
    entries = []
    for number in range(IMA_ENTRIES):
        path = f"/usr/lib/example/{number}".encode()
        data = encode_template_data("ima-sig", "sha256", hashlib.sha256(path).digest(), path)
        entries.append(encode_entry(10, "ima-sig", data))
    log = b"".join(entries)
    (work / "ima").write_bytes(log)
    return len(log)


def wait_until(ready: Any, process: subprocess.Popen[bytes], what: str) -> None:
    """Return when ``ready()``; raise when the process ended or time is up."""
    until = time.monotonic() + START_LIMIT_S
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended at start: {process.communicate()[1][-400:]!r}")
        if time.monotonic() > until:
            raise RuntimeError(f"{what} did not start within {START_LIMIT_S} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Say whether somebody listens on loopback; nothing connects, swtpm serves only one."""
    table = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in table)


def end(process: subprocess.Popen[bytes]) -> None:
    """Return when the process is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stderr is not None:
        process.stderr.close()

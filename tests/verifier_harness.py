# SPDX-License-Identifier: GPL-3.0-or-later
"""The real VM verifier on this machine: a software TPM, the service as its own process, a plain client.

Nothing here is faked: the service is started as in dom0, only its paths differ. Used by the tests of ``daemon``, by
the test of the whole path through sshd, and by the benchmark.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.port.tpm import Tpm

from swtpm_fixture import SoftwareTpm, need_swtpm

ROOT = pathlib.Path(__file__).resolve().parents[1]
HOST_ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
RELEASE_ID = "ab" * 32
SSH_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0QLnOWD2GSEHd1BkZYbrkJM2W1yRIqxWGKXyNbyMpF"
PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14]

# Runs the service as dom0's launcher does: isolated, no site-packages, the package as plain ``vouch``.
LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv[1]); from vouch.daemon.__main__ import main; sys.exit(main(sys.argv[2:]))"
)


def ima_entry(number: int, *, name: bytes = b"ima-ng") -> bytes:
    """Return one entry of a binary IMA list."""
    digest = hashlib.sha256(str(number).encode()).digest()
    fields = b"sha256:\0" + digest, b"/usr/bin/program-%d\0" % number
    data = b"".join(len(field).to_bytes(4, "little") + field for field in fields)
    head = (10).to_bytes(4, "little") + hashlib.sha1(data).digest() + len(name).to_bytes(4, "little") + name
    return head + len(data).to_bytes(4, "little") + data


class EnrolledTpm(SoftwareTpm):
    """A running software TPM that holds an attestation key, as the installer leaves it.

    Args:
        folder: For its state.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        need_swtpm()
        super().__init__(folder / "tpm", certificates=False)
        self.start()
        with Tpm(self.tcti) as tpm:
            self.ak_public = tpm.create_ak()

    def tool(self, *argv: str) -> str:
        """Run one of tpm2-tools against it; skip where they are not installed."""
        if shutil.which(argv[0]) is None:
            pytest.skip(f"not installed: {argv[0]}")
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.tcti}
        return subprocess.run(argv, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


class Verifier:
    """The service as a process of its own.

    Args:
        folder: Gets the data partition, the run folder and an IMA list.
        tpm: Address of the TPM.
        ima_entries: Length of the IMA list.
    """

    def __init__(self, folder: pathlib.Path, tpm: str, *, ima_entries: int = 50) -> None:
        self.data, self.run = folder / "data", folder / "run"
        (self.data / "ssh").mkdir(parents=True)
        self.run.mkdir()
        self.socket = self.run / "verifier.sock"
        self.ima = folder / "binary_runtime_measurements"
        self.ima.write_bytes(b"".join(ima_entry(i) for i in range(ima_entries)))
        self.tpm = tpm
        self.ak_public = b""
        identity = {"host_id": HOST_ID, "release_id": RELEASE_ID, "version": 1}
        (self.data / "identity.json").write_text(json.dumps(identity))
        (self.data / "ssh" / "ssh_host_ed25519_key.pub").write_text(f"{SSH_HOST_KEY} root@host\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr = ""

    def start(self) -> Verifier:
        """Return when the service said READY=1, as systemd would wait."""
        notify_path = self.run / "notify"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(notify_path))
            notify.settimeout(30)
            self.process = subprocess.Popen(
                self.argv(),
                env={"NOTIFY_SOCKET": str(notify_path)},
                stderr=subprocess.PIPE,
            )
            assert notify.recv(64) == b"READY=1"
        return self

    def argv(self) -> list[str]:
        """Return the command line."""
        options = {
            "--data": self.data,
            "--run": self.run,
            "--socket": self.socket,
            "--ima": self.ima,
            "--tpm": self.tpm,
            # Services of many tests run at once; a test about channels asks for a port of its own.
            "--guest-port": "",
        }
        head = [sys.executable, "-I", "-S", "-E", "-c", LAUNCH, str(ROOT / "module_utils")]
        return head + [str(part) for option in options.items() for part in option]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the service; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.stderr = self.process.communicate(timeout=30)[1].decode()
        code, self.process = self.process.returncode, None
        return code

    def connect(self) -> PlainClient:
        """Return a connection to the socket."""
        return PlainClient(str(self.socket))

    def descriptors(self) -> int:
        """Return how many descriptors the service holds."""
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_kib(self) -> int:
        """Return the memory the service holds."""
        assert self.process is not None
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


class PlainClient:
    """Frames over the Unix socket, written apart from the code under test."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> PlainClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self.socket.close()

    def send(self, **members: Any) -> None:
        """Send a request."""
        self.send_body(json.dumps({"version": 1, **members}, sort_keys=True, separators=(",", ":")).encode())

    def send_body(self, body: bytes) -> None:
        """Send any bytes as a frame."""
        self.socket.sendall(len(body).to_bytes(4, "big") + body)

    def ask_evidence(self, nonce: bytes, *, ident: str = "1", pcrs: list[int] | None = None, offset: int = 0) -> None:
        """Send a request for evidence."""
        self.send(
            id=ident, request="evidence", nonce=nonce.hex(), pcrs=PCRS if pcrs is None else pcrs, ima_offset=offset
        )

    def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        head = self._stream.read(4)
        assert len(head) == 4, "the service closed the connection"
        found = json.loads(self._stream.read(int.from_bytes(head, "big")))
        assert isinstance(found, dict)
        return found

    def closed(self) -> bool:
        """Say whether the service closed the connection (waits for it)."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True


@contextlib.contextmanager
def running_verifier(folder: pathlib.Path, **options: Any) -> Iterator[Verifier]:
    """Yield a running service with a TPM of its own; both are gone afterwards."""
    tpm = EnrolledTpm(folder)
    try:
        verifier = Verifier(folder, tpm.tcti, **options)
        verifier.ak_public = tpm.ak_public
        verifier.start()
        try:
            yield verifier
        finally:
            if verifier.process is not None:
                verifier.stop()
    finally:
        tpm.stop()


def ask_many(verifier: Verifier, *, requests: int, connections: int) -> dict[str, float]:
    """Ask ``requests`` times over ``connections`` parallel connections; return counts, growth and speed.

    The benchmark calls this with 10,000; every answer must be a success with its own nonce.

    Returns:
        ``requests``, ``seconds``, ``proofs_per_quote``, ``largest_round``, ``fd_growth``, ``rss_growth_kib``. Memory is
        compared with that after a first run of the same shape: what one round needs is no growth, what the second
        run adds is.
    """
    fds = verifier.descriptors()
    _ask_round(verifier, requests, connections)
    _settle(verifier, fds)
    rss = verifier.resident_kib()
    began = time.monotonic()
    sizes = _ask_round(verifier, requests, connections)
    seconds = time.monotonic() - began
    _settle(verifier, fds)
    return {
        "requests": requests,
        "seconds": seconds,
        # Each member of a round reports its size: the sum of 1/size counts the rounds.
        "proofs_per_quote": requests / sum(1 / size for size in sizes),
        "largest_round": max(sizes),
        "fd_growth": verifier.descriptors() - fds,
        "rss_growth_kib": verifier.resident_kib() - rss,
    }


def _settle(verifier: Verifier, fds: int) -> None:
    """Wait until the service saw that the clients hung up."""
    for _ in range(100):
        if verifier.descriptors() <= fds:
            return
        time.sleep(0.05)


def _ask_round(verifier: Verifier, requests: int, connections: int) -> list[int]:
    sizes: list[int] = []
    errors: list[str] = []

    def client(count: int) -> None:
        # The list's last entry only: the speed of the service is asked for, not that of JSON in the test.
        offset = verifier.ima.stat().st_size
        with verifier.connect() as connection:
            nonces = [os.urandom(32) for _ in range(count)]

            def send() -> None:
                for nonce in nonces:
                    connection.ask_evidence(nonce, offset=offset)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            for nonce in nonces:
                answer = connection.answer()
                if not answer["ok"] or answer["result"]["nonce"] != nonce.hex():
                    errors.append(json.dumps(answer)[:200])
                    return
                sizes.append(answer["result"]["merkle"]["size"])
            sender.join()

    counts = [requests // connections + (1 if i < requests % connections else 0) for i in range(connections)]
    threads = [threading.Thread(target=client, args=(count,)) for count in counts if count]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert len(sizes) == requests
    return sizes

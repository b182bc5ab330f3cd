# SPDX-License-Identifier: GPL-3.0-or-later
"""A software TPM 2.0 for tests: made by ``swtpm_setup`` with EK certificates of a CA of its own, served by ``swtpm``.

Everything lives in one folder and is gone with it; ``/var/lib/swtpm-localca`` is neither read nor written. The TPM is
stopped by its own process id. Use the fixtures (a conftest imports them), or ``SoftwareTpm`` as a context manager::

    with SoftwareTpm(folder) as machine, Tpm(machine.tcti) as tpm:
        tpm.create_ak()

One connection at a time: swtpm serves the next client when the last one has closed.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from types import TracebackType

import pytest

START_LIMIT_S = 30.0
START_ATTEMPTS = 5
SETUP_LIMIT_S = 120.0


def missing_tools() -> str:
    """Return what is not installed of swtpm, in words; empty when all is there."""
    tools = [tool for tool in ("swtpm", "swtpm_setup", "swtpm_localca") if shutil.which(tool) is None]
    return f"not installed: {', '.join(tools)}" if tools else ""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 whose successor is free too (swtpm's control channel stands beside it)."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise RuntimeError("no two neighbouring ports are free")


class SoftwareTpm:
    """One software TPM; ``start`` is its power-on, ``stop`` its power-off, its state stays in ``folder``.

    Args:
        folder: Absolute path of an empty or earlier used folder.
        certificates: Make EK certificates (RSA-2048 and ECC P-384, what swtpm_setup makes).
    """

    def __init__(self, folder: pathlib.Path, *, certificates: bool = True) -> None:
        self.folder = folder.resolve()
        self.state = self.folder / "state"
        self.authority = self.folder / "ca"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        if not self.state.is_dir():
            self._manufacture(certificates)

    @property
    def tcti(self) -> str:
        """How TSS libraries reach it while it runs."""
        return f"swtpm:host=127.0.0.1,port={self._port}"

    @property
    def roots(self) -> tuple[bytes, ...]:
        """Root certificates of its EK certificates, DER."""
        return (_der(self.authority / "swtpm-localca-rootca-cert.pem"),)

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """The certificate that issued its EK certificates, DER."""
        return (_der(self.authority / "issuercert.pem"),)

    def start(self) -> None:
        """Power it on; it has done TPM2_Startup(CLEAR) when this returns."""
        for _ in range(START_ATTEMPTS):
            # Another program may take a port between our look and swtpm's bind: then swtpm ends, and we look again.
            if self._start():
                return
        raise RuntimeError(f"swtpm found no free port in {START_ATTEMPTS} attempts")

    def _start(self) -> bool:
        self._port = free_port()
        self._process = subprocess.Popen(
            [
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self.state}",
                "--server",
                f"type=tcp,port={self._port},bindaddr=127.0.0.1",
                "--ctrl",
                f"type=tcp,port={self._port + 1},bindaddr=127.0.0.1",
                "--flags",
                "not-need-init,startup-clear",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                error = self._process.stderr.read().decode() if self._process.stderr else ""
                self.stop()
                if "in use" in error:
                    return False
                raise RuntimeError(f"swtpm ended: {error}")
            # The control channel, because connecting to the other one would be a client.
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port + 1)) == 0:
                    return True
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"swtpm did not listen within {START_LIMIT_S} s")

    def stop(self) -> None:
        """Power it off, without TPM2_Shutdown: a power cut."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()

    def __enter__(self) -> SoftwareTpm:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _manufacture(self, certificates: bool) -> None:
        for path in (self.folder, self.state, self.authority):
            path.mkdir(parents=True, exist_ok=True)
        files = {
            "setup.conf": f"create_certs_tool= {shutil.which('swtpm_localca')}\n"
            f"create_certs_tool_config = {self.folder}/localca.conf\n"
            f"create_certs_tool_options = {self.folder}/localca.options\n"
            "active_pcr_banks = sha256\n",
            "localca.conf": f"statedir = {self.authority}\n"
            f"signingkey = {self.authority}/signkey.pem\n"
            f"issuercert = {self.authority}/issuercert.pem\n"
            f"certserial = {self.authority}/certserial\n",
            "localca.options": "--platform-manufacturer Vouch\n--platform-version 1\n--platform-model test\n",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        command = ["swtpm_setup", "--tpm2", "--config", str(self.folder / "setup.conf"), "--tpmstate", str(self.state)]
        command += ["--pcr-banks", "sha256", "--overwrite"]
        if certificates:
            command.append("--create-ek-cert")
        if os.geteuid() == 0:
            # As root swtpm_setup becomes the user tss, who cannot write here.
            command += ["--runas", "root"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SETUP_LIMIT_S, check=False
        )
        if done.returncode != 0:
            shutil.rmtree(self.state)
            raise RuntimeError(f"swtpm_setup: {done.stdout.decode()[-1000:]}{done.stderr.decode()[-1000:]}")


def need_swtpm() -> None:
    """Skip the test where swtpm is not installed; fail it where CI says it must be."""
    missing = missing_tools()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="module")
def software_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    """A running software TPM with EK certificates, shared by the tests of one file."""
    need_swtpm()
    with SoftwareTpm(tmp_path_factory.mktemp("swtpm")) as machine:
        yield machine


@pytest.fixture
def fresh_software_tpm(tmp_path: pathlib.Path) -> Iterator[SoftwareTpm]:
    """A running software TPM for one test that resets or clears it."""
    need_swtpm()
    with SoftwareTpm(tmp_path / "swtpm") as machine:
        yield machine


def _der(path: pathlib.Path) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)

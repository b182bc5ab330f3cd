# SPDX-License-Identifier: GPL-3.0-or-later
"""A real sshd on loopback, as an ordinary process with a configuration of its own, whose subsystem is our relay."""

from __future__ import annotations

import contextlib
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from swtpm_fixture import free_port
from verifier_harness import Verifier, running_verifier

ROOT = pathlib.Path(__file__).resolve().parents[1]
RELAY_RUN = "import sys; sys.path.insert(0, sys.argv[1]); import relay; sys.exit(relay.main(sys.argv[2]))"
START_LIMIT_S = 30.0


def find_sshd() -> str:
    """Return the path of sshd, or skip; it lies outside most users' search path and wants an absolute name."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None or shutil.which("ssh-keygen") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("sshd is not installed")
        pytest.skip("sshd is not installed")
    return found


class Sshd:
    """sshd with one host key, one authorised key and the subsystem ``vouch``.

    Args:
        folder: For keys and configuration.
        verifier_socket: Where the relay connects to.
    """

    def __init__(self, folder: pathlib.Path, verifier_socket: pathlib.Path) -> None:
        sshd = find_sshd()
        self.folder = folder
        self.user = getpass.getuser()
        self.key_file = self.make_key("user_key")
        self.host_key = self.public(self.make_key("host_key"))
        self.port = free_port()
        authorized = folder / "authorized_keys"
        authorized.write_text(self.public(self.key_file) + "\n")
        relay = ROOT / "module_utils" / "vouch" / "daemon"
        # The user's shell runs the subsystem's line, so the program stands in a file: no quoting to get wrong.
        program = folder / "subsystem"
        program.write_text(
            f"#!{sys.executable} -ISE\nimport sys\nsys.argv[1:] = {[str(relay), str(verifier_socket)]!r}\n{RELAY_RUN}\n"
        )
        program.chmod(0o755)
        config = folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {authorized}\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\nMaxStartups 50\n"
            f"Subsystem vouch {program}\n"
        )
        if os.geteuid() == 0:
            # sshd wants this folder to exist when it starts as root.
            pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")

    def make_key(self, name: str, kind: str = "ed25519") -> pathlib.Path:
        """Return the path of a new private key."""
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True)
        return path

    @staticmethod
    def public(path: pathlib.Path) -> str:
        """Return type and base64 of a key's public half."""
        return " ".join(path.with_suffix(".pub").read_text().split()[:2])

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=10)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verifier]:
    """A running VM verifier with a software TPM, for the tests of one file."""
    with running_verifier(tmp_path_factory.mktemp("verifier")) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def sshd(verifier: Verifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd before it."""
    sshd = Sshd(tmp_path_factory.mktemp("sshd"), verifier.socket)
    yield sshd
    sshd.stop()

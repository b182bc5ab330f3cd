# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces of this machine, and real IKE daemons in them; skips where the machine does not let us.

A namespace is its own network: addresses, routes, IPsec state. What is started in it is stopped by its process id.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.port.vici import Vici

CHARON = "/usr/sbin/charon-systemd"
READY_S = 10.0
T = TypeVar("T")
_NUMBERS = itertools.count(1)

LIBIPSEC = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
MARK = "0x42"

CONFIGURATION = """\
charon-systemd {{
  load = {plugins}
  retransmit_timeout = 0.5
  retransmit_base = 1.0
  retransmit_tries = 3
  plugins {{
    vici {{
      socket = unix://{socket}
    }}
{more}
  }}
  filelog {{
    log {{
      path = {log}
      default = 1
      flush_line = yes
    }}
  }}
}}
"""
PLUGINS = "random nonce x509 constraints pubkey pem openssl kdf gcm kernel-netlink socket-default vici"
"""What a channel needs and no more; the guest's image loads the same."""

USER_SPACE_ESP = f"""
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
    kernel-netlink {{
      fwmark = !{MARK}
    }}
    socket-default {{
      fwmark = {MARK}
    }}
"""
"""ESP by charon itself: its own packets are marked, so that they do not go into the tunnel that they carry."""


class Namespace:
    """One network namespace; ``close`` removes it."""

    def __init__(self, name: str) -> None:
        self.name = f"vouch-{os.getpid()}-{next(_NUMBERS)}-{name}"
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and iproute2")
        done = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this kernel gives no network namespace: {done.stderr.strip()}")
        self.ip("link", "set", "lo", "up")

    def close(self) -> None:
        """Remove it."""
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def ip(self, *argv: str) -> str:
        """Run ip(8) in it; return what it prints."""
        done = subprocess.run(["ip", "-n", self.name, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs ``argv`` in it."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, check: bool = True, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a program in it."""
        return subprocess.run(self.command(*argv), capture_output=True, text=True, check=check, timeout=timeout_s)

    def call(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns in a thread that has entered the namespace."""
        # A pool's new thread, so that the namespace ends with it; its result or error is handed over.
        with concurrent.futures.ThreadPoolExecutor(1, initializer=enter, initargs=(self.name,)) as pool:
            return pool.submit(work).result()


def enter(name: str) -> None:
    """Move the calling thread into a namespace (setns(2), CLONE_NEWNET)."""
    import ctypes

    with open(f"/run/netns/{name}", "rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def connect(left: Namespace, right: Namespace, card: str = "eth0") -> None:
    """Lay a cable between two namespaces: one card in each."""
    left.ip("link", "add", card, "type", "veth", "peer", "name", card, "netns", right.name)
    for space in (left, right):
        # No waiting for duplicate address detection: both ends are ours.
        space.run("sysctl", "-qw", f"net.ipv6.conf.{card}.accept_dad=0")
        space.ip("link", "set", card, "up")


def kernel_has_esp(space: Namespace) -> bool:
    """Say whether the kernel does ESP for IPv6 with AES-GCM."""
    key = "0x" + 72 * "0"
    state = ("src", "fd00::1", "dst", "fd00::2", "proto", "esp", "spi", "0x1")
    argv = ("ip", "-n", space.name, "xfrm", "state")
    made = ("add", *state, "mode", "transport", "aead", "rfc4106(gcm(aes))", key, "128")
    if subprocess.run((*argv, *made), capture_output=True, check=False).returncode != 0:
        return False
    subprocess.run((*argv, "delete", *state), capture_output=True, check=False)
    return True


class Charon:
    """strongSwan's daemon in a namespace, with its own configuration and control socket."""

    def __init__(self, space: Namespace, folder: pathlib.Path) -> None:
        if not pathlib.Path(CHARON).is_file():
            pytest.skip(f"{CHARON} is not installed (charon-systemd)")
        self.socket, self.log = folder / "charon.vici", folder / "charon.log"
        configuration = folder / "strongswan.conf"
        self.user_space = not kernel_has_esp(space)
        plugins, more = (f"kernel-libipsec {PLUGINS}", USER_SPACE_ESP) if self.user_space else (PLUGINS, "")
        if self.user_space and not pathlib.Path(LIBIPSEC).is_file():
            plugins, more = PLUGINS, ""
        configuration.write_text(CONFIGURATION.format(plugins=plugins, more=more, socket=self.socket, log=self.log))
        self._space, self._configuration, self._folder = space, configuration, folder
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        space, configuration, folder = self._space, self._configuration, self._folder
        self._output = (folder / "charon.out").open("ab")
        self.process = subprocess.Popen(
            space.command(CHARON),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "STRONGSWAN_CONF": str(configuration)},
            stdout=self._output,
            stderr=self._output,
            stdin=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + READY_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until_s:
                self.close()
                pytest.skip(f"charon does not start here: {(folder / 'charon.out').read_text()[-500:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with Vici(str(self.socket), timeout_s=1) as vici, contextlib.suppress(UnreachableError):
            return bool(vici.ask("version").message)
        return False

    def close(self) -> None:
        """Stop it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()


@contextlib.contextmanager
def namespace(name: str) -> Iterator[Namespace]:
    """Give a namespace for a while."""
    space = Namespace(name)
    try:
        yield space
    finally:
        space.close()


@contextlib.contextmanager
def charon_in(space: Namespace, folder: pathlib.Path) -> Iterator[Charon]:
    """Give a running daemon for a while."""
    charon = Charon(space, folder)
    try:
        yield charon
    finally:
        charon.close()

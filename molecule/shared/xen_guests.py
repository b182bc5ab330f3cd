# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on a debug host of the lab: started, watched on their console, spoken to, removed. All through SSH to dom0.

One guest runs at a time, at ``ADDRESS``, which it is given by a DHCP server in dom0.

A guest's console is the log that xenconsoled writes, followed from its first byte. What is typed goes to the console's
terminal in dom0. Nothing here waits without a limit.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import re
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ADDRESS = "192.0.2.2"
GUESTS = "/var/lib/vouch/guests"
CONNECT_TIMEOUT_S = 180
COMMAND_TIMEOUT_S = 300
CREATE_TIMEOUT_S = 600
TAIL_CHARS = 6000
PROMPT = b"debug#"
"""Of the shell in a debug guest: roles/guest_image/files/units/vouch-debug.service."""

_CREATING, _CREATED = b"vouch-lab: creating\n", b"vouch-lab: created\n"
_KERNEL_LINE = re.compile(rb"\[ *\d+\.\d+\][^\n]*\n")

START = """
set -eu
xl destroy {name} 2> /dev/null || :
rm -f /var/log/xen/guest-{name}.log
device=$(losetup --find --show {access} {image})
sed "s,@DISK@,$device," > /run/{name}.cfg
echo vouch-lab: creating
timeout {limit} xl create --quiet /run/{name}.cfg
echo vouch-lab: created
vif=vif$(xl domid {name}).0
ip addr add 192.0.2.1/24 dev $vif
printf '%s\\n' "interface $vif" "start {address}" "end {address}" "option subnet 255.255.255.0" \\
    "lease_file /run/{name}.leases" "pidfile /run/{name}.dhcp.pid" > /run/{name}.dhcp
touch /run/{name}.leases
busybox udhcpd /run/{name}.dhcp
exec tail --pid=$PPID --lines=+1 --follow --retry /var/log/xen/guest-{name}.log 2> /dev/null
"""

REMOVE = """
[ ! -s /run/{name}.dhcp.pid ] || kill "$(cat /run/{name}.dhcp.pid)"
xl destroy {name} 2> /dev/null
for turn in 1 2 3 4 5 6 7 8 9 10; do
    devices=$(losetup --noheadings --output NAME --associated {image})
    [ -n "$devices" ] || break
    for device in $devices; do losetup --detach "$device"; done
    sleep 0.5
done
rm -f /run/{name}.*
xl list
losetup --list --noheadings
"""


class GuestError(RuntimeError):
    """A guest did not do what it was waited for; the text ends with its console."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command in a guest said, both streams together, and its exit code."""

    rc: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What a guest is started as.

    Attributes:
        name: Of the domain, unique on the host.
        kind: ``pv`` or ``pvh``.
        kernel: Path in dom0, as are ``initrd`` and ``image``.
        cmdline: Command line of its kernel.
        memory_mb: Its memory.
        mac: Address of its network card.
        writable: Whether it may write to its disk.
    """

    name: str
    kind: str
    kernel: str
    initrd: str
    image: str
    cmdline: str
    memory_mb: int
    mac: str
    writable: bool = False

    def config(self) -> str:
        """Return the configuration for xl, with ``@DISK@`` where its block device belongs."""
        settings: dict[str, object] = {
            "name": self.name,
            "type": self.kind,
            "kernel": self.kernel,
            "ramdisk": self.initrd,
            "cmdline": self.cmdline,
            "memory": self.memory_mb,
            "vcpus": 1,
            "disk": [f"phy:@DISK@,xvda,{'w' if self.writable else 'r'}"],
            "vif": [f"mac={self.mac},script=vif-vouch"],
            "on_poweroff": "preserve",
            "on_reboot": "preserve",
            "on_crash": "preserve",
            # As the lab's VM verifier does it (inventories/lab, vm_verifier_tsc_mode).
            "tsc_mode": "native",
        }
        return "".join(f"{key}={_quoted(value)}\n" for key, value in settings.items())


class XenHost:
    """dom0 of the debug host ``name``, reached on ``port`` of the loopback address with an SSH key it knows.

    All sessions share one connection, since a handshake takes an emulated processor seconds; ``close`` ends it.
    """

    def __init__(self, *, name: str, port: int, key: Path, known_hosts: Path) -> None:
        self.port = port
        self._folder = tempfile.TemporaryDirectory(prefix="vouch-ssh-")
        self._ssh = ["ssh", "-F/dev/null", "-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=yes"]
        self._ssh += [f"-oHostKeyAlias={name}", f"-oUserKnownHostsFile={known_hosts}", f"-i{key}", f"-p{port}"]
        self._ssh += [f"-oConnectTimeout={CONNECT_TIMEOUT_S}", "-oControlMaster=auto"]
        self._ssh += [f"-oControlPath={self._folder.name}/control", "-oControlPersist=yes", "root@127.0.0.1"]

    def close(self) -> None:
        """End the connection and everything that runs over it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*self._ssh, "-Oexit"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
        self._folder.cleanup()

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Return what a shell command of dom0 printed.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run([*self._ssh, command], input=stdin, capture_output=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            raise RuntimeError(f"dom0: exit code {done.returncode} of {command!r}: {said}")
        return done.stdout.decode("utf-8", "replace")

    def wait_until_up(self, limit_s: float) -> None:
        """Return when guests can be started."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                self.run("systemctl is-active xenconsoled.service && xl list")
                # The host's own firewall lets a guest say nothing to it, so not even ask for an address.
                self.run("nft insert rule inet vouch input iifname 'vif*' udp dport 67 accept")
            except (RuntimeError, subprocess.TimeoutExpired):
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
            else:
                return

    def open(self, command: str, *, stdin: bool = False) -> subprocess.Popen[bytes]:
        """Return the running command; its output, or its input where ``stdin`` says so, is a pipe."""
        if stdin:
            return subprocess.Popen([*self._ssh, command], stdin=subprocess.PIPE, bufsize=0)
        return subprocess.Popen(
            [*self._ssh, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    @contextlib.contextmanager
    def guest(self, domain: Domain) -> Iterator[Guest]:
        """Start a guest; it is gone, with its loop device, when the block ends however it ends."""
        guest = Guest(self, domain)
        try:
            guest.start()
            yield guest
        finally:
            guest.close()
            left = self.run(REMOVE.format(name=shlex.quote(domain.name), image=shlex.quote(domain.image)))
        # Words, since one domain's name may begin with another's.
        if {domain.name, domain.image} & set(left.split()):
            raise GuestError(f"{domain.name} left something behind in dom0:\n{left}")


class Guest:
    """One guest.

    Attributes:
        started_at_s: When ``xl create`` began, on the clock of ``time.monotonic``.
        created_in_s: How long ``xl create`` took.
    """

    def __init__(self, host: XenHost, domain: Domain) -> None:
        self.domain = domain
        self.started_at_s = self.created_in_s = 0.0
        self._host = host
        self._console = bytearray()
        self._follow: subprocess.Popen[bytes] | None = None
        self._typing: subprocess.Popen[bytes] | None = None
        self._turns = itertools.count()
        self._prompt_from = 0

    @property
    def console(self) -> str:
        """What the guest wrote on its console, as far as it was read."""
        return self._console.decode("utf-8", "replace")

    def start(self) -> None:
        """Return when ``xl create`` is through.

        Raises:
            GuestError: it failed.
        """
        name = shlex.quote(self.domain.name)
        script = START.format(
            name=name,
            image=shlex.quote(self.domain.image),
            limit=CREATE_TIMEOUT_S,
            address=ADDRESS,
            access="" if self.domain.writable else "--read-only",
        )
        self._follow = self._host.open(script)
        assert self._follow.stdin is not None
        with self._follow.stdin as stream:
            stream.write(self.domain.config().encode())
        self._wait(_CREATING, COMMAND_TIMEOUT_S)
        self.started_at_s = time.monotonic()
        self._wait(_CREATED, CREATE_TIMEOUT_S)
        self.created_in_s = time.monotonic() - self.started_at_s
        del self._console[: self._console.index(_CREATED) + len(_CREATED)]

    def wait_for(self, text: str, limit_s: float) -> float:
        """Return how many seconds after the beginning of ``xl create`` the console showed ``text``.

        Raises:
            GuestError: it did not within ``limit_s`` from now, or the guest crashed.
        """
        self._wait(text.encode(), limit_s)
        return time.monotonic() - self.started_at_s

    def until(self, text: str, limit_s: float) -> str:
        """Return what the console shows from now on, up to ``text`` at least.

        Raises:
            GuestError: ``text`` is not shown within ``limit_s``.
        """
        begin = len(self._console)
        self._wait(text.encode(), limit_s, begin)
        return self._console[begin:].decode("utf-8", "replace")

    def shows_within(self, text: str, limit_s: float) -> bool:
        """Return whether the console shows ``text`` before the time is over."""
        with contextlib.suppress(GuestError):
            self._wait(text.encode(), limit_s)
            return True
        return False

    def type(self, text: str) -> None:
        """Type ``text`` on the console."""
        if self._typing is None:
            path = f"/local/domain/$(xl domid {shlex.quote(self.domain.name)})/console/tty"
            self._typing = self._host.open(f'exec cat > "$(xenstore-read {path})"', stdin=True)
        assert self._typing.stdin is not None
        self._typing.stdin.write(text.encode())

    def run(self, command: str, *, limit_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Return the answer of the shell on the console of a debug guest to ``command``.

        Command and answer travel in base64, so that neither the terminal nor a line of the kernel in their midst can
        change them.

        Raises:
            GuestError: no whole answer within ``limit_s``.
        """
        turn = next(self._turns)
        encoded = base64.b64encode(command.encode()).decode()
        begin, end = f"vouch-begin-{turn}", f"vouch-end-{turn}"
        # What is typed before the shell has set up its terminal is lost.
        self._wait(PROMPT, limit_s, self._prompt_from)
        # In pieces here, so that the echo of this very line is not taken for the answer.
        shell = f'busybox sh -c "$(busybox echo {encoded} | busybox base64 -d)" 2>&1; busybox echo "rc=$?"'
        asked = len(self._console)
        self.type(
            f"busybox echo vouch-''{begin[6:]}; {{ {shell}; }} | busybox base64; busybox echo vouch-''{end[6:]}\n"
        )
        self._wait(end.encode(), limit_s, asked)
        self._prompt_from = self._console.index(end.encode(), asked)
        said = bytes(self._console[asked:])
        said = said[said.index(begin.encode()) + len(begin) : said.index(end.encode())]
        output, _, code = base64.b64decode(_KERNEL_LINE.sub(b"", said)).decode("utf-8", "replace").rpartition("rc=")
        return Answer(rc=int(code), output=output)

    def output_of(self, command: str) -> str:
        """Return the answer to a command that must succeed."""
        answer = self.run(command)
        if answer.rc != 0:
            raise GuestError(f"{self.domain.name}: exit code {answer.rc} of {command!r}: {answer.output}")
        return answer.output

    def state(self) -> str:
        """Return the flags of the domain as ``xl list`` shows them, such as ``-b----`` or ``---sc-``."""
        return self._host.run(f"xl list {shlex.quote(self.domain.name)}").splitlines()[-1].split()[-2]

    def wait_for_network(self, limit_s: float) -> None:
        """Return when the guest has its address and answers to a ping from dom0.

        Raises:
            GuestError: it does not within ``limit_s``.
        """
        deadline = time.monotonic() + limit_s
        while "1 packets received" not in self._host.run(f"busybox ping -c 1 -W 2 {ADDRESS} || :"):
            if time.monotonic() > deadline:
                raise self._error(f"did not answer to a ping within {limit_s:g} s")

    def close(self) -> None:
        """Stop reading and typing; the guest runs on."""
        for process in (self._typing, self._follow):
            if process is not None:
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        stream.close()
                process.kill()
                process.wait()

    def _wait(self, text: bytes, limit_s: float, begin: int = 0) -> None:
        assert self._follow is not None
        assert self._follow.stdout is not None
        deadline = time.monotonic() + limit_s
        while text not in self._console[begin:]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._error(f"did not show {text.decode()!r} within {limit_s:g} s")
            if not _read(self._follow.stdout, self._console, left):
                raise self._error(f"cannot be followed any longer, and did not show {text.decode()!r}")

    def _error(self, what: str) -> GuestError:
        return GuestError(f"{self.domain.name} {what}. Its console:\n{self.console[-TAIL_CHARS:]}")


def _read(stream: IO[bytes], into: bytearray, limit_s: float) -> bool:
    """Append what comes within ``limit_s``, its carriage returns left out; return False at its end."""
    ready, _, _ = select.select([stream], [], [], limit_s)
    if not ready:
        return True
    data = os.read(stream.fileno(), 1 << 16)
    into += data.replace(b"\r", b"")
    return bool(data)


def _quoted(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_quoted(item) for item in value)}]"
    if isinstance(value, str):
        if '"' in value or "\n" in value:
            raise ValueError(f"{value!r} cannot stand in a domain configuration")
        return f'"{value}"'
    return str(value)

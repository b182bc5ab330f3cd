# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that behave like QEMU and swtpm as far as the lab can see, so that its life cycle is tested in seconds.

They open the sockets they are told to, speak enough QMP, write the console, and end as the real ones do: QEMU on
``quit``, swtpm when QEMU's connection is gone.
"""

from __future__ import annotations

import pathlib
import socket
import sys

QEMU = """
import json, os, re, socket, sys, threading, time
words = " ".join(sys.argv)
if "FAIL" in os.environ.get("LAB_FAKE", "") or os.path.exists(__file__ + ".fail"):
    sys.exit("qemu: cannot allocate memory")
tpm = re.search(r"id=tpm,path=([^ ,]+)", words)
if tpm:
    held = socket.socket(socket.AF_UNIX); held.connect(tpm[1])
console = open(re.search(r"id=console,path=([^ ,]+)", words)[1], "wb", buffering=0)
console.write(b"boot 1\\r\\n")
server = socket.socket(socket.AF_UNIX); server.bind(re.search(r"id=qmp,path=([^ ,]+)", words)[1]); server.listen()
ports = []
for port in re.findall(r"hostfwd=tcp:127.0.0.1:(\\d+)-", words):
    listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port))); listener.listen(); ports.append(listener)
boots, log = 1, open(__file__ + ".commands", "a")
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rwb", buffering=0) as stream:
        stream.write(b'{"QMP": {}}\\n')
        for line in stream:
            request = json.loads(line)
            name = request["execute"]
            log.write(name + "\\n"); log.flush()
            stream.write(b'{"return": {}}\\n')
            if name == "device_del":
                stream.write(b'{"event": "DEVICE_DELETED", "data": {"device": "medium0"}}\\n')
            if name == "system_reset":
                boots += 1
                console.write(b"boot %d\\r\\n" % boots)
            if name == "quit":
                os._exit(0)
"""

SWTPM = """
import re, socket, sys
server = socket.socket(socket.AF_UNIX); server.bind(re.search(r"path=([^ ,]+)", " ".join(sys.argv))[1]); server.listen()
connection, _ = server.accept()
while connection.recv(1024):
    pass
"""

SWTPM_SETUP = """
import os, pathlib, sys
if os.path.exists(__file__ + ".fail"):
    sys.exit("swtpm_setup: no")
state = pathlib.Path(sys.argv[sys.argv.index("--tpmstate") + 1])
(state / "tpm2-00.permall").write_bytes(os.urandom(8))
"""


class FakePrograms:
    """Stand-ins for the lab's programs in one folder, which comes first in the search path."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for name, source in (("qemu-system-x86_64", QEMU), ("swtpm", SWTPM), ("swtpm_setup", SWTPM_SETUP)):
            script = folder / name
            script.write_text(f"#!{sys.executable} -I\n{source}")
            script.chmod(0o755)
        self.firmware = folder / "vars.fd"
        self.firmware.write_bytes(b"variables")

    def fail(self, program: str) -> None:
        """Make ``program`` fail from now on."""
        (self.folder / f"{program}.fail").touch()

    def commands(self) -> list[str]:
        """Return the QMP commands that were received, in order."""
        path = self.folder / "qemu-system-x86_64.commands"
        return [line for line in path.read_text().splitlines() if line != "qmp_capabilities"] if path.is_file() else []


def free_port() -> int:
    """Return a port of the loopback address that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_below(folder: pathlib.Path) -> list[str]:
    """Return the command lines of all processes that have ``folder`` in an argument."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{folder}/" in line:
                found.append(line)
    return found


def sockets_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the sockets in the file system under ``folder``."""
    return sorted(path for path in folder.rglob("*") if path.is_socket())

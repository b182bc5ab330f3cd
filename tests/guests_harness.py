# SPDX-License-Identifier: GPL-3.0-or-later
"""The real VM verifier with its keeper and its guests' processes, on a machine without Xen (``sim/fakemachine.py``)."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.order import sign_guest_order
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem
from ansible.module_utils.vouch.model.order import GuestOrder
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.port.tpm import Tpm

from guestparts import Guest, digest
from verifier_harness import HOST_ID, ROOT, EnrolledTpm, Verifier

LAUNCH = (
    "import sys; sys.path[:0] = sys.argv[1:2]; sys.path.append(sys.argv[3]); "
    "from sim.fakemachine import run; sys.exit(run(sys.argv[4:]))"
)
PACKAGE_KEY, ORDER_KEY = generate_private_key(), generate_private_key()
LIGHT_S = 0.1
POLL_S = 0.05
"""How often a store of ours looks whether it is to end; nothing else waits for it."""


class Store:
    """An image store with faults, on a port of its own.

    Attributes:
        blobs: Digest in hex to content.
        asked: Path and range of each request.
        fault: Called with the handler and the content; returns True when it has answered in its own way.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.fault: Callable[[Any, bytes], bool] | None = None
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                store.asked.append((self.path, wanted))
                data = store.blobs.get(self.path.rpartition("/")[2])
                if data is None:
                    self.send_error(404)
                    return
                if store.fault is not None and store.fault(self, data):
                    return
                begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - begin))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data[begin:])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/store"
        threading.Thread(target=self.server.serve_forever, args=(POLL_S,), daemon=True).start()

    def add(self, data: bytes) -> bytes:
        """Return the digest of a blob that can be fetched from now on."""
        self.blobs[digest(data).hex()] = data
        return digest(data)

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()


class Guests(Verifier):
    """The service on a machine that starts guests.

    Args:
        folder: Gets everything.
        tpm: Address of the TPM.
        config: Members of ``verifier.json`` that are not as usual.
    """

    def __init__(self, folder: pathlib.Path, tpm: str, **config: Any) -> None:
        super().__init__(folder, tpm, ima_entries=1)
        self.machine = folder / "machine"
        self.machine.mkdir()
        self.config = folder / "verifier.json"
        members = {
            "version": 1,
            "package_keys": [public_pem(PACKAGE_KEY).decode()],
            "order_keys": [public_pem(ORDER_KEY).decode()],
            "allow_debug": False,
            "light_s": LIGHT_S,
            "heavy_s": 5,
            "boot_limit_s": 600,
            "answer_limit_s": 5,
            "memory_reserve_mb": 64,
            "tsc_mode": "native",
            **config,
        }
        self.config.write_text(json.dumps(members))
        self.store = Store()
        self.envelope = b""

    def argv(self) -> list[str]:
        """Return the command line."""
        head = [sys.executable, "-I", "-S", "-E", "-c", LAUNCH, str(ROOT / "module_utils"), str(self.machine)]
        return [*head, str(ROOT / "tests"), *super().argv()[7:], "--config", str(self.config)]

    def publish(self, guest: Guest | None = None, key: Any = PACKAGE_KEY, **wanted: Any) -> bytes:
        """Put a guest into the store; return the id of its package."""
        guest = guest or Guest()
        for data in guest.files.values():
            self.store.add(data)
        self.envelope = sign_guest_package(guest.package(**wanted), key)
        self.store.add(self.envelope)
        return package_id(self.envelope)

    def challenge(self) -> bytes:
        """Return a challenge."""
        return bytes.fromhex(self.ask({"request": "guest.challenge"})["result"]["challenge"])

    def signed(self, action: str, guest: str, key: Any = ORDER_KEY, **members: Any) -> bytes:
        """Return a signed order."""
        order = GuestOrder(action, HOST_ID, guest, members.pop("challenge", None) or self.challenge())
        return sign_guest_order(order._replace(**members), key)

    def order(self, action: str, guest: str = "g1", **members: Any) -> dict[str, Any]:
        """Give an order; return the answer."""
        return self.give(self.signed(action, guest, **members))

    def start_guest(self, package: bytes, guest: str = "g1", **members: Any) -> dict[str, Any]:
        """Order a start."""
        return self.order("start", guest, package=package, store=self.store.url, **members)

    def give(self, envelope: bytes) -> dict[str, Any]:
        """Give a signed order; return the answer."""
        return self.ask({"request": "guest.order", "order": base64.b64encode(envelope).decode()})

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask on a connection of its own."""
        with self.connect() as client:
            client.send(id="1", **request)
            return client.answer()

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return the guests by id."""
        return {item["id"]: item for item in self.ask({"request": "guest.list"})["result"]["guests"]}

    def trace(self) -> list[str]:
        """Return what was done to the machine."""
        path = self.machine / "trace"
        return path.read_text().splitlines() if path.exists() else []

    def events(self, about: str = "guest.") -> list[dict[str, Any]]:
        """Return the events about guests in the log, or those about the host."""
        lines = (self.run / "eventlog").read_text().splitlines()
        found = [json.loads(line)["content"] for line in lines]
        return [event for event in found if event["event"].startswith(about)]

    def kinds(self) -> list[str]:
        """Return their kinds, in order."""
        return [event["event"].removeprefix("guest.") for event in self.events()]

    def domains(self) -> list[dict[str, Any]]:
        """Return what Xen has."""
        return [json.loads(path.read_text()) for path in sorted(self.machine.glob("domain-*"))]

    def running(self) -> list[str]:
        """Return the names of the domains that are not paused."""
        return [domain["name"] for domain in self.domains() if not domain["paused"]]

    def leftovers(self) -> list[str]:
        """Return what is left of guests: domains, journals, open doors, unfinished downloads."""
        places = (self.machine.glob("domain-*"), self.machine.glob("door-*"), (self.run / "guests").glob("*"))
        found = [path.name for place in places for path in place]
        return found + [path.name for path in (self.data / "blobs").glob("*.part")]

    def behave(self, what: str, name: str = "behave") -> None:
        """Say what the measurer finds from now on."""
        temporary = self.machine / "new"
        temporary.write_text(what)
        temporary.rename(self.machine / name)

    def crash(self, where: str, who: str) -> None:
        """Have processes killed at a point."""
        self.behave(f"{where} {who}", "crash")

    def pid(self, role: str) -> int:
        """Return the process number of ``main`` or ``keeper``."""
        return int((self.machine / role).read_text())

    def restart(self, tpm: EnrolledTpm, authenticode: bytes | None = None) -> None:
        """Restart the machine, into a release's xen.efi where one is given: registers and event log begin anew."""
        self.kill()
        tpm.stop()
        tpm.start()
        self.tpm = tpm.tcti
        if authenticode is not None:
            with Tpm(tpm.tcti) as registers:
                for measured in (b"Calling EFI Application from Boot Option", bytes(4)):
                    registers.extend(4, digest(measured))
                registers.extend(4, authenticode)
        (self.run / "eventlog").unlink()
        self.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill every process as systemd does when the main one died."""
        assert self.process is not None
        children = descendants(self.process.pid)
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self.stderr += self.process.communicate(timeout=30)[1].decode()
        wait_until(lambda: not any(alive(pid) for pid in children), "processes to be gone")
        self.process = None


def descendants(pid: int) -> list[int]:
    """Return the processes below one."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                child = int(path.parent.name)
                found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = 20.0) -> Any:
    """Return what ``condition`` returns as soon as it is true."""
    until_s = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until_s, f"waited in vain for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def guests(folder: pathlib.Path, tpm: str, **config: Any) -> Iterator[Guests]:
    """Yield the running service; afterwards nothing of it is left."""
    verifier = Guests(folder, tpm, **config)
    try:
        verifier.start()
        yield verifier
    finally:
        if verifier.process is not None:
            verifier.kill()
        # Shown with the test that failed.
        print(verifier.stderr)
        verifier.store.close()

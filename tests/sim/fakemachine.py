# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that guests are kept on, without Xen: the VM verifier's processes are the real ones, the rest a folder.

Run by the verifier's own interpreter as plain ``vouch``, so nothing here is but the standard library. Domains are
files; whatever is done to them is a line of ``trace``; ``behave`` says what the measurer finds; ``crash`` names one
point, and which processes are killed there:

    behave   "holds" | "violates" | "unreadable" | "hangs" | "dies" | "fails" | "garbage" | "booting"
    crash    "<point> self" | "<point> keeper" | "<point> all"
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from sim.slots import SimSlots
from vouch.daemon import watcher
from vouch.daemon.__main__ import main
from vouch.daemon.evidence import EvidenceMaker
from vouch.daemon.journal import JournalFolder
from vouch.daemon.machine import Machine
from vouch.errors import UnreachableError, VouchError
from vouch.model.finding import Finding, Severity
from vouch.port.blobs import BlobStore
from vouch.port.domains import MARK
from vouch.port.firewall import Opening
from vouch.port.libcrypto import Libcrypto
from vouch.port.loopdevice import LoopDevice
from vouch.port.xencontrol import DomainInfo

FOLDER = pathlib.Path(os.environ.get("FAKE_MACHINE", "") or sys.argv[2])


def point(name: str) -> None:
    """Crash here, when the test wants that."""
    path = FOLDER / "crash"
    try:
        wanted, who = path.read_text().split()
    except (FileNotFoundError, ValueError):
        return
    if wanted != name:
        return
    path.unlink()
    trace(f"crash {name} {who}")
    if who == "all":
        os.kill(int((FOLDER / "main").read_text()), signal.SIGKILL)
    if who in ("all", "keeper"):
        os.kill(int((FOLDER / "keeper").read_text()), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


def trace(what: str) -> None:
    """Write down what happened, in the order in which it did."""
    fd = os.open(FOLDER / "trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{what}\n".encode())
    os.close(fd)


class FakeDomains:
    """Domains as files, one user at a time."""

    def _change(self, uuid: bytes, change: Any) -> Any:
        with open(FOLDER / "domains.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = FOLDER / f"domain-{uuid.hex()}"
            value = json.loads(path.read_text()) if path.exists() else None
            result, changed = change(value)
            if changed is None:
                path.unlink(missing_ok=True)
            elif changed != value:
                # Renamed into place: a process may be killed in the middle.
                new = FOLDER / f"new-{os.getpid()}"
                new.write_text(json.dumps(changed))
                new.rename(path)
            return result

    def create(self, config: str, pass_fds: Sequence[int]) -> None:
        point("create.before")
        settings = dict(line.split("=", 1) for line in config.splitlines())
        uuid = bytes.fromhex(settings["uuid"].strip('"').replace("-", ""))
        taken = {name: _file(settings[key].strip('"')) for name, key in (("kernel", "kernel"), ("initrd", "ramdisk"))}
        with open(FOLDER / "ids", "a+") as ids:
            fcntl.flock(ids, fcntl.LOCK_EX)
            ids.write("x")
            ids.flush()
            number = os.fstat(ids.fileno()).st_size
        name = settings["name"].strip('"')
        if any(item["name"] == name for item in _all()):
            raise UnreachableError("xl: a domain of that name exists", code="tool.failed")
        value = {"id": number, "name": name, "paused": 1, "reason": -1, "config": config, **taken}
        self._change(uuid, lambda _: (None, value))
        trace(f"create {name} {number}")
        point("create.after")

    def destroy(self, uuid: bytes) -> None:
        point("destroy.before")
        gone = self._change(uuid, lambda value: (value, None))
        if gone is not None:
            trace(f"destroy {gone['name']} {gone['id']}")
        point("destroy.after")

    def find(self, uuid: bytes) -> DomainInfo | None:
        return self._change(uuid, lambda value: (None if value is None else _info(uuid, value), value))

    def look(self, domain_id: int, uuid: bytes) -> DomainInfo | None:
        info = self.find(uuid)
        return info if info is not None and info.domain_id == domain_id else None

    def ours(self) -> dict[bytes, DomainInfo]:
        uuids = [bytes.fromhex(path.name[7:]) for path in sorted(FOLDER.glob("domain-*"))]
        found = ((uuid, self.find(uuid)) for uuid in uuids if uuid.startswith(MARK))
        return {uuid: info for uuid, info in found if info is not None}

    def pause(self, domain_id: int) -> None:
        self._count(domain_id, 1)

    def unpause(self, domain_id: int) -> None:
        point("unpause.before")
        self._count(domain_id, -1)
        point("unpause.after")

    def free_bytes(self) -> int:
        path = FOLDER / "free_mb"
        return (int(path.read_text()) if path.exists() else 4096) << 20

    def _count(self, domain_id: int, step: int) -> None:
        for path in FOLDER.glob("domain-*"):
            uuid = bytes.fromhex(path.name[7:])

            def change(value: Any) -> Any:
                if value is None or value["id"] != domain_id:
                    return False, value
                count = value["paused"] + step
                if count < 0:
                    raise UnreachableError("unpausing a domain that runs", code="xen.failed")
                trace(f"{'pause' if step > 0 else 'unpause'} {value['name']} {domain_id} {count}")
                return True, {**value, "paused": count}

            if self._change(uuid, change):
                return
        raise UnreachableError(f"there is no domain {domain_id}", code="xen.failed")


class FakeFirewall:
    """Open doors as files."""

    def open(self, opening: Opening) -> None:
        point("firewall.before")
        (FOLDER / f"door-{opening.guest}").write_text(json.dumps([opening.card, sorted(opening.services)]))
        trace(f"open {opening.guest}")
        point("firewall.after")

    def close(self, guest: str, card: str) -> None:
        (FOLDER / f"door-{guest}").unlink(missing_ok=True)
        trace(f"close {guest}")


class FakeReport(NamedTuple):
    """A round of checks."""

    phase: str
    violations: tuple[Finding, ...] = ()
    ima_count: int = 0
    ima_head: bytes = bytes(32)
    pause_s: float = 0.0


class FakeMeasurer:
    """Finds what the test says."""

    def __init__(self, domain_id: int, kind: str, profile: object, policy: bytes, package: Any, adopted: bool) -> None:
        self.domain_id, self.rounds = domain_id, 0
        trace(f"measurer {domain_id} {kind} {hashlib.sha256(policy).hexdigest()[:8]}")

    def first(self) -> FakeReport:
        point("first.before")
        trace(f"first {self.domain_id}")
        found = self._round("loaded", "first-behave")
        point("first.after")
        return found

    def light(self) -> FakeReport:
        self.rounds += 1
        return self._round("running", "behave")

    def heavy(self) -> FakeReport:
        trace(f"heavy {self.domain_id}")
        return self._round("running", "behave")

    def _round(self, phase: str, name: str) -> FakeReport:
        path = FOLDER / f"{name}-{self.domain_id}"
        if not path.exists():
            path = FOLDER / name
        what = path.read_text().strip() if path.exists() else "holds"
        if what == "violates":
            bad = Finding(
                code="guest.text.changed",
                severity=Severity.DENY,
                subject="guest",
                expected="one byte",
                actual="another, \n\x1b with controls " + "x" * 500,
            )
            return FakeReport(phase, (bad,))
        if what == "unreadable":
            raise UnreachableError("frame 7 is not mapped", code="guest.memory.unmapped")
        if what == "hangs":
            time.sleep(600)
        if what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "fails":
            raise KeyError("a mistake of ours")
        if what == "garbage":
            garbage = (FOLDER / "garbage").read_bytes()
            for fd in range(3, 64):
                try:
                    os.write(fd, garbage)
                except OSError:
                    continue
            time.sleep(5)
        if what == "booting":
            phase = "booting"
        return FakeReport(phase, (), self.rounds, hashlib.sha256(b"%d" % self.rounds).digest())


def machine(options: dict[str, str], config: Any) -> Machine:
    """Return a process's hold on it."""
    del config
    return Machine(
        domains=FakeDomains(),
        firewall=FakeFirewall(),
        blobs=BlobStore(os.path.join(options["--data"], "blobs"), marks=os.path.join(options["--run"], "compared")),
        measurer=FakeMeasurer,
        attach=_attach,
        verify=Libcrypto().verify_signature,
        slots=SimSlots(FOLDER / "disk", _traced),
    )


def _traced(what: str) -> None:
    """Note a write to the disk, and crash there when the test wants that."""
    trace(what)
    point(f"{what}.before")


def _attach(fd: int, name: str) -> LoopDevice:
    point("attach.before")
    return LoopDevice("/dev/loop-of-the-test", os.dup(fd))


def _file(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _all() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in FOLDER.glob("domain-*")]


def _info(uuid: bytes, value: dict[str, Any]) -> DomainInfo:
    return DomainInfo(value["id"], uuid, value["paused"] > 0, False, value["reason"], 1 << 20)


def _with_points(kind: type, method: str, name: str) -> None:
    """Let a method crash before and after."""
    original = getattr(kind, method)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        label = name.format(*arguments)
        point(f"{label}.before")
        result = original(self, *arguments, **options)
        point(f"{label}.after")
        return result

    setattr(kind, method, wrapped)


def run(arguments: Sequence[str]) -> int:
    """Be one of the VM verifier's processes."""
    role = "keeper" if "--keeper" in arguments else "main"
    (FOLDER / role).write_text(str(os.getpid()))
    _with_points(JournalFolder, "write", "journal.{0.step}")
    _with_points(watcher.GuestProcess, "_ask", "{0[event]}")
    _with_points(EvidenceMaker, "record", "record.{0[event]}")
    assert issubclass(VouchError, Exception)
    return main(arguments, machine)

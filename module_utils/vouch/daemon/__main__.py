# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the VM verifier: ``python3 -I -S -E -m``-like, with every path an option so that tests run the real thing.

Exit codes: 0 after SIGTERM, 1 when it could not start (stderr says why), 2 for a wrong option.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError, VouchError
from ..parse.canonical import load_json
from ..port.ima import SECURITYFS_PATH, ImaLog
from ..port.quotetpm import DEVICE, QuoteTpm
from ..port.servicemanager import notify
from .channels import HostChannels, Key, blob_reader
from .eventlog import EventLog
from .evidence import EvidenceMaker, Identity, read_identity
from .fetch import Fetcher
from .guestport import GuestPort, listen
from .guests import Guests
from .hostorders import HostOrders
from .papers import HostPapers
from .revoke import Revoker
from .server import Server
from .stops import Stops
from .updates import Updates

if TYPE_CHECKING:
    from ..model.verifierconfig import VerifierConfig
    from .machine import Machine

VERSION = "0.1.0"
MAX_FILE_BYTES = 8 * 1024 * 1024
BACKLOG = 1024
BOOT_PCR = 4
"""Tells which xen.efi was started."""

OPTIONS = {
    "--data": "/var/lib/vouch",
    "--run": "/run/vouch",
    "--socket": "/run/vouch/verifier.sock",
    "--group": "",
    "--ima": SECURITYFS_PATH,
    "--tpm": DEVICE,
    "--config": "/etc/vouch/verifier.json",
    "--guest-port": "4461",
    "--keeper": "",
}
"""Every option takes a value, "" for none of it; argparse would cost more start-up than it saves lines. ``--keeper`` is
a descriptor: this process then keeps guests for the main process, which has the other end."""


def main(arguments: Sequence[str], machine: Callable[[dict[str, str], VerifierConfig], Machine] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        arguments: Options.
        machine: What the keeper works with; Xen and all else of dom0 where it is None.
    """
    try:
        options = _options(arguments)
    except UsageError as error:
        _say(str(error))
        return 2
    try:
        if options["--keeper"]:
            _keep(options, machine)
        else:
            _serve(options, sys.orig_argv[: len(sys.orig_argv) - len(arguments)])
    except VouchError as error:
        _say(str(error))
        return 1
    except OSError as error:
        _say(f"{error.filename or options['--socket']}: {error.strerror}")
        return 1
    return 0


def _serve(options: dict[str, str], program: Sequence[str]) -> None:
    run = options["--run"]
    # Two services would write one event log. The lock goes with the process.
    lock = os.open(os.path.join(run, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another VM verifier runs in {run}", code="verifier.running") from None
    tpm = QuoteTpm(options["--tpm"])
    identity, updates = _identity(options["--data"], tpm)
    maker = EvidenceMaker(
        identity=identity,
        tpm=tpm,
        event_log=EventLog(run, tpm),
        ima_log=ImaLog(options["--ima"]),
        now_s=lambda: int(time.time()),
        version=VERSION,
        report=_say,
    )
    try:
        maker.start()
    except VouchError as error:
        # Not the end: who asks is answered with this code, and a TPM that was busy is tried again then.
        _say(str(error))
    guests = Guests(
        log=maker,
        stops=Stops(os.path.join(options["--data"], "stops.json"), maker.counter, _say),
        folder=os.path.join(run, "guests"),
        host=HostOrders(updates, maker, now_s=lambda: int(time.time()), say=_say),
        start=_keeper_starter(options, program) if os.path.exists(options["--config"]) else None,
        host_id=maker.identity.host_id,
        monotonic_s=time.monotonic,
        now_s=lambda: int(time.time()),
        say=_say,
    )
    maker.guests = guests.records
    papers = HostPapers(os.path.join(options["--data"], "papers"))
    read_package = blob_reader(os.path.join(options["--data"], "blobs"), MAX_FILE_BYTES)
    port = _guest_port(options, maker, guests, papers, read_package)
    waker, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    server = Server(
        _listen(options["--socket"], options["--group"]),
        maker,
        guests,
        monotonic_s=time.monotonic,
        papers=papers,
        fetcher=Fetcher(guests.find, read_package, time.monotonic),
        port=port,
        wakeup_fd=waker,
    )
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.drain())
    _notify("READY=1")
    _say("the VM verifier is ready")
    try:
        guests.restore()
    except VouchError as error:
        _say(f"guests are not taken over: {error}")
    server.serve()
    _notify("STOPPING=1")
    os.unlink(options["--socket"])
    _say(f"stopped after {server.proofs} proofs by {server.rounds} quotes")


def _guest_port(
    options: dict[str, str],
    maker: EvidenceMaker,
    guests: Guests,
    papers: HostPapers,
    read_package: Callable[[bytes], bytes],
) -> GuestPort | None:
    """Return where guests ask; None on a host that starts none, or where the port cannot be had, which is said."""
    if not options["--guest-port"] or not os.path.exists(options["--config"]):
        return None
    revoker = Revoker(time.monotonic, _say)
    channels = HostChannels(
        host_id=maker.identity.host_id,
        records=guests.records,
        papers=papers,
        read_package=read_package,
        make_key=_channel_key,
        now_s=lambda: int(time.time()),
        send=revoker.send,
    )
    try:
        port = GuestPort(channels, revoker, listen(int(options["--guest-port"])))
    except VouchError as error:
        _say(f"guests get no channels: {error}")
        return None
    maker.guests, maker.channel_authority = channels.stated, lambda: channels.authority
    guests.ended = channels.ended
    return port


def _channel_key() -> Key:
    # Imported when the first guest asks: a host without channels has no use for it.
    from ..port.libcrypto import Libcrypto

    return Libcrypto().generate_key()


def _keeper_starter(options: dict[str, str], program: Sequence[str]) -> Callable[[socket.socket], int]:
    """Return what starts the keeper: this program once more, with one descriptor of ours."""

    def start(end: socket.socket) -> int:
        given = {**options, "--keeper": str(end.fileno())}
        argv = [sys.executable, *program[1:], *(part for option in given.items() for part in option)]
        os.set_inheritable(end.fileno(), True)
        return os.posix_spawn(argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})

    return start


def _keep(options: dict[str, str], machine: Callable[[dict[str, str], VerifierConfig], Machine] | None) -> None:
    # Imported here: the main process has no use for what guests need.
    from .keeping import keep

    if machine is None:
        from .dom0 import machine_of

        machine = machine_of
    make = machine
    keep(int(options["--keeper"]), options["--config"], options["--run"], _say, lambda config: make(options, config))


def _options(arguments: Sequence[str]) -> dict[str, str]:
    options = dict(OPTIONS)
    if len(arguments) % 2:
        raise UsageError("every option takes a value", code="verifier.option")
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name not in OPTIONS:
            raise UsageError(f"unknown option {name}; known are {', '.join(OPTIONS)}", code="verifier.option")
        options[name] = value
    return options


def _identity(folder: str, tpm: QuoteTpm) -> tuple[Identity, Updates]:
    """Return what the installer left on the data partition, and what updates made of it; the install proof may be
    missing, nothing else."""
    roti_path = os.path.join(folder, "roti.json")
    identity = read_identity(
        load_json(_read(os.path.join(folder, "identity.json")), limit_bytes=MAX_FILE_BYTES),
        _read(os.path.join(folder, "ssh/ssh_host_ed25519_key.pub")).decode("ascii", "replace"),
        load_json(_read(roti_path), limit_bytes=MAX_FILE_BYTES) if os.path.exists(roti_path) else None,
    )
    updates = Updates(
        folder,
        host_id=identity.host_id,
        release_id=identity.release_id,
        pcr4=lambda: tpm.read_pcrs((BOOT_PCR,))[BOOT_PCR],
    )
    return identity._replace(release_id=updates.running, updates=tuple(updates.proofs)), updates


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        return stream.read(MAX_FILE_BYTES + 1) or b""


def _listen(path: str, group: str) -> socket.socket:
    """Return a listening socket at ``path``, mode 0660, of ``group`` when given."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(path):
        # We hold the lock, so whoever made it is gone.
        os.unlink(path)
    before = os.umask(0o117)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    if group:
        import grp

        try:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        except KeyError:
            raise UsageError(f"there is no group {group!r}", code="verifier.option") from None
    listener.listen(BACKLOG)
    return listener


def _notify(state: str) -> None:
    try:
        notify(state)
    except OSError as error:
        # Evidence is not refused because the service manager does not listen.
        _say(f"{error.filename}: {error.strerror}")


def _say(text: str) -> None:
    """Write one line for the journal."""
    os.write(2, f"vouch: {text}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab machine's life: made, started, reset, cut from power, stopped, removed.

Every act may be broken off at any point and done again: a machine is made in steps that each look first, and what
runs is found in ``/proc``, not believed from a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UnreachableError, UsageError
from ..port.command import Runner, run
from ..port.files import make_private_folder, write_atomic
from .accel import choose, kvm_usable
from .machine import (
    LOOPBACK,
    MEDIUM_DEVICE,
    MEDIUM_NODE,
    Firmware,
    MachinePaths,
    MachineSpec,
    medium_backend,
    medium_frontend,
    qemu_argv,
)
from .process import Supervised, wait_until
from .qmp import QmpClient, QmpError
from .swtpm import STATE_FILE, config_files, setup_argv, socket_argv

QEMU = "qemu-system-x86_64"
SWTPM = "swtpm"
TPM_SETUP_TIMEOUT_S = 120.0
SOCKET_TIMEOUT_S = 20.0
QUIT_TIMEOUT_S = 10.0
DETACH_TIMEOUT_S = 10.0
_LOG_TAIL_CHARS = 600
_ACCEPTS = "00010000"
"""``__SO_ACCEPTCON``, the flags of a socket that listens (include/linux/net.h)."""
_BOOT_OFFSET = "boot-offset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How a machine is found.

    Attributes:
        spec: What it was made as; None when it does not exist.
        qemu: Process id; None when the machine is off.
        swtpm: Process id of its TPM.
    """

    spec: MachineSpec | None
    qemu: int | None
    swtpm: int | None

    @property
    def power(self) -> str:
        """``absent``, ``off`` or ``on``."""
        if self.spec is None:
            return "absent"
        return "off" if self.qemu is None else "on"


class Machine:
    """One machine of the lab at ``paths``."""

    def __init__(self, paths: MachinePaths, *, firmware: Firmware | None = None, runner: Runner = run) -> None:
        self.paths = paths
        self._firmware = firmware or Firmware()
        self._run = runner
        self._qemu = Supervised(record=paths.record("qemu"), marker=f"path={paths.qmp_socket},", program=QEMU)
        self._swtpm = Supervised(record=paths.record("swtpm"), marker=f"path={paths.tpm_socket},", program=SWTPM)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs away from the lab directory meanwhile."""
        make_private_folder(self.paths.directory)
        descriptor = os.open(self.paths.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def observe(self) -> Observed:
        """Return how the machine is found now."""
        return Observed(spec=_read_spec(self.paths), qemu=self._qemu.find(), swtpm=self._swtpm.find())

    def check(self, spec: MachineSpec) -> None:
        """Return when ``spec`` can be made here.

        Raises:
            UsageError: a port of another machine (``lab.port``), a smaller disk (``lab.disk``), other hardware while
                the machine runs (``lab.running``), a missing medium (``lab.medium``), KVM where there is none.
        """
        found = self.observe()
        if found.spec is not None and spec.disk_mb < found.spec.disk_mb:
            raise UsageError(
                f"machine {spec.name} has a disk of {found.spec.disk_mb} MB, which cannot shrink to {spec.disk_mb}",
                code="lab.disk",
            )
        if found.spec is not None and found.qemu is not None:
            changes = hardware_changes(found.spec, spec)
            if changes:
                raise UsageError(
                    f"machine {spec.name} is running with other hardware: {', '.join(changes)}",
                    code="lab.running",
                    hint="Stop it first",
                )
        if spec.medium and not Path(spec.medium).is_file():
            raise UsageError(f"medium {spec.medium} does not exist", code="lab.medium")
        for other in self._neighbours():
            shared = {f.host_port for f in spec.forwards} & {f.host_port for f in other.forwards}
            if shared:
                raise UsageError(
                    f"port {min(shared)} of {LOOPBACK} already leads to machine {other.name}",
                    code="lab.port",
                    hint=f"Give machine {spec.name} a host_port of its own",
                )
        choose(spec.accelerator, kvm=_kvm())

    def make(self, spec: MachineSpec) -> bool:
        """Make what is missing of the machine; return whether anything was."""
        self.check(spec)
        changed = False
        make_private_folder(self.paths.folder)
        make_private_folder(self.paths.run)
        if spec.tpm and not (self.paths.tpm / STATE_FILE).is_file():
            self._make_tpm()
            changed = True
        if not self.paths.variables.is_file():
            _copy_whole(Path(self._firmware.variables), self.paths.variables)
            changed = True
        size = spec.disk_mb << 20
        if not self.paths.disk.is_file() or self.paths.disk.stat().st_size < size:
            with self.paths.disk.open("ab") as disk:
                disk.truncate(size)
            changed = True
        if _read_spec(self.paths) != spec:
            # Last, so that a machine with a specification is a whole one.
            write_atomic(self.paths.spec, spec.to_json().encode())
            changed = True
        return changed

    def start(self) -> bool:
        """Switch the machine on; return whether it was off.

        Raises:
            UnreachableError: QEMU or swtpm ended at once; the message holds what they said.
        """
        found = self.observe()
        if found.spec is None:
            raise UsageError(f"there is no machine {self.paths.name}", code="lab.absent")
        if found.qemu is not None:
            return False
        self._clear_run()
        for forward in found.spec.forwards:
            _check_port_free(forward.host_port, self.paths.name)
        accelerator = choose(found.spec.accelerator, kvm=_kvm())
        try:
            if found.spec.tpm:
                self._swtpm.start(socket_argv(self.paths.tpm, self.paths.tpm_socket), log=self.paths.log("swtpm"))
                self._wait_socket(self._swtpm, self.paths.tpm_socket, "swtpm")
            argv = qemu_argv(found.spec, self.paths, accelerator=accelerator, firmware=self._firmware)
            self.paths.console.unlink(missing_ok=True)
            self._qemu.start(argv, log=self.paths.log("qemu"))
            self._wait_socket(self._qemu, self.paths.qmp_socket, "qemu")
        except BaseException:
            self._end()
            raise
        return True

    def stop(self) -> bool:
        """Switch the machine off; return whether anything of it ran."""
        ran = False
        if self._qemu.find() is not None:
            ran = True
            with contextlib.suppress(QmpError), QmpClient(self.paths.qmp_socket) as qmp:
                qmp.request("quit")
            self._qemu.wait_ended(QUIT_TIMEOUT_S)
        return self._end() or ran

    def power_cut(self) -> bool:
        """End the machine without warning, as a pulled plug does; return whether it ran.

        The TPM loses its power too; what it had stored stays.
        """
        ran = self._qemu.kill()
        self._swtpm.kill()
        self._clear_run()
        return ran

    def reset(self) -> None:
        """Press the reset button.

        Raises:
            UsageError: the machine is off.
        """
        self.require_on()
        offset = self.paths.console.stat().st_size if self.paths.console.is_file() else 0
        write_atomic(self.paths.run / _BOOT_OFFSET, str(offset).encode())
        with QmpClient(self.paths.qmp_socket) as qmp:
            qmp.request("system_reset")

    def change_medium(self, medium: str) -> bool:
        """Make ``medium`` (none when empty) the machine's medium, also while it runs; return whether it was another.

        Raises:
            UnreachableError: the machine does not let go of the old medium (``lab.medium``).
        """
        found = self.observe()
        if found.spec is None:
            raise UsageError(f"there is no machine {self.paths.name}", code="lab.absent")
        if found.spec.medium == medium:
            return False
        if found.qemu is not None:
            with QmpClient(self.paths.qmp_socket) as qmp:
                if found.spec.medium:
                    _detach(qmp)
                if medium:
                    qmp.request("blockdev-add", medium_backend(medium))
                    qmp.request("device_add", medium_frontend())
        write_atomic(self.paths.spec, replace(found.spec, medium=medium).to_json().encode())
        return True

    def remove(self) -> bool:
        """Stop the machine and remove all of it; return whether there was anything."""
        ran = self.stop()
        existed = self.paths.folder.exists()
        if existed:
            # Without its specification a half-removed machine counts as absent.
            self.paths.spec.unlink(missing_ok=True)
            shutil.rmtree(self.paths.folder)
        return ran or existed

    def boot_offset(self) -> int:
        """Return where the current boot begins in the console log."""
        try:
            return int((self.paths.run / _BOOT_OFFSET).read_text())
        except (OSError, ValueError):
            return 0

    def is_on(self) -> bool:
        """Return whether QEMU runs."""
        return self._qemu.find() is not None

    def require_on(self) -> None:
        """Return when the machine runs.

        Raises:
            UsageError: it does not (``lab.off``).
        """
        if not self.is_on():
            raise UsageError(f"machine {self.paths.name} is off", code="lab.off", hint="Start it first")

    def _end(self) -> bool:
        ran = self._qemu.stop()
        # swtpm ends by itself when QEMU closed the connection; one that QEMU never reached does not.
        ran = (not self._swtpm.wait_ended(1.0) and self._swtpm.stop()) or ran
        self._clear_run()
        return ran

    def _clear_run(self) -> None:
        self._swtpm.stop()
        if self.paths.run.is_dir():
            for path in self.paths.run.iterdir():
                path.unlink()

    def _wait_socket(self, process: Supervised, path: Path, program: str) -> None:
        wait_until(lambda: _listens(path) or process.find() is None, timeout_s=SOCKET_TIMEOUT_S)
        if process.find() is None or not _listens(path):
            with contextlib.suppress(OSError):
                said = self.paths.log(program).read_text(errors="replace").strip()[-_LOG_TAIL_CHARS:]
                raise UnreachableError(
                    f"{program} of machine {self.paths.name} did not start: {said or 'it said nothing'}",
                    code="lab.start",
                )

    def _make_tpm(self) -> None:
        for path, content in config_files(self.paths.directory).items():
            make_private_folder(path.parent)
            write_atomic(path, content.encode())
        # Made beside its place: a TPM that was interrupted half-way is not taken for a whole one.
        fresh = self.paths.folder / "tpm.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self.paths.tpm, ignore_errors=True)
        make_private_folder(fresh)
        self._run(setup_argv(self.paths.directory, fresh), timeout_s=TPM_SETUP_TIMEOUT_S)
        fresh.rename(self.paths.tpm)

    def _neighbours(self) -> Iterator[MachineSpec]:
        for path in sorted(self.paths.directory.glob("*/machine.json")):
            if path.parent.name != self.paths.name:
                with contextlib.suppress(OSError, UsageError):
                    yield MachineSpec.from_json(path.read_text())


def hardware_changes(old: MachineSpec, new: MachineSpec) -> list[str]:
    """Return ``name old -> new`` for all that differs and cannot change while the machine runs."""
    before, after = old.hardware(), new.hardware()
    return [f"{name} {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]


def _read_spec(paths: MachinePaths) -> MachineSpec | None:
    try:
        return MachineSpec.from_json(paths.spec.read_text())
    except FileNotFoundError:
        return None


def _kvm() -> bool:
    try:
        return kvm_usable(Path("/proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        return False


def _copy_whole(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
    except OSError as exc:
        raise UnreachableError(
            f"firmware {source}: {exc.strerror}", code="lab.firmware", hint="Install the package ovmf"
        ) from exc
    write_atomic(target, content)


def _listens(path: Path) -> bool:
    """Say whether somebody takes connections at ``path``, which is there a moment before (proc_net_unix(5))."""
    sockets = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()
    return any(line.split(maxsplit=7)[3:4] == [_ACCEPTS] and line.endswith(f" {path}") for line in sockets)


def _check_port_free(port: int, name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as exc:
            raise UnreachableError(
                f"machine {name} cannot have port {port} of {LOOPBACK}: {exc.strerror}",
                code="lab.port",
                hint="Another program listens there; choose another host_port",
            ) from exc


def _detach(qmp: QmpClient) -> None:
    qmp.request("device_del", {"id": MEDIUM_DEVICE})
    if qmp.wait_event("DEVICE_DELETED", timeout_s=DETACH_TIMEOUT_S) is None:
        raise UnreachableError("the machine does not let go of its medium", code="lab.medium", hint="Stop it first")
    qmp.request("blockdev-del", {"node-name": MEDIUM_NODE})

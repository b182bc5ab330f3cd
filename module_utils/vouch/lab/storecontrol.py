# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store's process: started, found again, ended.

Files under ``DIRECTORY/store``: ``server.py`` (a copy of ``httpstore``), ``server.json`` (folder and port),
``server.pid``, ``server.log``.
"""

from __future__ import annotations

import contextlib
import json
import pkgutil
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UnreachableError, UsageError
from ..port.files import make_private_folder, write_atomic
from .httpstore import LOOPBACK
from .process import Supervised, wait_until

START_TIMEOUT_S = 20.0
_LOG_TAIL_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """What is served where."""

    folder: str
    port: int

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise UsageError(f"port {self.port} does not exist", code="lab.port")
        if not self.folder.startswith("/"):
            raise UsageError(f"folder {self.folder!r} is no full path", code="lab.path")


class StoreProcess:
    """The store of the lab ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._home = directory / "store"
        script = self._home / "server.py"
        self._script = script
        self._process = Supervised(record=self._home / "server.pid", marker=str(script), program="server.py")

    def pid(self) -> int | None:
        """Return its process id, None when it does not run."""
        return self._process.find()

    def spec(self) -> StoreSpec | None:
        """Return what it was started with last; None when it never was."""
        with contextlib.suppress(OSError, ValueError, TypeError, UsageError):
            return StoreSpec(**json.loads((self._home / "server.json").read_text()))
        return None

    def needs_start(self, spec: StoreSpec) -> bool:
        """Return whether it is off or serves something else."""
        return self.pid() is None or self.spec() != spec

    def start(self, spec: StoreSpec) -> bool:
        """Serve ``spec``; return whether that is new.

        Raises:
            UnreachableError: the port is taken (``lab.port``) or the server did not start (``lab.start``).
        """
        if not self.needs_start(spec):
            return False
        self.stop()
        make_private_folder(self._home)
        make_private_folder(Path(spec.folder))
        write_atomic(self._script, _source())
        write_atomic(self._home / "server.json", json.dumps(asdict(spec), sort_keys=True).encode())
        log = self._home / "server.log"
        argv = [sys.executable, "-I", str(self._script), spec.folder, str(spec.port)]
        self._process.start(argv, log=log)
        wait_until(lambda: _listens(spec.port) or self.pid() is None, timeout_s=START_TIMEOUT_S)
        if self.pid() is None or not _listens(spec.port):
            self._process.stop()
            said = log.read_text(errors="replace").strip().splitlines()
            raise UnreachableError(
                f"the image store did not start on port {spec.port} of {LOOPBACK}: "
                f"{said[-1][:_LOG_TAIL_CHARS] if said else 'it said nothing'}",
                code="lab.start",
            )
        return True

    def stop(self) -> bool:
        """End it; return whether it ran."""
        return self._process.stop()

    def remove(self) -> bool:
        """End it and forget its settings; return whether there was anything. The folder it serves stays."""
        ran = self.stop()
        existed = self._home.exists()
        shutil.rmtree(self._home, ignore_errors=True)
        return ran or existed


def _listens(port: int, connect: Callable[..., socket.socket] = socket.create_connection) -> bool:
    try:
        connect((LOOPBACK, port), 1.0).close()
    except OSError:
        return False
    return True


def _source() -> bytes:
    # The running module may live in a zip file that is gone when the module ends, so the server gets a copy.
    source = pkgutil.get_data(__package__, "httpstore.py")
    if source is None:
        raise UsageError("the image store's program is missing", code="lab.program")
    return source

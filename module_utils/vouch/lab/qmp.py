# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's control socket: one connection, one request at a time, never longer than a time limit.

Source: QEMU Machine Protocol Specification (docs/interop/qmp-spec).
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import UnreachableError

DEFAULT_TIMEOUT_S = 10.0
MAX_MESSAGE_BYTES = 4 << 20


class QmpError(UnreachableError):
    """QEMU could not be asked, or refused. ``kind`` is QEMU's error class, empty when it gave none."""

    code = "lab.qmp"

    def __init__(self, message: str, *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class QmpClient:
    """A connection to the QMP socket ``path``, opened by ``with``."""

    def __init__(self, path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket = connection
        try:
            connection.settimeout(self._timeout_s)
            connection.connect(str(self._path))
            greeting = self._receive(time.monotonic() + self._timeout_s)
            if "QMP" not in greeting:
                raise QmpError(f"{self._path} is no QMP socket")
            self.execute("qmp_capabilities")
        except OSError as exc:
            connection.close()
            raise QmpError(f"{self._path}: {exc.strerror or exc}") from exc
        except QmpError:
            connection.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Return QEMU's answer to ``command``; underscores in argument names mean hyphens.

        Raises:
            QmpError: refused, gone, or no answer in time.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.request(command, named)

    def request(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Return QEMU's answer to ``command``; errors as ``execute``."""
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        deadline = time.monotonic() + self._timeout_s
        try:
            self._connected().sendall(json.dumps(message).encode() + b"\n")
        except OSError as exc:
            raise QmpError(f"{command}: {exc.strerror or exc}") from exc
        while True:
            answer = self._receive(deadline)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                error = answer["error"]
                raise QmpError(f"QEMU refuses {command}: {error.get('desc')}", kind=str(error.get("class", "")))
            self._events.append(answer)

    def wait_event(self, name: str, *, timeout_s: float) -> dict[str, Any] | None:
        """Return the next event ``name``, also one that came earlier; None when there was none in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            for index, event in enumerate(self._events):
                if event.get("event") == name:
                    return self._events.pop(index)
            try:
                self._events.append(self._receive(deadline))
            except QmpError:
                return None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise QmpError("the QMP connection is not open")
        return self._socket

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise QmpError(f"{self._path}: no answer in time")
            try:
                self._connected().settimeout(left)
                chunk = self._connected().recv(65536)
            except OSError as exc:
                raise QmpError(f"{self._path}: {exc.strerror or exc}") from exc
            if not chunk:
                raise QmpError(f"{self._path}: QEMU closed the connection")
            self._buffer += chunk
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                raise QmpError(f"{self._path}: a message longer than {MAX_MESSAGE_BYTES} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as exc:
            raise QmpError(f"{self._path}: not JSON: {exc}") from exc
        if not isinstance(message, dict):
            raise QmpError(f"{self._path}: a message that is no object")
        return message

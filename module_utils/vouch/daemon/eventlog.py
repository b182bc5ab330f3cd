# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's own event log: canonical CEL-JSON lines, each extended into PCR 14 before it takes effect.

An event passes three points, and a crash after any of them is recognised at the next start:

1. ``eventlog.pending`` holds the line, on stable storage. PCR 14 is still the old one: the event never happened.
2. PCR 14 is extended. The register already tells of the event, so the line is completed from ``eventlog.pending``.
3. ``eventlog`` holds the line, then ``eventlog.pending`` goes away.

Anything else (a line missing, altered or added, a foreign extend) means that this log does not describe PCR 14. It is
then never repaired: the service refuses to give evidence, because it could only give one that is false.

Source: TCG Canonical Event Log Format 1.0 r0.41, 5 (JSON); docs/proof.md, "PCR 14".
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Protocol

from ..errors import VouchError
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields

PCR = 14
DIGEST_BYTES = 32
EMPTY_PCR = bytes(DIGEST_BYTES)
CONTENT_TYPE = "vouch"

MAX_LOG_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024

INCONSISTENT = "verifier.eventlog.inconsistent"


class LogTpm(Protocol):
    """What the log needs of a TPM."""

    def read_pcrs(self, indices: tuple[int, ...]) -> dict[int, bytes]:
        """Return SHA-256 PCR values."""
        ...

    def extend(self, pcr: int, digest: bytes) -> None:
        """Extend a SHA-256 PCR."""
        ...


class EventLog:
    """The log in ``folder`` (a tmpfs: it lives as long as PCR 14 does, until the next reset).

    Raises:
        VouchError: by its methods: ``verifier.eventlog.inconsistent``, ``verifier.eventlog.full``,
            ``verifier.eventlog.storage``; and what the TPM raises.
    """

    __slots__ = ("_path", "_pending_path", "_settled", "_tpm", "count", "data", "head")

    def __init__(self, folder: str, tpm: LogTpm) -> None:
        self._path = os.path.join(folder, "eventlog")
        self._pending_path = self._path + ".pending"
        self._tpm = tpm
        self._settled = False
        self.data = b""
        self.count = 0
        self.head = EMPTY_PCR

    def open(self) -> str:
        """Read the log, replay it, hold it against PCR 14; return what had to be repaired ("" for nothing)."""
        if self._settled:
            return ""
        self.data, pending = _read(self._path), _read(self._pending_path)
        torn = len(self.data) - (self.data.rfind(b"\n") + 1)
        if torn and not pending.startswith(self.data[-torn:]):
            raise _inconsistent(f"the log ends in {torn} bytes of no event")
        self.data = self.data[: len(self.data) - torn]
        self.count, self.head = _replay(self.data)
        register = self._tpm.read_pcrs((PCR,))[PCR]
        repaired = self._settle(pending, register)
        if torn and not repaired:
            # A line is only written after its extend, so a torn one cannot stand beside the old register.
            raise _inconsistent("the log ends in an event that PCR 14 does not know")
        self._remove_pending()
        self._settled = True
        return repaired

    def record(self, content: dict[str, Any]) -> None:
        """Return when the event is in PCR 14 and in the log; only then may its effect begin.

        Args:
            content: Canonical JSON members; ``event`` names its kind.
        """
        self.open()
        line = _line(content, self.count)
        if len(line) > MAX_LINE_BYTES or len(self.data) + len(line) > MAX_LOG_BYTES:
            raise VouchError(f"the event log may hold {MAX_LOG_BYTES} bytes", code="verifier.eventlog.full")
        # Until every step is done, the next call replays everything first.
        self._settled = False
        self._write(self._pending_path, line)
        digest = _digest(content)
        self._tpm.extend(PCR, digest)
        self._append(line, digest)
        self._remove_pending()
        self._settled = True

    def require_head(self, register: bytes) -> None:
        """Return when ``register``, a quoted PCR 14, is what this log replays to."""
        if register != self.head:
            raise _inconsistent("something else extended PCR 14")

    def _settle(self, pending: bytes, register: bytes) -> str:
        if register == self.head:
            # Before point 2, or after point 3.
            return ""
        if pending.endswith(b"\n"):
            digest = _replay_line(pending[:-1], self.count)
            if register == _extended(self.head, digest):
                self._write(self._path, self.data)
                self._append(pending, digest)
                return "completed an event that was extended into PCR 14 but not yet in the log"
        raise _inconsistent(f"the log replays to {self.head.hex()}, PCR {PCR} is {register.hex()}")

    def _append(self, line: bytes, digest: bytes) -> None:
        self._write(self._path, line, os.O_APPEND)
        self.data += line
        self.count += 1
        self.head = _extended(self.head, digest)

    def _remove_pending(self) -> None:
        try:
            if os.path.exists(self._pending_path):
                os.unlink(self._pending_path)
        except OSError as error:
            raise VouchError(f"{self._pending_path}: {error.strerror}", code="verifier.eventlog.storage") from None

    @staticmethod
    def _write(path: str, data: bytes, how: int = os.O_TRUNC) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
            try:
                written = os.write(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise VouchError(f"{path}: {error.strerror}", code="verifier.eventlog.storage") from None
        if written != len(data):
            raise VouchError(f"{path}: cut after {written} bytes", code="verifier.eventlog.storage")


def _line(content: dict[str, Any], recnum: int) -> bytes:
    return (
        dump_canonical(
            {
                "content": content,
                "content_type": CONTENT_TYPE,
                "digests": [{"digest": _digest(content).hex(), "hashAlg": "sha256"}],
                "pcr": PCR,
                "recnum": recnum,
            }
        )
        + b"\n"
    )


def _digest(content: dict[str, Any]) -> bytes:
    return hashlib.sha256(dump_canonical(content)).digest()


def _extended(register: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(register + digest).digest()


def _replay(data: bytes) -> tuple[int, bytes]:
    """Return how many events ``data`` holds and the register they lead to."""
    head, count = EMPTY_PCR, 0
    for line in data.split(b"\n")[:-1]:
        head = _extended(head, _replay_line(line, count))
        count += 1
    return count, head


def _replay_line(line: bytes, recnum: int) -> bytes:
    """Return the digest of one line, which must be exactly what we would have written."""
    try:
        content = Fields(load_canonical(line, limit_bytes=MAX_LINE_BYTES), "event").take("content")
        if _line(content, recnum) == line + b"\n":
            return _digest(content)
    except VouchError as error:
        raise _inconsistent(f"event {recnum}: {error}") from None
    raise _inconsistent(f"event {recnum} is not as this service wrote it")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read(MAX_LOG_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise VouchError(f"{path}: {error.strerror}", code="verifier.eventlog.storage") from None
    if len(data) > MAX_LOG_BYTES:
        raise _inconsistent(f"{path} is longer than {MAX_LOG_BYTES} bytes")
    return data


def _inconsistent(problem: str) -> VouchError:
    return VouchError(f"the VM verifier's event log and PCR {PCR} disagree: {problem}", code=INCONSISTENT)

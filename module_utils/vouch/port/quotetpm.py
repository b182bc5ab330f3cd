# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM commands of the VM verifier, spoken to the kernel's device with the standard library alone.

dom0's trusted code is counted, and this service starts on every boot: tpm2-pytss would bring cffi, cryptography and
four C libraries into the measured image, and costs five times the start-up of everything else here. The installer and
the tests use it (``port/tpm.py``); the tests hold both against each other.

No object, session or sequence is ever created: the attestation key is persistent and its empty password travels as a
password authorisation, which takes no slot in the TPM. So nothing can leak. One index of its NV memory is: a counter
that only goes up, for ever; whoever else can command this TPM can do no more with it than that.

Source: TPM 2.0 Library 1.59, Part 3: TPM2_PCR_Read 22.4, TPM2_PCR_Extend 22.2, TPM2_Quote 18.4, TPM2_ReadClock 29.1,
TPM2_ReadPublic 12.4, TPM2_NV_DefineSpace 31.3, TPM2_NV_Increment 31.8, TPM2_NV_Read 31.13; Part 2, 13.4 (TPMA_NV), 6.6
(response codes); Part 1, 18.4 (password authorisation).
"""

from __future__ import annotations

import _socket
import os
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ..errors import UnreachableError, UsageError

AK_HANDLE = 0x81010A00
"""Persistent handle of the attestation key, in the owner's range (TCG registry of reserved handles, 2.3.1)."""

COUNTER_INDEX = 0x01810A00
"""NV index of the host's monotonic counter, in the owner's range (TCG registry of reserved handles, 2.2.1)."""

DEVICE = "device:/dev/tpmrm0"
"""The kernel's resource manager: our transient objects are kept apart from other programs'."""

MAX_RESPONSE_BYTES = 4096
MAX_RETRIES = 10
RETRY_WAIT_S = 0.05
ANSWER_LIMIT_S = 60.0

_ST_NO_SESSIONS, _ST_SESSIONS = 0x8001, 0x8002
_CC_QUOTE, _CC_READ_PUBLIC, _CC_PCR_READ, _CC_READ_CLOCK, _CC_PCR_EXTEND = 0x158, 0x173, 0x17E, 0x181, 0x182
_CC_NV_DEFINE, _CC_NV_INCREMENT, _CC_NV_READ = 0x12A, 0x134, 0x14E
_RH_OWNER = 0x40000001
# TPMA_NV: OWNERWRITE, AUTHWRITE, TPM_NT_COUNTER, OWNERREAD, AUTHREAD, NO_DA; its owner may delete it, which shows.
_COUNTER_ATTRIBUTES = 0x02 | 0x04 | 0x10 | 0x20000 | 0x40000 | 0x2000000
_COUNTER_BYTES = 8
_ALG_SHA256, _ALG_NULL = 0x000B, 0x0010
# TPMS_AUTH_COMMAND: TPM_RS_PW, empty nonce, no attributes, empty password; its size in front.
_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_RETRIED = frozenset((0x908, 0x909, 0x90A, 0x922))
"""TPM_RC_YIELDED, CANCELED, TESTING, RETRY: say it again."""
_RC_LOCKOUT = 0x921
_NO_KEY = frozenset((0x18B, 0x184, 0x910))
"""TPM_RC_HANDLE and TPM_RC_VALUE about the first handle, TPM_RC_REFERENCE_H0: nothing lives there."""


class TpmClock(NamedTuple):
    """TPMS_CLOCK_INFO without the ``safe`` flag."""

    clock_ms: int
    reset_count: int
    restart_count: int


class QuoteTpm:
    """A TPM 2.0 behind a device or, for tests, behind swtpm's TCP port.

    Args:
        address: ``device:/dev/tpmrm0`` or ``swtpm:host=127.0.0.1,port=2321`` (both as TSS writes them).

    Raises:
        UnreachableError: by every command: ``tpm.absent``, ``tpm.busy``, ``tpm.lockout``, ``tpm.ak.missing`` or
            ``tpm.failed`` (another response code, which the message names).
    """

    __slots__ = ("_address", "_fd", "_socket")

    def __init__(self, address: str = DEVICE) -> None:
        self._address = address
        self._fd = -1
        self._socket: _socket.socket | None = None

    def close(self) -> None:
        """Let go of the device; the next command opens it again."""
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd, self._socket = -1, None

    def read_pcrs(self, indices: Sequence[int]) -> dict[int, bytes]:
        """Return the SHA-256 values of ``indices``. The TPM gives at most eight at a time, so not one instant's."""
        values: dict[int, bytes] = {}
        missing = list(indices)
        while missing:
            reply = self._command(_CC_PCR_READ, b"", _selection(missing), sessions=False)
            # pcrUpdateCounter, then TPML_PCR_SELECTION of what is there, then TPML_DIGEST.
            mask = int.from_bytes(reply[11:14], "little") if reply[4:11] == b"\0\0\0\x01\0\x0b\x03" else 0
            got = [i for i in range(24) if mask >> i & 1]
            if not got or not set(got) <= set(missing) or len(reply) != 18 + 34 * len(got):
                raise UnreachableError("the TPM has no SHA-256 bank with these PCRs", code="tpm.bank")
            values.update((i, reply[20 + 34 * n : 52 + 34 * n]) for n, i in enumerate(got))
            missing = [i for i in missing if i not in values]
        return {i: values[i] for i in indices}

    def extend(self, pcr: int, digest: bytes) -> None:
        """Extend the SHA-256 bank of ``pcr``."""
        if len(digest) != 32:
            raise UsageError("PCRs are extended by 32-byte digests", code="digest.length")
        self._command(
            _CC_PCR_EXTEND, struct.pack(">I", pcr), struct.pack(">IH", 1, _ALG_SHA256) + digest, sessions=True
        )

    def quote(self, qualifying: bytes, indices: Sequence[int], ak_handle: int = AK_HANDLE) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE over ``indices`` of the SHA-256 bank, by the key's own scheme."""
        parameters = (
            struct.pack(">H", len(qualifying)) + qualifying + struct.pack(">H", _ALG_NULL) + _selection(indices)
        )
        reply = self._command(_CC_QUOTE, struct.pack(">I", ak_handle), parameters, sessions=True)
        size = int.from_bytes(reply[:2], "big")
        return reply[2 : 2 + size], reply[2 + size :]

    def clock(self) -> TpmClock:
        """Return the clock and the counters of resets and restarts."""
        reply = self._command(_CC_READ_CLOCK, b"", b"", sessions=False)
        return TpmClock(*struct.unpack_from(">QII", reply, 8))

    def ak_public(self, ak_handle: int = AK_HANDLE) -> bytes:
        """Return the attestation key's TPMT_PUBLIC."""
        reply = self._command(_CC_READ_PUBLIC, struct.pack(">I", ak_handle), b"", sessions=False)
        return reply[2 : 2 + int.from_bytes(reply[:2], "big")]

    def increment(self, index: int = COUNTER_INDEX) -> int:
        """Return the counter after one more step; it is made when there is none, and begins where no one before ended.

        Raises:
            UnreachableError: ``tpm.counter.missing`` where the owner has a password, so that none can be made.
        """
        handles = struct.pack(">II", index, index)
        try:
            self._command(_CC_NV_INCREMENT, handles, b"", sessions=True)
        except UnreachableError as error:
            if error.code != "tpm.counter.missing":
                raise
            self._define_counter(index)
            self._command(_CC_NV_INCREMENT, handles, b"", sessions=True)
        return self.counter(index)

    def counter(self, index: int = COUNTER_INDEX) -> int:
        """Return the counter's value.

        Raises:
            UnreachableError: ``tpm.counter.missing``.
        """
        parameters = struct.pack(">HH", _COUNTER_BYTES, 0)
        reply = self._command(_CC_NV_READ, struct.pack(">II", index, index), parameters, sessions=True)
        return int.from_bytes(reply[2 : 2 + _COUNTER_BYTES], "big")

    def _define_counter(self, index: int) -> None:
        public = struct.pack(">IHIHH", index, _ALG_SHA256, _COUNTER_ATTRIBUTES, 0, _COUNTER_BYTES)
        # An empty password, then TPM2B_NV_PUBLIC.
        parameters = struct.pack(">HH", 0, len(public)) + public
        self._command(_CC_NV_DEFINE, struct.pack(">I", _RH_OWNER), parameters, sessions=True)

    def _command(self, code: int, handles: bytes, parameters: bytes, *, sessions: bool) -> bytes:
        """Return the response's parameters."""
        tag = _ST_SESSIONS if sessions else _ST_NO_SESSIONS
        body = handles + (_EMPTY_PASSWORD if sessions else b"") + parameters
        command = struct.pack(">HII", tag, 10 + len(body), code) + body
        for _ in range(MAX_RETRIES):
            reply = self._exchange(command)
            _, size, outcome = struct.unpack_from(">HII", reply)
            if size != len(reply):
                self._give_up("tpm.absent", "answered with a cut response")
            if outcome not in _RETRIED:
                break
            time.sleep(RETRY_WAIT_S)
        if outcome:
            self._refused(code, outcome)
        if not sessions:
            return reply[10:]
        return reply[14 : 14 + int.from_bytes(reply[10:14], "big")]

    def _exchange(self, command: bytes) -> bytes:
        try:
            self._open()
            if self._socket is None:
                os.write(self._fd, command)
                reply = os.read(self._fd, MAX_RESPONSE_BYTES)
            else:
                self._socket.sendall(command)
                reply = self._socket.recv(MAX_RESPONSE_BYTES)
                while 10 <= len(reply) < min(int.from_bytes(reply[2:6], "big"), MAX_RESPONSE_BYTES):
                    more = self._socket.recv(MAX_RESPONSE_BYTES)
                    if not more:
                        break
                    reply += more
        except BlockingIOError:
            self._give_up("tpm.busy", "is busy with a command that did not end")
        except OSError as error:
            if error.errno == 16:  # EBUSY: /dev/tpm0 has one user at a time.
                self._give_up("tpm.busy", "is in use by another program")
            self._give_up("tpm.absent", error.strerror or str(error))
        if len(reply) < 10:
            self._give_up("tpm.absent", "gave no answer")
        return reply

    def _open(self) -> None:
        if self._fd >= 0:
            return
        kind, _, rest = self._address.partition(":")
        if kind == "device":
            self._fd = os.open(rest, os.O_RDWR | os.O_CLOEXEC)
        elif kind == "swtpm":
            options = dict(part.partition("=")[::2] for part in rest.split(","))
            self._socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            self._socket.settimeout(ANSWER_LIMIT_S)
            self._socket.connect((options.get("host", "127.0.0.1"), int(options.get("port", "2321"))))
            self._fd = self._socket.fileno()
        else:
            raise UsageError(f"unknown TPM address {self._address!r}", code="tpm.address")

    def _give_up(self, code: str, problem: str) -> NoReturn:
        self.close()
        raise UnreachableError(f"the TPM at {self._address}: {problem}", code=code) from None

    def _refused(self, command: int, outcome: int) -> NoReturn:
        if outcome == _RC_LOCKOUT:
            raise UnreachableError("the TPM is in lockout", code="tpm.lockout", hint="wait, or reset the lockout")
        if outcome in _RETRIED:
            raise UnreachableError("the TPM stays busy", code="tpm.busy")
        if command in (_CC_QUOTE, _CC_READ_PUBLIC) and outcome in _NO_KEY:
            raise UnreachableError(
                "the TPM holds no attestation key", code="tpm.ak.missing", hint="the TPM was cleared or never enrolled"
            )
        if command in (_CC_NV_INCREMENT, _CC_NV_READ) and outcome in _NO_KEY:
            raise UnreachableError("the TPM has no counter of this host", code="tpm.counter.missing")
        raise UnreachableError(f"the TPM refused command {command:#x} with {outcome:#x}", code="tpm.failed")


def _selection(indices: Sequence[int]) -> bytes:
    """Return TPML_PCR_SELECTION of one SHA-256 bank."""
    mask = 0
    for index in indices:
        mask |= 1 << index
    return struct.pack(">IHB", 1, _ALG_SHA256, 3) + mask.to_bytes(3, "little")

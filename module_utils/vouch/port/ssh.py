# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of the host's one SSH subsystem, ``vouch``.

The host key is never learned here. The caller gives the one key it expects: from the enrolment or, before that, from
the installer's signed statement. Another key ends the connection before anything is asked, and the key that was seen
travels in the error, because to an appraiser a swapped key is a finding and not a nuisance.

Source: RFC 4254, 6.5 (subsystems); docs/proof.md, "The subsystem".
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import paramiko

from ..errors import ParseError, UnreachableError, UsageError, VouchError, shown
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields
from ..parse.frame import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, FrameReader, encode_frame
from .clock import Clock, SystemClock

SUBSYSTEM = "vouch"
PROTOCOL_VERSION = 1
HOST_KEY_TYPE = "ssh-ed25519"
RECEIVE_BYTES = 256 * 1024
MAX_STDERR_BYTES = 4096

_CODE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+){0,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds each step may take."""

    connect_s: float = 15.0
    banner_s: float = 30.0
    auth_s: float = 30.0
    answer_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a host says it is. Display only: nothing of it is proven."""

    product: str
    protocol: int
    host_id: str
    release_id: str
    requests: tuple[str, ...]


class HostKeyMismatchError(UnreachableError):
    """The machine that answered holds another host key than the one expected.

    Attributes:
        expected: Key the caller gave.
        observed: Key that was shown, ``type base64``.
    """

    code = "channel.key.mismatch"

    def __init__(self, address: str, *, expected: str, observed: str) -> None:
        super().__init__(
            f"{address} shows the SSH host key {shown(observed)}, expected {expected}",
            hint="someone stands in between, or the host was installed again: enrol it again if so",
        )
        self.expected = expected
        self.observed = observed


class HostAnswerError(UnreachableError):
    """The VM verifier answered with an error; ``code`` is the host's own."""


class VerifierChannel(Protocol):
    """What the modules need of a host."""

    def hello(self) -> Hello:
        """Return what the host says it is."""
        ...

    def evidence(self, nonce: bytes, pcrs: Sequence[int], *, ima_offset: int = 0) -> bytes:
        """Return evidence as the host wrote it."""
        ...


class SshVerifier:
    """A connection to one host's VM verifier; use it as a context manager.

    Args:
        host: Name or address.
        port: TCP port.
        user: The account whose only service is the subsystem.
        key_file: Private key, OpenSSH or PEM form.
        host_key: The one host key accepted: ``ssh-ed25519 AAAA...``, a comment is ignored.
        limits: Time limits.
        clock: Measures the limits.

    Raises:
        UsageError: ``ssh.key.unusable``, ``ssh.hostkey.unusable``: what the caller gave.
        UnreachableError: ``ssh.connect``, ``ssh.handshake``, ``ssh.auth``, ``ssh.subsystem``, ``ssh.timeout``,
            ``ssh.closed``, ``ssh.answer`` (not the protocol).
        HostKeyMismatchError: ``channel.key.mismatch``.
        HostAnswerError: the host's own code.

    Trust: what comes back is the attester's; only the channel's key is known to be the expected one.
    """

    def __init__(
        self,
        host: str,
        *,
        port: int = 22,
        user: str = "vouch",
        key_file: str,
        host_key: str,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._address = f"{host}:{port}"
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._reader = FrameReader(limit_bytes=MAX_RESPONSE_BYTES)
        self._asked = 0
        self._expected = _host_key(host_key)
        key = _private_key(key_file)
        try:
            connection = socket.create_connection((host, port), timeout=self._limits.connect_s)
        except OSError as error:
            problem = error.strerror or str(error)
            raise UnreachableError(f"{self._address}: {problem}", code="ssh.connect") from None
        self._transport = self._wrap(connection)
        try:
            self._open(user, key)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SshVerifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    @property
    def host_key(self) -> str:
        """The host key of this connection, seen and equal to the expected one."""
        return self._expected

    def hello(self) -> Hello:
        """Return what the host says it is."""
        try:
            fields = Fields(self.ask({"request": "hello"}), "hello")
            hello = Hello(
                product=fields.text("product", maximum_chars=64),
                protocol=fields.integer("protocol"),
                host_id=fields.uuid("host_id"),
                release_id=fields.hex("release_id", 32, empty=True).hex(),
                requests=tuple(shown(item) for item in fields.array("requests", maximum=64)),
            )
            fields.done()
        except ParseError as error:
            raise self._no_answer(error) from None
        return hello

    def evidence(self, nonce: bytes, pcrs: Sequence[int], *, ima_offset: int = 0) -> bytes:
        """Return the evidence for ``nonce`` as canonical JSON, the bytes the host sent.

        Args:
            nonce: 32 fresh random bytes.
            pcrs: Registers to quote, ascending.
            ima_offset: Byte of the host's IMA list from which on it is wanted.
        """
        asked = {"request": "evidence", "nonce": nonce.hex(), "pcrs": list(pcrs), "ima_offset": ima_offset}
        result = self.ask(asked)
        if not isinstance(result, dict) or result.get("nonce") != nonce.hex():
            raise UnreachableError(f"{self._address} answered for another nonce", code="ssh.answer")
        return dump_canonical(result)

    def _wrap(self, connection: socket.socket) -> paramiko.Transport:
        try:
            transport = paramiko.Transport(connection)
        except (paramiko.SSHException, OSError) as error:
            connection.close()
            raise UnreachableError(f"{self._address}: {shown(error)}", code="ssh.handshake") from None
        transport.banner_timeout = self._limits.banner_s
        transport.auth_timeout = self._limits.auth_s
        # The one type that installations make: so a host with several keys shows the one that is expected.
        transport.get_security_options().key_types = (HOST_KEY_TYPE,)
        return transport

    def _open(self, user: str, key: paramiko.PKey) -> None:
        with self._step("ssh.handshake"):
            self._transport.start_client(timeout=self._limits.banner_s)
            # paramiko returns from a handshake that ran out of time; without a verified key this raises.
            shown_key = self._transport.get_remote_server_key()
        observed = f"{shown_key.get_name()} {shown_key.get_base64()}"
        if observed != self._expected:
            raise HostKeyMismatchError(self._address, expected=self._expected, observed=observed)
        with self._step("ssh.auth"):
            if self._transport.auth_publickey(user, key):
                raise UnreachableError(f"{self._address} asks {user} for more than a key", code="ssh.auth")
        with self._step("ssh.subsystem"):
            self._channel = self._transport.open_session(timeout=self._limits.connect_s)
            self._channel.settimeout(self._limits.answer_s)
            self._channel.invoke_subsystem(SUBSYSTEM)

    def ask(self, members: dict[str, Any]) -> Any:
        """Return the ``result`` of the answer to one request.

        Args:
            members: ``request`` and what else the request has.
        """
        ident = self.send(members)
        with self._step("ssh.closed"):
            raw = self._receive(self._limits.answer_s)
        return self._result(raw, ident)

    def send(self, members: dict[str, Any]) -> str:
        """Send one request; return the id that its answers carry."""
        self._asked += 1
        ident = str(self._asked)
        body = dump_canonical({"version": PROTOCOL_VERSION, "id": ident, **members})
        with self._step("ssh.closed"):
            self._channel.sendall(encode_frame(body, limit_bytes=MAX_REQUEST_BYTES))
        return ident

    def next_answer(self, ident: str, limit_s: float) -> Any:
        """Return the next result of a request with many, or None when none came within ``limit_s``."""
        with self._step("ssh.closed"):
            try:
                raw = self._receive(limit_s)
            except TimeoutError:
                return None
        return self._result(raw, ident)

    def _result(self, raw: bytes, ident: str) -> Any:
        try:
            fields = Fields(load_json(raw, limit_bytes=MAX_RESPONSE_BYTES), "answer")
            fields.literal("version", PROTOCOL_VERSION)
            answered, ok = fields.text("id", maximum_chars=64, empty=True), fields.take("ok")
            if ok is True and answered == ident:
                result = fields.take("result")
                fields.done()
                return result
            error = fields.object("error")
            code = error.text("code", maximum_chars=64, pattern=_CODE)
            message = error.text("message", maximum_chars=8192, empty=True)
        except ParseError as error_found:
            raise self._no_answer(error_found) from None
        raise HostAnswerError(f"{self._address}: {shown(message)}", code=code)

    def _receive(self, limit_s: float) -> bytes:
        """Return the next answer's body, within the limits of size and time."""
        until_s = self._clock.monotonic_s() + limit_s
        while True:
            try:
                body = self._reader.next_body()
            except ParseError as error:
                raise self._no_answer(error) from None
            if body is not None:
                return body
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise TimeoutError
            self._channel.settimeout(left_s)
            data = self._channel.recv(RECEIVE_BYTES)
            if not data:
                raise UnreachableError(f"{self._address} ended the session{self._last_words()}", code="ssh.closed")
            self._reader.feed(data)

    def _last_words(self) -> str:
        """Return what the subsystem wrote to stderr, or how it ended."""
        with contextlib.suppress(TimeoutError):
            self._channel.settimeout(1.0)
            words = self._channel.recv_stderr(MAX_STDERR_BYTES)
            if words:
                return f": {shown(words.decode('ascii', 'replace').strip())}"
        if self._channel.exit_status_ready():
            return f" with exit code {self._channel.recv_exit_status()}"
        return ""

    def _no_answer(self, error: ParseError) -> UnreachableError:
        return UnreachableError(f"{self._address} does not speak our protocol: {shown(error)}", code="ssh.answer")

    @contextlib.contextmanager
    def _step(self, code: str) -> Iterator[None]:
        """Name the step in which paramiko, or the network, failed."""
        try:
            yield
        except TimeoutError:
            raise UnreachableError(f"{self._address}: no answer in time ({code})", code="ssh.timeout") from None
        except VouchError:
            raise
        except Exception as error:  # noqa: BLE001 - paramiko hands on whatever its thread met in a hostile peer's bytes
            raise UnreachableError(f"{self._address}: {shown(error) or type(error).__name__}", code=code) from None


def connect(params: Mapping[str, Any], limits: Limits, clock: Clock | None = None) -> SshVerifier:
    """Return the connection that a module's ``HOST_OPTIONS`` describe (``port.hostoptions``)."""
    return SshVerifier(
        params["host"],
        port=params["port"],
        user=params["user"],
        key_file=params["private_key_file"],
        host_key=params["host_key"],
        limits=limits,
        clock=clock,
    )


def _host_key(text: str) -> str:
    """Return type and base64 of a public key's line."""
    parts = text.split()
    if len(parts) < 2 or parts[0] != HOST_KEY_TYPE:
        raise UsageError(
            f"the expected host key is no {HOST_KEY_TYPE} key: {shown(text)}",
            code="ssh.hostkey.unusable",
            hint="give type and base64, as in the enrolment",
        )
    return f"{parts[0]} {parts[1]}"


def _private_key(path: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.SSHException, OSError, ValueError, TypeError) as error:
        # TypeError: the key is encrypted and no password was given.
        raise UsageError(f"private key {path}: {shown(error)}", code="ssh.key.unusable") from None

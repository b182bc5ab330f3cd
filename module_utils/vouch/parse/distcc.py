# SPDX-License-Identifier: GPL-3.0-or-later
"""The distcc protocol, version 1, and the three tokens that a notary adds: one compile job and its answer.

A message is a row of tokens: four letters, eight hexadecimal digits, and for all but ``DIST``, ``ARGC``, ``DONE`` and
``STAT`` as many bytes as the digits say. Their order never varies.

=========  =======================================  ==========================================================
token      digits                                   bytes
=========  =======================================  ==========================================================
request
``NOTA``   32; only from a dispatcher               nonce of this job
``DIST``   1: the version
``ARGC``   number of arguments, 1 to 1024
``ARGV``   length, once for each argument           the argument, UTF-8 without NUL
``DOTI``   length                                   preprocessed source
answer
``DONE``   1: the version
``STAT``   wait status of the compiler, 16 bits
``SERR``   length                                   what the compiler said on standard error
``SOUT``   length                                   what it said on standard output
``DOTO``   length; 0 when the status is not         the object
``WKEY``   length; only in answer to ``NOTA``       signed endorsement of the work key
``PROV``   length; only in answer to ``NOTA``       signed statement about the job
=========  =======================================  ==========================================================

``NOTA`` comes first, where a plain distccd wants ``DIST``: it refuses such a request before it reads the job, so no
job that has to be notarised is ever done by a node that is none. Versions 2 (compressed) and 3 (pump) are refused.

Source: distcc 3.4, doc/protocol-1.txt, doc/protocol-3.txt; docs/provenance.md.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import ParseError, shown

VERSION = 1
HEADER_BYTES = 12
NONCE_BYTES = 32

MAX_ARGUMENTS = 1024
MAX_ARGUMENT_BYTES = 4096
MAX_ARGUMENTS_BYTES = 512 * 1024
"""All arguments of a job together; a statement repeats them."""

MAX_SOURCE_BYTES = 64 * 1024 * 1024
MAX_OBJECT_BYTES = 64 * 1024 * 1024
MAX_OUTPUT_BYTES = 8 * 1024 * 1024
"""Standard error and standard output, each."""

MAX_ENDORSEMENT_BYTES = 16 * 1024
MAX_STATEMENT_BYTES = 8 * 1024 * 1024
MAX_STATUS = 0xFFFF

_DIGITS = frozenset(b"0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistccRequest:
    """One job.

    Attributes:
        nonce: The dispatcher's; None of a plain client.
        arguments: The compiler's command line, its name first.
        source: What is compiled, preprocessed.
    """

    nonce: bytes | None
    arguments: tuple[str, ...]
    source: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DistccAnswer:
    """What came of a job.

    Attributes:
        status: The compiler's wait status, ``exit code << 8 | signal``; 0 is success.
        stderr: What it said.
        stdout: What it said there.
        object: The object file; empty when the status is not 0.
        endorsement: Signed endorsement of the key behind ``statement``; None in a plain answer.
        statement: Signed statement about the job; None in a plain answer.
    """

    status: int
    stderr: bytes
    stdout: bytes
    object: bytes
    endorsement: bytes | None = None
    statement: bytes | None = None


Message = TypeVar("Message", DistccRequest, DistccAnswer)
_Parts = Generator[int, bytes, Message]
"""A reader asks for a number of bytes and is sent exactly these."""


class _Reader(Generic[Message]):
    """Collects bytes as they arrive until one message is whole.

    Trust: the bytes are an attacker's. A length is judged as soon as its digits are there: never more is held than the
    limits above.
    """

    __slots__ = ("_buffer", "_consumed", "_parts", "_wanted", "message")

    def __init__(self, parts: _Parts[Message]) -> None:
        self._parts: _Parts[Message] = parts
        self._buffer = bytearray()
        self._consumed = 0
        self._wanted = next(parts)
        self.message: Message | None = None
        """The message once it is whole."""

    @property
    def partial(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self.message is None and bool(self._buffer or self._consumed)

    def feed(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            ParseError: a code of family ``distcc``. The stream cannot be understood after that.
        """
        self._buffer += data
        while self.message is None and len(self._buffer) >= self._wanted:
            with memoryview(self._buffer) as view:
                part = bytes(view[: self._wanted])
            del self._buffer[: len(part)]
            try:
                self._wanted = self._parts.send(part)
            except StopIteration as stop:
                self.message = stop.value
            except ParseError as error:
                raise ParseError(error.field, self._consumed, error.problem, code=error.code) from None
            self._consumed += len(part)
        if self.message is not None and self._buffer:
            raise ParseError("distcc.end", self._consumed, "something follows the message", code="distcc.trailing")

    def finish(self) -> Message:
        """Return the message; call it where the stream ended.

        Raises:
            ParseError: ``distcc.truncated``.
        """
        if self.message is None:
            missing = self._wanted - len(self._buffer)
            raise ParseError("distcc.end", self._consumed, f"{missing} bytes are missing", code="distcc.truncated")
        return self.message


class RequestReader(_Reader[DistccRequest]):
    """Reads one request.

    >>> reader = RequestReader()
    >>> reader.feed(b"DIST00000001ARGC00000001ARGV00000002ccDOTI00000001;")
    >>> reader.message
    DistccRequest(nonce=None, arguments=('cc',), source=b';')
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_request())


class AnswerReader(_Reader[DistccAnswer]):
    """Reads one answer.

    Args:
        notarised: Whether the request carried a nonce: then, and only then, the answer ends with the two tokens more.
    """

    __slots__ = ()

    def __init__(self, *, notarised: bool) -> None:
        super().__init__(_answer(notarised))


def encode_request(arguments: Sequence[str], source: bytes, nonce: bytes | None = None) -> bytes:
    """Return the bytes of a request; ``source`` and the others keep to the limits above."""
    words = [argument.encode("utf-8") for argument in arguments]
    return b"".join(
        (
            b"" if nonce is None else _token(b"NOTA", nonce),
            b"DIST%08xARGC%08x" % (VERSION, len(words)),
            *(_token(b"ARGV", word) for word in words),
            _token(b"DOTI", source),
        )
    )


def encode_answer(answer: DistccAnswer) -> bytes:
    """Return the bytes of an answer."""
    parts = [
        b"DONE%08xSTAT%08x" % (VERSION, answer.status),
        _token(b"SERR", answer.stderr),
        _token(b"SOUT", answer.stdout),
        _token(b"DOTO", answer.object),
    ]
    if answer.endorsement is not None and answer.statement is not None:
        parts += (_token(b"WKEY", answer.endorsement), _token(b"PROV", answer.statement))
    return b"".join(parts)


def _token(name: bytes, body: bytes) -> bytes:
    return b"%b%08x%b" % (name, len(body), body)


def _request() -> _Parts[DistccRequest]:
    header = yield HEADER_BYTES
    nonce = None
    if header.startswith(b"NOTA"):
        if _number(header, "NOTA") != NONCE_BYTES:
            raise _fail("distcc.nonce", "NOTA", f"a nonce has {NONCE_BYTES} bytes")
        nonce = yield NONCE_BYTES
        header = yield HEADER_BYTES
    _check_version(header, "DIST")
    count = _number((yield HEADER_BYTES), "ARGC")
    if not 1 <= count <= MAX_ARGUMENTS:
        raise _fail("distcc.arguments", "ARGC", f"{count} arguments, allowed are 1 to {MAX_ARGUMENTS}")
    arguments: list[str] = []
    total = 0
    for _ in range(count):
        word = yield from _body("ARGV", MAX_ARGUMENT_BYTES)
        total += len(word)
        if total > MAX_ARGUMENTS_BYTES:
            raise _fail("distcc.too-large", "ARGV", f"more than {MAX_ARGUMENTS_BYTES} bytes of arguments")
        arguments.append(_text(word))
    if not arguments[0]:
        raise _fail("distcc.arguments", "ARGV", "the compiler has no name")
    source = yield from _body("DOTI", MAX_SOURCE_BYTES)
    return DistccRequest(nonce=nonce, arguments=tuple(arguments), source=source)


def _answer(notarised: bool) -> _Parts[DistccAnswer]:
    _check_version((yield HEADER_BYTES), "DONE")
    status = _number((yield HEADER_BYTES), "STAT")
    if status > MAX_STATUS:
        raise _fail("distcc.status", "STAT", f"{status:#x} is no wait status")
    stderr = yield from _body("SERR", MAX_OUTPUT_BYTES)
    stdout = yield from _body("SOUT", MAX_OUTPUT_BYTES)
    found = yield from _body("DOTO", MAX_OBJECT_BYTES)
    if status and found:
        raise _fail("distcc.status", "DOTO", "a compiler that failed has left an object")
    endorsement = statement = None
    if notarised:
        endorsement = yield from _body("WKEY", MAX_ENDORSEMENT_BYTES)
        statement = yield from _body("PROV", MAX_STATEMENT_BYTES)
    return DistccAnswer(
        status=status, stderr=stderr, stdout=stdout, object=found, endorsement=endorsement, statement=statement
    )


def _body(name: str, limit_bytes: int) -> Generator[int, bytes, bytes]:
    length = _number((yield HEADER_BYTES), name)
    if length > limit_bytes:
        raise _fail("distcc.too-large", name, f"{length} bytes, more than the {limit_bytes} allowed")
    return (yield length) if length else b""


def _number(header: bytes, name: str) -> int:
    """Return the number of a token that has to be ``name``."""
    if header[:4] != name.encode("ascii"):
        raise _fail("distcc.token", name, f"another token stands here: {shown(header[:4])}")
    if not _DIGITS.issuperset(header[4:]):
        raise _fail("distcc.number", name, "is not followed by eight lower-case hexadecimal digits")
    return int(header[4:], 16)


def _check_version(header: bytes, name: str) -> None:
    version = _number(header, name)
    if version != VERSION:
        raise _fail(
            "distcc.version", name, f"version {version}: only plain version {VERSION}, no compression and no pump mode"
        )


def _text(word: bytes) -> str:
    if b"\0" in word:
        raise _fail("distcc.arguments", "ARGV", "holds a NUL")
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError:
        raise _fail("distcc.arguments", "ARGV", "is not UTF-8") from None


def _fail(code: str, name: str, problem: str) -> ParseError:
    """Return the error; where it stands in the stream is what the reader adds."""
    return ParseError(f"distcc.{name}", 0, problem, code=code)

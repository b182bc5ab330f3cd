# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to other programs.

A list of arguments, never a shell; a time limit; a small fixed environment; no input unless given; output bounded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from ..errors import UnreachableError, UsageError
from .childend import end_of

DEFAULT_TIMEOUT_S = 120.0
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""Standard output that is kept; a program that writes more failed."""

STDERR_TAIL_BYTES = 2000
"""How much of standard error an error message shows."""

BASE_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
}
"""All that a program gets of our environment, so that its output does not depend on the caller's."""


class CommandError(UnreachableError):
    """A program could not be run, ran too long, or failed.

    Attributes:
        argv0: Name of the program.
        returncode: Its exit code; None when it gave none.
        stderr_tail: The end of its standard error.
    """

    code = "command.failed"

    def __init__(
        self, argv0: str, problem: str, *, returncode: int | None = None, stderr_tail: str = "", code: str | None = None
    ) -> None:
        text = f"{argv0}: {problem}"
        if stderr_tail:
            text += f": {stderr_tail}"
        super().__init__(text, code=code)
        self.argv0 = argv0
        self.returncode = returncode
        self.stderr_tail = stderr_tail


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a program ended."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")


class Runner(Protocol):
    """Anything that runs programs: ``run`` below, or a table of answers in a test."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ok: Sequence[int] = (0,),
    ) -> CommandResult:
        """Run ``argv`` and return how it ended."""
        ...


def run(
    argv: Sequence[str],
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    ok: Sequence[int] = (0,),
) -> CommandResult:
    """Run one program to its end.

    Args:
        argv: Program and arguments; no shell reads them.
        timeout_s: After this the program and everything it started is killed.
        stdin: Its input; none means end of file at once.
        environment: Added to ``BASE_ENVIRONMENT``.
        cwd: Folder it starts in.
        ok: Exit codes that are no failure.

    Raises:
        CommandError: ``command.missing``, ``command.timeout``, ``command.output``, ``command.failed``.
        UsageError: for an empty command or a NUL in an argument.
    """
    if not argv or any("\0" in argument for argument in argv):
        raise UsageError("a command needs a program, and no argument may hold a NUL", code="command.argv")
    with contextlib.ExitStack() as stack:
        # Files, not pipes: a child that leaves a background process behind cannot make us wait for its output.
        out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        source: IO[bytes] | int = subprocess.DEVNULL
        if stdin:
            source = stack.enter_context(tempfile.TemporaryFile())
            source.write(stdin)
            source.seek(0)
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=source,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env={**BASE_ENVIRONMENT, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(argv[0], f"cannot be run: {error.strerror}", code="command.missing") from None
        try:
            returncode = end_of(process, timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            raise CommandError(
                argv[0], f"not done after {timeout_s:g} s", stderr_tail=_tail(err), code="command.timeout"
            ) from None
        except BaseException:
            _kill_group(process)
            raise
        stderr_tail = _tail(err)
        if returncode not in ok:
            raise CommandError(argv[0], f"exit code {returncode}", returncode=returncode, stderr_tail=stderr_tail)
        out.seek(0)
        stdout = out.read(MAX_OUTPUT_BYTES + 1)
        if len(stdout) > MAX_OUTPUT_BYTES:
            raise CommandError(argv[0], f"wrote more than {MAX_OUTPUT_BYTES} bytes", code="command.output")
        err.seek(0)
        return CommandResult(returncode=returncode, stdout=stdout, stderr=err.read(MAX_OUTPUT_BYTES))


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - STDERR_TAIL_BYTES))
    return stream.read(STDERR_TAIL_BYTES).decode("utf-8", "replace").strip()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The child leads its own session, so its process group is its own id and nobody else's.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

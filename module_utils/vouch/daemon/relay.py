# SPDX-License-Identifier: GPL-3.0-or-later
"""What sshd runs as the subsystem ``vouch``: copies between its own stdin/stdout and the VM verifier's socket.

It understands nothing of what passes and holds no right but that to the socket. It ignores its arguments, so it can
also be the login shell of the user ``vouch``: whatever a client asks sshd for, it gets the relay.

It is started once per connection, under emulation on a slow machine, so it imports next to nothing: ``_socket`` is the
C half of ``socket``, whose Python half costs more than all the rest of this program. Run it as
``python3 -I -S -E relay.py``.
"""

from __future__ import annotations

import _socket
import os
import select
import sys

SOCKET_PATH = "/run/vouch/verifier.sock"
CONNECT_LIMIT_S = 30.0
CHUNK_BYTES = 64 * 1024
EXIT_UNREACHABLE = 69
"""EX_UNAVAILABLE of sysexits.h."""


class _Pipe:
    """One direction: at most one chunk is held, and nothing is read while it waits to be written."""

    __slots__ = ("held", "sink", "source")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.held = b""

    def fill(self) -> bool:
        """Read a chunk; False at the end of the source."""
        try:
            self.held = os.read(self.source, CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(self.held)

    def drain(self) -> bool:
        """Write what the sink takes; False when nobody reads it any more."""
        try:
            self.held = self.held[os.write(self.sink, self.held) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def relay(stdin: int, stdout: int, connection: _socket.socket) -> None:
    """Copy both ways until one side ends; what the service has answered until then is delivered.

    The end of stdin is passed on (half close), because a client may send its last request and close.
    """
    there, back = _Pipe(stdin, connection.fileno()), _Pipe(connection.fileno(), stdout)
    for fd in (connection.fileno(), stdout):
        os.set_blocking(fd, False)
    sending = True
    while True:
        readers = [pipe.source for pipe in ((there, back) if sending else (back,)) if not pipe.held]
        writers = [pipe.sink for pipe in (there, back) if pipe.held]
        readable, writable, _ = select.select(readers, writers, [])
        if there.sink in writable and not there.drain():
            sending, there.held = False, b""
        if back.sink in writable and not back.drain():
            return
        if back.source in readable and not back.fill():
            return
        if sending and there.source in readable and not there.fill():
            sending = False
            connection.shutdown(_socket.SHUT_WR)


def main(path: str = SOCKET_PATH) -> int:
    """Connect and relay; the exit code says whether the VM verifier was reachable."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_LIMIT_S)
        connection.connect(path)
    except OSError as error:
        os.write(2, f"vouch: the VM verifier is not reachable at {path}: {error.strerror or error}\n".encode())
        return EXIT_UNREACHABLE
    try:
        relay(0, 1, connection)
    except OSError as error:
        os.write(2, f"vouch: the connection broke: {error.strerror}\n".encode())
        return 1
    finally:
        connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

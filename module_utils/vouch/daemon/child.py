# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that the keeper forks: one for each guest, and short ones for what would make it wait.

Forked, not started anew: an interpreter and its imports take an emulated processor a second. A child keeps nothing of
the keeper but its own end of a socket pair and the standard streams.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import VouchError, shown
from .channel import Channel, pair
from .machine import Machine, Setting

MAX_DESCRIPTORS = 4096

Message = dict[str, Any]
Work = Callable[[Channel], NoReturn]
Errand = Callable[[Machine], Message | None]


class Child:
    """A process of ours.

    Attributes:
        pid: Its number; nobody else's until it was reaped.
        channel: To it.
        on_message: What to do with what it says.
        on_lost: What to do when it ended or said something that is no message; told once.
    """

    __slots__ = ("channel", "on_lost", "on_message", "pid")

    def __init__(
        self, work: Work, *, on_message: Callable[[Message], None], on_lost: Callable[[VouchError], None]
    ) -> None:
        ours, its = pair()
        self.pid = os.fork()
        if self.pid == 0:
            _become(its.detach(), work)
        its.close()
        self.channel = Channel(ours)
        self.on_message, self.on_lost = on_message, on_lost

    def end(self) -> None:
        """Return when the process is gone."""
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def errand(setting: Setting, what: Errand) -> Work:
    """Return the work of a short process: ``what``, then one message, ``done`` or ``failed`` with a code."""

    def work(channel: Channel) -> NoReturn:
        try:
            message: Message = {"op": "done", "result": what(setting.machine()) or {}}
        except VouchError as error:
            message = {"op": "failed", "code": error.code, "message": shown(error.message)}
        except Exception as error:  # noqa: BLE001 (our own mistake: whoever waits is told, and it stands in the log)
            setting.say(f"an errand failed: {type(error).__name__}: {error}")
            message = {"op": "failed", "code": "errand.failed", "message": type(error).__name__}
        with contextlib.suppress(VouchError):
            channel.send(message)
            while channel.sending:
                channel.receive()
        os._exit(0)

    return work


def _become(fd: int, work: Work) -> NoReturn:
    """Be the child: no descriptor, no handler of the keeper's, and no way back into its code."""
    import socket

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, fd)
        os.closerange(fd + 1, MAX_DESCRIPTORS)
        work(Channel(socket.socket(fileno=fd)))
    finally:
        os._exit(1)

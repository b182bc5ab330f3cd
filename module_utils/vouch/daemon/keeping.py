# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper as a process of its own: started by the main process with one end of a socket pair.

It is another program run, not a fork: what the main process holds (TPM, event log, connections) is not in its memory,
and what guests need (signatures, policies, Xen) is not in the main process's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ..errors import ParseError, VouchError
from ..model.verifierconfig import MAX_CONFIG_BYTES, VerifierConfig
from .channel import Channel
from .child import Message
from .hostobey import obey_host
from .keeper import Keeper, stop_on_signals
from .machine import Machine, Setting
from .obey import obey
from .recover import Ticker, recover

CONSOLES = "/var/log/xen"
_OBEY = {"order": obey, "host-order": obey_host}


def keep(
    channel_fd: int,
    config_path: str,
    run: str,
    say: Callable[[str], None],
    machine: Callable[[VerifierConfig], Machine],
) -> None:
    """Keep guests until the main process ends.

    Args:
        channel_fd: To the main process.
        config_path: Of ``verifier.json``.
        run: Folder in memory.
        say: Writes a line to the log.
        machine: Makes a process's hold on this machine.

    Raises:
        VouchError: ``verifier.config``, and what cannot be gone on with.
    """
    config = read_config(config_path)
    channel = Channel(socket.socket(fileno=channel_fd))
    begin, early = _first(channel)
    setting = Setting(
        host_id=str(begin["host_id"]),
        config=config,
        guests=os.path.join(run, "guests"),
        say=say,
        machine=lambda: machine(config),
    )
    keeper = Keeper(
        channel,
        setting,
        on_message=lambda it, message: _OBEY.get(str(message.get("op")), _ignore)(it, message),
        on_tick=Ticker(),
        consoles=CONSOLES if os.path.isdir(CONSOLES) else "",
    )
    stop_on_signals(keeper)
    try:
        recover(keeper, begin["lives"])
        for message in early:
            keeper.hear(message)
        keeper.run()
    finally:
        # Whatever ends this process: a guest that nobody watches does not run.
        keeper.pause_all()


def _ignore(keeper: Keeper, message: Message) -> None:
    """Do nothing about a message that nobody knows."""


def read_config(path: str) -> VerifierConfig:
    """Return the configuration.

    Raises:
        VouchError: ``verifier.config``.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            return VerifierConfig.from_bytes(stream.read(MAX_CONFIG_BYTES + 1) or b"")
    except (OSError, ParseError) as error:
        raise VouchError(f"{path}: {error}", code="verifier.config") from None


def _first(channel: Channel) -> tuple[Message, list[Message]]:
    """Return the first message, and what came with it."""
    while not (messages := channel.receive()):
        pass
    return messages[0], messages[1:]

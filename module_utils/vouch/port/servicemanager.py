# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service tells systemd about itself (sd_notify(3)), and how it marks a line for the journal (sd-daemon(3))."""

from __future__ import annotations

import os
import socket

WARNING = "<4>"
"""Before a line on standard error. What is as urgent is on a guest's console, too."""


def notify(state: str) -> None:
    """Tell systemd, when it asked to be told.

    Raises:
        OSError: it does not listen; ``filename`` is where it should.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            raise OSError(error.errno, error.strerror, address) from None

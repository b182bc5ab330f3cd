# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: somebody is told when a state changes. They may fail; the watch goes on and says so.

A hook is given its time in all, however it spends it, and what it says of its failure is shortened and made printable.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ..errors import UnreachableError, UsageError, shown
from ..port.command import CommandError, run
from .config import WEBHOOK, Hook


def call(hook: Hook, event: Mapping[str, Any]) -> None:
    """Tell one hook of one event; returns when it has taken it.

    Raises:
        UnreachableError: ``hook.webhook`` or ``hook.command``: it refused, failed, or took too long.
    """
    body = json.dumps(event, sort_keys=True).encode()
    if hook.kind == WEBHOOK:
        _post(hook, body)
    else:
        _run(hook, body)


def _post(hook: Hook, body: bytes) -> None:
    # Whoever wrote the configuration may have put a token into the URL: what failed is named by its host alone.
    try:
        url = urllib.parse.urlsplit(hook.url)
    except ValueError:
        raise UnreachableError("webhook: its URL names no host", code="hook.webhook") from None
    name = url.netloc.rpartition("@")[2]
    late = threading.Event()
    try:
        status = _exchange(url, name, body, hook.timeout_s, late)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"took over {hook.timeout_s} s" if late.is_set() else shown(error)
        raise UnreachableError(f"webhook {shown(name)}: {reason}", code="hook.webhook") from None
    # Nobody is followed elsewhere: that would hand the event to somebody whom nobody configured.
    if not 200 <= status < 300:
        raise UnreachableError(f"webhook {shown(name)} answered {status}", code="hook.webhook")


def _exchange(url: urllib.parse.SplitResult, name: str, body: bytes, timeout_s: int, late: threading.Event) -> int:
    """Send a request and return the status of its answer; ``late`` is set when that was cut off."""
    secure = url.scheme == "https"
    if not url.hostname:
        raise ValueError("the URL names no host")
    port = url.port or (443 if secure else 80)
    end_s = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_reach(url.hostname, port, end_s, late))
        # A time limit of a socket is one for each read: who sends a byte now and then would hold a thread for ever. The
        # second descriptor outlives the wrapping of the first one.
        guard = stack.enter_context(stream.dup())
        timer = threading.Timer(max(0.0, end_s - time.monotonic()), _hang_up, (guard, late))
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        if secure:
            context = ssl.create_default_context()
            stream = stack.enter_context(context.wrap_socket(stream, server_hostname=url.hostname))
        connection = http.client.HTTPConnection(url.hostname, port, timeout=timeout_s)
        connection.sock = stream
        headers = {"Host": name, "Content-Type": "application/json", "User-Agent": "vouch-watch", "Connection": "close"}
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("POST", target, body, headers)
        status = connection.getresponse().status
        if late.is_set():
            raise TimeoutError
        return status


def _reach(host: str, port: int, end_s: float, late: threading.Event) -> socket.socket:
    """Connect to the first address of a host that answers: all of them together have until ``end_s``."""
    failure: OSError | None = None
    for *_kind, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            break
        try:
            return socket.create_connection((str(address[0]), port), timeout=left_s)
        except OSError as error:
            failure = error
    if time.monotonic() >= end_s:
        late.set()
    raise failure or OSError("the host has no address")


def _hang_up(guard: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        guard.shutdown(socket.SHUT_RDWR)


def _run(hook: Hook, body: bytes) -> None:
    try:
        run(hook.argv, timeout_s=hook.timeout_s, stdin=body)
    except CommandError as error:
        if error.returncode is not None:
            problem = f"ended with {error.returncode}"
        elif error.code == "command.timeout":
            problem = f"took over {hook.timeout_s} s"
        else:
            problem = shown(error.message)
        words = f": {shown(error.stderr_tail)}" if error.stderr_tail else ""
        raise UnreachableError(f"{shown(hook.argv[0])} {problem}{words}", code="hook.command") from None
    except (OSError, UsageError) as error:
        raise UnreachableError(f"{shown(hook.argv[0])}: {shown(error)}", code="hook.command") from None

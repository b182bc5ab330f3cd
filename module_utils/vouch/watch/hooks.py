# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: somebody is told when a state changes. They may fail; the watch goes on and says so."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from ..errors import UnreachableError, shown
from .config import WEBHOOK, Hook

MAX_ANSWER_BYTES = 64 * 1024
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that a command gets of its surroundings."""


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
    request = urllib.request.Request(  # noqa: S310 - the configuration takes http and https alone
        hook.url, data=body, headers={"Content-Type": "application/json", "User-Agent": "vouch-watch"}, method="POST"
    )
    # Whoever wrote the configuration may have put a token into the URL: what failed is named by its host alone.
    name = request.host
    try:
        with _OPENER.open(request, timeout=hook.timeout_s) as answer:
            answer.read(MAX_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"webhook {name} answered {error.code}", code="hook.webhook") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(f"webhook {name}: {shown(reason)}", code="hook.webhook") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that sends us elsewhere is configured wrongly; following it would hand the event to somebody else."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Follow nobody."""


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def _run(hook: Hook, body: bytes) -> None:
    try:
        done = subprocess.run(
            hook.argv,
            input=body,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=hook.timeout_s,
            env=dict(ENVIRONMENT),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{hook.argv[0]} took over {hook.timeout_s} s", code="hook.command") from None
    except OSError as error:
        raise UnreachableError(f"{hook.argv[0]}: {error.strerror}", code="hook.command") from None
    if done.returncode != 0:
        words = shown(done.stderr[:200].decode("utf-8", "replace").strip())
        raise UnreachableError(f"{hook.argv[0]} ended with {done.returncode}: {words}", code="hook.command")

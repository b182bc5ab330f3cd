# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains made and ended by xl; paused, released and found by libxenctrl.

A domain of ours is known by its UUID: the first bytes are ``MARK``, the others random. So one that is left over is
found whatever was forgotten, and a domain that somebody else made is never touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Protocol

from .tool import ToolError, run_tool
from .xencontrol import DomainInfo, XenControl

XL = "/usr/sbin/xl"
MARK = b"vouch"
CREATE_LIMIT_S = 180.0
DESTROY_LIMIT_S = 60.0
GONE_LIMIT_S = 30.0
"""Time for Xen to give a destroyed domain's memory back."""

POLL_S = 0.1


class Domains(Protocol):
    """What the VM verifier does with domains; ``XlDomains`` is the real form."""

    def create(self, config: str, pass_fds: Sequence[int]) -> None:
        """Make a paused domain; no instruction of it has run."""
        ...

    def destroy(self, uuid: bytes) -> None:
        """Return when no domain with this UUID is left."""
        ...

    def find(self, uuid: bytes) -> DomainInfo | None:
        """Return the domain, or None."""
        ...

    def look(self, domain_id: int, uuid: bytes) -> DomainInfo | None:
        """Return the domain with this number, when it has this UUID."""
        ...

    def ours(self) -> dict[bytes, DomainInfo]:
        """Return every domain of ours by its UUID."""
        ...

    def pause(self, domain_id: int) -> None:
        """Return when no instruction runs any more. Pauses are counted."""
        ...

    def unpause(self, domain_id: int) -> None:
        """Take one pause back."""
        ...

    def free_bytes(self) -> int:
        """Return the memory that nobody has."""
        ...


class XlDomains(XenControl):
    """Domains of the Xen that this runs on.

    Raises:
        UnreachableError: ``xen.absent``, ``xen.failed``, ``tool.missing``, ``tool.timeout``, ``tool.failed``.
    """

    __slots__ = ("_xl",)

    def __init__(self, xl: str = XL) -> None:
        super().__init__()
        self._xl = xl

    def create(self, config: str, pass_fds: Sequence[int]) -> None:
        """Make a paused domain of ``config``; ``-e``: no program stays behind to wait for the domain's end.

        Args:
            config: For xl; it travels in memory, as kernel and initrd do.
            pass_fds: Descriptors that the configuration names as /proc/self/fd/N.
        """
        fd = os.memfd_create("config", 0)
        try:
            os.write(fd, config.encode())
            argv = [self._xl, "create", "-q", "-e", "-p", f"/proc/self/fd/{fd}"]
            run_tool(argv, timeout_s=CREATE_LIMIT_S, pass_fds=(*pass_fds, fd))
        finally:
            os.close(fd)

    def destroy(self, uuid: bytes) -> None:
        """Return when no domain with this UUID is left."""
        deadline_s = time.monotonic() + GONE_LIMIT_S
        info = self.find(uuid)
        while info is not None:
            if not info.dying:
                try:
                    run_tool([self._xl, "destroy", str(info.domain_id)], timeout_s=DESTROY_LIMIT_S)
                except ToolError:
                    if self.find(uuid) is not None and time.monotonic() > deadline_s:
                        raise
            info = self.find(uuid)
            if info is not None:
                if time.monotonic() > deadline_s:
                    raise ToolError(f"domain {info.domain_id} does not go away", code="tool.timeout")
                time.sleep(POLL_S)

    def ours(self) -> dict[bytes, DomainInfo]:
        """Return every domain of ours by its UUID."""
        return {info.uuid: info for info in self.domains().values() if info.uuid.startswith(MARK)}


def new_uuid() -> bytes:
    """Return the UUID of a new domain of ours."""
    return MARK + os.urandom(16 - len(MARK))


def uuid_text(uuid: bytes) -> str:
    """Return a UUID as xl writes it."""
    text = uuid.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

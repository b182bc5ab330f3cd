# SPDX-License-Identifier: GPL-3.0-or-later
"""What the processes that keep guests work with, handed in so that tests can run all of them without Xen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..check.opened import VerifySignature
from ..model.kernelprofile import Profile
from ..model.package import GuestPackage
from ..model.verifierconfig import VerifierConfig
from ..port.blobs import BlobStore
from ..port.domains import Domains
from ..port.firewall import Firewall
from ..port.hostslots import HostSlots
from ..port.loopdevice import LoopDevice


class Report(Protocol):
    """What one round of checks found; ``measure.measurer.Report`` is the real form."""

    @property
    def phase(self) -> str:
        """How far the guest is."""
        ...

    @property
    def violations(self) -> tuple[Any, ...]:
        """Findings: what is no longer as it was approved."""
        ...

    @property
    def ima_count(self) -> int:
        """Entries of its measurement list."""
        ...

    @property
    def ima_head(self) -> bytes:
        """Chain over them."""
        ...

    @property
    def pause_s(self) -> float:
        """How long the guest stood still for it."""
        ...


class Measurer(Protocol):
    """Reads one guest's memory; ``measure.measurer.Measurer`` is the real form."""

    def first(self) -> Report:
        """Check a domain that has not run yet."""
        ...

    def light(self) -> Report:
        """Check what an attacker changes first."""
        ...

    def heavy(self) -> Report:
        """Check everything."""
        ...


class Machine(NamedTuple):
    """One process's hold on the machine it runs on; a process that was forked makes its own.

    Attributes:
        domains: Xen's domains.
        firewall: The host's.
        blobs: Files of guests.
        measurer: Makes the measurer of a domain from its number, kind, profile, policy, package, and
            whether it ran before.
        attach: Makes a block device of an open file (``port.loopdevice.attach``).
        verify: Holds a signature against a key (``check.opened.VerifySignature``).
        slots: The host's own disk; None on a machine that is not updated.
    """

    domains: Domains
    firewall: Firewall
    blobs: BlobStore
    measurer: Callable[[int, str, Profile, bytes, GuestPackage, bool], Measurer]
    attach: Callable[[int, str], LoopDevice]
    verify: VerifySignature
    slots: HostSlots | None = None


class Setting(NamedTuple):
    """What a keeper and the processes it starts are told once."""

    host_id: str
    config: VerifierConfig
    guests: str
    say: Callable[[str], None]
    machine: Callable[[], Machine]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Which inventory host belongs to which group: what the inventory plugin does, without Ansible.

Only hosts that stand in the inventory already get a group. A measured host names its guests itself, so a name that it
made up never becomes a target for plays, and never the name of somebody else's machine: a guest is the inventory host
whose own variables say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..appraise.standings import STATUSES, Worth, worth
from ..model.standing import Standing
from ..port.clock import utc_text
from .register import Register

GROUP_PREFIX = "attestation_"
GROUPS = tuple(f"{GROUP_PREFIX}{status}" for status in STATUSES)


class Subject(NamedTuple):
    """An inventory host that is attested.

    Attributes:
        name: Its name in the inventory.
        on: For a guest: the inventory name of its host. Empty for a measured host.
        guest: For a guest: its id on that host.
        host_id: The host id that the inventory gives it; empty when it gives none.
    """

    name: str
    on: str = ""
    guest: str = ""
    host_id: str = ""


class Placed(NamedTuple):
    """Where a subject belongs now, and what is told of it for display."""

    name: str
    group: str
    facts: dict[str, Any]


def place(subjects: Iterable[Subject], register: Register, *, now_s: int) -> Iterable[Placed]:
    """Yield the group of each subject at ``now_s``; every subject gets exactly one.

    Args:
        subjects: Of the inventory.
        register: Verified standings.
        now_s: Unix seconds.
    """
    for subject in subjects:
        standing = register.guest(subject.on, subject.guest) if subject.on else register.host(subject.name)
        of_host = register.host(subject.on) if subject.on else standing
        found = worth(standing, now_s=now_s)
        if subject.host_id and of_host is not None and of_host.host_id != subject.host_id:
            # The name was given to another machine since.
            found, standing = Worth("none", ("standing.host-id",)), None
        yield Placed(subject.name, f"{GROUP_PREFIX}{found.status}", facts(standing, found, now_s=now_s))


def facts(standing: Standing | None, found: Worth, *, now_s: int) -> dict[str, Any]:
    """Return what templates may show of a subject. The group is the verdict; this is its picture."""
    shown: dict[str, Any] = {"status": found.status, "reasons": list(found.reasons)}
    if standing is not None:
        shown |= {
            "stage": standing.stage,
            "image": standing.image,
            "issued_at": utc_text(standing.issued_at_s),
            "expires_at": utc_text(standing.expires_at_s),
            "expires_in_s": max(0, standing.expires_at_s - now_s),
        }
    return shown


def subject_of(name: str, variables: Mapping[str, Any], *, on: str, guest: str, host_id: str) -> Subject:
    """Return the subject that an inventory host is, by its variables.

    Args:
        name: Its name.
        variables: Its variables as the inventory sources before gave them; templates in them are not evaluated.
        on: Name of the variable that names a guest's host.
        guest: Name of the variable with the guest's id; the host's name when it is not set.
        host_id: Name of the variable with a measured host's id.
    """
    where = variables.get(on)
    known = variables.get(host_id)
    known = known if isinstance(known, str) and "{{" not in known else ""
    if isinstance(where, str) and where:
        own = variables.get(guest)
        return Subject(name, where, own if isinstance(own, str) and own and "{{" not in own else name)
    return Subject(name, host_id=known)

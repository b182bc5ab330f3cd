# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest gets from its host, and whom it can be reached by: the parts of a package that its owner chooses.

Source: docs/guests.md; Xen 4.20, xl.cfg(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import shown
from ..parse.fields import Fields

MIN_MEMORY_MB, MAX_MEMORY_MB = 32, 1 << 20
MAX_VCPUS = 128
MAX_SERVICES = 64
MAX_REASON_CHARS = 1024
DISK = "xvda"

PV, PVH = "pv", "pvh"
DERIVED, REQUESTED, NO_NETWORK = "derived", "requested", "none"
TCP, UDP = "tcp", "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the guest gets: memory, processors, a read-only disk ``xvda`` with the root image.

    Attributes:
        memory_mb: Memory in MiB.
        vcpus: Virtual processors.
        types: Kinds of domain it may be started as, in order; never empty.
    """

    memory_mb: int
    vcpus: int
    types: tuple[str, ...] = (PV, PVH)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", tuple(sorted(set(self.types))))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "memory_mb": self.memory_mb,
            "vcpus": self.vcpus,
            "types": list(self.types),
            "disk": {"device": DISK, "access": "r"},
        }

    @classmethod
    def read(cls, fields: Fields) -> Resources:
        """Take the members of ``fields``."""
        disk = fields.object("disk")
        disk.literal("device", DISK)
        disk.literal("access", "r")
        disk.done()
        types = fields.array("types", maximum=2)
        if not types or any(item not in (PV, PVH) for item in types):
            raise fields.fail("types", f"expected some of {PV}, {PVH}, found {shown(types)}")
        resources = cls(
            memory_mb=fields.integer("memory_mb", minimum=MIN_MEMORY_MB, maximum=MAX_MEMORY_MB),
            vcpus=fields.integer("vcpus", minimum=1, maximum=MAX_VCPUS),
            types=tuple(types),
        )
        fields.done()
        return resources


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Service:
    """A port that anybody may reach without IPsec, because the program behind it filters what it reads."""

    protocol: str
    port: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"protocol": self.protocol, "port": self.port, "reason": self.reason}

    @classmethod
    def read(cls, fields: Fields) -> Service:
        """Take the members of ``fields``."""
        service = cls(
            protocol=fields.choice("protocol", TCP, UDP),
            port=fields.integer("port", minimum=1, maximum=65535),
            reason=fields.text("reason", maximum_chars=MAX_REASON_CHARS),
        )
        if not service.reason.strip():
            raise fields.fail("reason", "is blank: a reviewer has to know why")
        fields.done()
        return service


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The guest's network: nothing but IPsec, and what is declared here.

    Attributes:
        mac: ``derived``: the host makes the address from the guest's id; ``requested``: the start request
            names it; ``none``: the guest has no network.
        services: What may be reached in plain, in order.
    """

    mac: str = DERIVED
    services: tuple[Service, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "services", tuple(sorted(self.services)))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"mac": self.mac, "default": "deny", "services": [item.to_json() for item in self.services]}

    @classmethod
    def read(cls, fields: Fields) -> Network:
        """Take the members of ``fields``."""
        fields.literal("default", "deny")
        network = cls(
            mac=fields.choice("mac", DERIVED, REQUESTED, NO_NETWORK),
            services=tuple(
                Service.read(Fields(item, "guest-package.network.services"))
                for item in fields.array("services", maximum=MAX_SERVICES)
            ),
        )
        places = [(item.protocol, item.port) for item in network.services]
        if len(set(places)) != len(places):
            raise fields.fail("services", "a port stands twice")
        if network.mac == NO_NETWORK and network.services:
            raise fields.fail("services", "a guest without a network offers no service")
        fields.done()
        return network


IPSEC_ONLY = Network()
"""A network without any service in plain."""

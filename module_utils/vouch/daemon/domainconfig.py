# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a guest's domain, from its package alone.

What a domain is made of is decided by three: the package (kernel, command line, memory, processors, kinds, network),
the order where the package lets it (kind, address of the card), and the image (what emulated processors need). Nothing
of it is a file: kernel and initrd are sealed memory, the disk is a loop device over the file that was compared.

Source: xl.cfg(5) of Xen 4.20.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import VouchError
from ..model.grant import DERIVED, NO_NETWORK, PV, PVH, REQUESTED
from ..model.guestaddress import derived_mac
from ..model.order import GuestOrder
from ..model.package import GuestPackage
from ..port.domains import uuid_text

SCRIPT = "vif-vouch"


def kind_of(package: GuestPackage, order: GuestOrder) -> str:
    """Return the kind of domain: the one ordered, else PVH where the package allows it.

    Raises:
        VouchError: ``launch.kind``: the package does not allow the ordered one.
    """
    kinds = package.resources.types
    kind = order.kind or (PVH if PVH in kinds else PV)
    if kind not in kinds:
        raise VouchError(f"package {package.name} may be started as {', '.join(kinds)}, not {kind}", code="launch.kind")
    return kind


def mac_of(package: GuestPackage, order: GuestOrder) -> str:
    """Return the address of the guest's card, "" for no card.

    Raises:
        VouchError: ``launch.mac``: order and package do not agree on who chooses it.
    """
    chosen = package.network.mac
    if (chosen == REQUESTED) != (order.mac is not None):
        raise VouchError(
            f"package {package.name} says {chosen!r} of its address, the order names {order.mac or 'none'}",
            code="launch.mac",
        )
    if chosen == NO_NETWORK:
        return ""
    if chosen == DERIVED:
        return derived_mac(order.host_id, order.guest)
    return order.mac or ""


def domain_config(
    package: GuestPackage,
    *,
    name: str,
    uuid: bytes,
    kind: str,
    kernel: str,
    initrd: str,
    disk: str,
    mac: str,
    tsc_mode: str = "",
) -> str:
    """Return the configuration for xl.

    Args:
        package: What the guest is.
        name: Of the domain: the guest's id.
        uuid: Of the domain, 16 bytes.
        kind: ``pv`` or ``pvh``.
        kernel: Path of the kernel, as ``initrd``.
        initrd: Path of the initrd.
        disk: Path of the block device with the root image.
        mac: Address of the card; "" for none.
        tsc_mode: Who reads the processor's time stamp counter; "" leaves it to Xen.
    """
    settings: list[tuple[str, str | int | Sequence[str]]] = [
        ("name", name),
        ("uuid", uuid_text(uuid)),
        ("type", kind),
        ("kernel", kernel),
        ("ramdisk", initrd),
        ("cmdline", package.cmdline),
        ("memory", package.resources.memory_mb),
        ("maxmem", package.resources.memory_mb),
        ("vcpus", package.resources.vcpus),
        ("disk", [f"phy:{disk},xvda,r"]),
        ("vif", [f"mac={mac},script={SCRIPT}"] if mac else []),
        # Whatever a guest does to itself, its end is ours to record first.
        ("on_poweroff", "preserve"),
        ("on_reboot", "preserve"),
        ("on_crash", "preserve"),
        ("on_watchdog", "preserve"),
    ]
    if tsc_mode:
        settings.append(("tsc_mode", tsc_mode))
    return "".join(f"{key}={_quoted(value)}\n" for key, value in settings)


def _quoted(value: str | int | Sequence[str]) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if any(character in value for character in '"\\\n\0'):
            # No package or order that was read can hold one.
            raise VouchError(f"{value!r} cannot stand in a domain configuration", code="launch.config")
        return f'"{value}"'
    return f"[{', '.join(_quoted(item) for item in value)}]"

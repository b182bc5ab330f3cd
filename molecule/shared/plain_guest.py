# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain that nobody ordered, on the files of a guest: its kernel, drivers and root image, but one program of ours
instead of all that protects it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from xen_guests import Domain, Guest, XenHost

from vouch.make.cpio import regular, write_newc
from vouch.model.guestaddress import address_of, derived_mac
from vouch.model.package import KERNEL, ROOT_IMAGE, GuestPackage

FIRST = Path(__file__).parent / "plain_guest.sh"
BLOBS = "/var/lib/vouch/blobs"
FOLDER = "/var/lib/vouch/plain"

ACCEPT = """
card=vif$(xl domid {name}).0
nft insert rule inet vouch forward iifname $card accept
nft insert rule inet vouch forward oifname $card accept
ip -6 route replace {address}/128 dev $card
"""


@contextlib.contextmanager
def plain_guest(
    dom0: XenHost, name: str, *, host_id: str, package: GuestPackage, initrd: bytes, program: str, memory_mb: int
) -> Iterator[Guest]:
    """Run ``program``, a text for busybox's shell, in a domain; see ``plain_guest.sh`` for what it has.

    Args:
        dom0: The host. It has the files of that guest, since it runs one.
        name: Of the domain; its card has the address that a guest of that id would have.
        host_id: The host's UUID.
        package: Of the guest.
        initrd: The guest's own.
        program: What it does.
        memory_mb: Its memory.
    """
    archive = write_newc([regular("first", FIRST.read_bytes(), 0o755), regular("program", program.encode())])
    # The kernel unpacks one archive after the other, each on a boundary of four bytes.
    gap = bytes(-len(initrd) % 4)
    root = f"{BLOBS}/{package.parts[ROOT_IMAGE].sha256.hex()}"
    domain = Domain(
        name=name,
        kind="pvh",
        kernel=f"{BLOBS}/{package.parts[KERNEL].sha256.hex()}",
        initrd=f"{FOLDER}/{name}.initrd",
        image=f"{FOLDER}/{name}.img",
        cmdline="console=hvc0 quiet rdinit=/first",
        memory_mb=memory_mb,
        mac=derived_mac(host_id, name),
    )
    try:
        # A file of its own: the devices of the guests' are the VM verifier's.
        dom0.run(
            f"mkdir -p {FOLDER} && cp {root} {domain.image} && cat > {domain.initrd}", stdin=initrd + gap + archive
        )
        with dom0.guest(domain) as guest:
            yield guest
    finally:
        dom0.run(f"rm -f {domain.image} {domain.initrd}")


def plain_address(host_id: str, name: str) -> str:
    """Return the address that belongs to the domain's card."""
    return address_of(host_id, derived_mac(host_id, name))


def open_wall(dom0: XenHost, host_id: str, name: str) -> None:
    """Have the host's firewall let everything through, from the domain and to it."""
    dom0.run(ACCEPT.format(name=shlex.quote(name), address=plain_address(host_id, name)))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that guests are kept on in earnest: Xen, the kernel's firewall, the data partition."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ..measure.measurer import Measurer
from ..model.kernelprofile import Profile
from ..model.package import GuestPackage
from ..model.verifierconfig import VerifierConfig
from ..port.blobs import BlobStore
from ..port.domains import XlDomains
from ..port.firewall import NftFirewall
from ..port.hostslots import Dom0Slots
from ..port.libcrypto import Libcrypto
from ..port.loopdevice import attach
from ..port.xenguest import XenGuest
from .machine import Machine


def machine_of(options: Mapping[str, str], config: VerifierConfig) -> Machine:
    """Return this process's hold on dom0."""
    domains = XlDomains()
    blobs = BlobStore(os.path.join(options["--data"], "blobs"), marks=os.path.join(options["--run"], "compared"))

    def measurer(
        domain_id: int, kind: str, profile: Profile, policy: bytes, package: GuestPackage, adopted: bool
    ) -> Measurer:
        return Measurer(
            profile=profile,
            policy=policy,
            package=package,
            memory=XenGuest(domain_id, kind, domains),
            monotonic_s=time.monotonic,
            boot_limit_s=config.boot_limit_s,
            adopted=adopted,
            copies=blobs.kept,
        )

    return Machine(
        domains=domains,
        firewall=NftFirewall(),
        blobs=blobs,
        measurer=measurer,
        attach=attach,
        verify=Libcrypto().verify_signature,
        slots=Dom0Slots(),
    )

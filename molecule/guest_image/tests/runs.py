# SPDX-License-Identifier: GPL-3.0-or-later
"""Which guests are started, and what their packages say of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xen_guests import GUESTS, Domain

from vouch.model.package import GuestPackage
from vouch.parse.envelope import parse_envelope

OUTPUT = Path(os.environ["VOUCH_SCENARIO"])
STATE = OUTPUT.parent / "vouch"
HOST, PORT = "gh1", 22711
HOST_LIMIT_S = 900
BOOT_LIMIT_S = 900
DISTCC_PORT = 3632


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One guest that is started in one way."""

    image: str
    kind: str

    def __str__(self) -> str:
        return f"{self.image}-{self.kind}"

    @property
    def guest(self) -> str:
        """Name of the guest that was described: what it says when it is ready."""
        return self.image.removesuffix("-debug")

    @property
    def package(self) -> GuestPackage:
        """Its package; ``test_packages.py`` is about its signature."""
        return package(self.image)

    def domain(self, *, image: str = "root.img") -> Domain:
        """Return what is started; ``image`` is another file for its disk."""
        folder = f"{GUESTS}/{self.image}"
        return Domain(
            name=str(self),
            kind=self.kind,
            kernel=f"{folder}/vmlinuz",
            initrd=f"{folder}/initrd.img",
            image=f"{folder}/{image}",
            cmdline=self.package.cmdline,
            memory_mb=self.package.resources.memory_mb,
            mac="00:16:3e:00:00:01",
        )


DEBUG = [Run(image="base-debug", kind="pvh"), Run(image="distcc_node-debug", kind="pv")]
PRODUCTION = [Run(image="base", kind="pv"), Run(image="distcc_node", kind="pv")]
"""Each image once, one of them as PVH. Both kinds of one image are what scenario ``vm_verifier`` starts."""

FLIPPED = Run(image="base", kind="pv")


def package(name: str) -> GuestPackage:
    """Return what the package of image ``name`` says."""
    return GuestPackage.from_bytes(parse_envelope((STATE / "packages" / f"{name}.dsse.json").read_bytes()).payload)


def said_of_package(name: str) -> Mapping[str, Any]:
    """Return what ``side_effect`` was told of the package."""
    return dict(json.loads((OUTPUT / "packages" / f"{name}.json").read_text()))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence bundles as the appraiser writes them, of a simulated host, and what who checks them trusts."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import vouch_appraise
from ansible.module_utils.vouch.appraise.anchors import Anchors
from ansible.module_utils.vouch.appraise.jwks import key_set
from ansible.module_utils.vouch.appraise.recheck import Recheck, recheck
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_key, public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.gueststate import GuestRecord
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.parse.bundle import parse_bundle
from ansible.module_utils.vouch.port.clock import utc_text
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

from guestparts import Guest
from sim.attester import INSTALLER, INSTALLER_KERNEL, NONCE, NOW_S, RELEASE_KEY, SimHost, SimRelease, release_key
from sim.firmware import SimFirmware

APPRAISER_KEY = generate_private_key("ecdsa-p256-sha256")
PACKAGE_KEY = generate_private_key()
PACKAGE = Guest().package()
SIGNED_PACKAGE = sign_guest_package(PACKAGE, PACKAGE_KEY)
UNREACHED = {"collected": False, "code": "ssh.connect", "message": "Connection refused"}


def installer_pcr4() -> bytes:
    """Return PCR 4 of the simulator's installer."""
    installer = SimFirmware()
    installer.boot([INSTALLER, INSTALLER_KERNEL])
    return installer.bank()[4]


def anchors(**changes: Any) -> Anchors:
    """Return everything that carries a good bundle, or some of it."""
    given: dict[str, Any] = {
        "appraiser_keys": key_set(public_pem(APPRAISER_KEY)),
        "release_keys": (release_key(),),
        "installer_pcr4": (installer_pcr4(),),
        "package_keys": (public_key(PACKAGE_KEY),),
    }
    return Anchors(**{**given, **changes})


def launch(host: SimHost) -> None:
    """Start guest ``web`` on ``host``; it holds."""
    record = GuestRecord(
        id="web",
        name=PACKAGE.name,
        variant=PACKAGE.variant,
        domain_id=3,
        kind="pv",
        package=package_id(SIGNED_PACKAGE),
        verity_root=PACKAGE.verity.root_hash,
        policy=PACKAGE.policy.sha256,
        state="running",
        phase="running",
        verdict="holds",
        checked_at_s=NOW_S,
        rounds=9,
        counter=1,
    )
    launch = {"package": record.package.hex(), "kind": "pv", "order": "00" * 32, "counter": 1}
    host.log_event({"event": "guest.launch", "time": NOW_S, "guest": "web", **launch})
    host.statement_changes["guests"] = (record,)


class Site:
    """A host and the controller that asks it, at ``NOW_S``; change a field, then take the parts of the bundle."""

    def __init__(
        self, host: SimHost | None = None, *, guest: bool = False, releases: tuple[SimRelease, ...] = ()
    ) -> None:
        self.host = host or SimHost()
        self.enrolment = self.host.enrolment
        self.releases = (self.host.release, *releases)
        self.policy: dict[str, Any] = {}
        self.answer: bytes | None = None
        if guest:
            launch(self.host)

    def parts(self, evidence: Mapping[str, Any] | None = None, *, age_s: int = 10, **changes: Any) -> dict[str, bytes]:
        """Return the parts of the bundle that the module writes.

        Args:
            evidence: What vouch_evidence answered; that of the host when None.
            age_s: How long before ``NOW_S`` the host was asked.
            changes: Other options of the module.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            params = self._params(folder, evidence, age_s) | changes
            return dict(vouch_appraise.appraise(params, NOW_S).parts)

    def _params(self, folder: pathlib.Path, evidence: Mapping[str, Any] | None, age_s: int) -> dict[str, Any]:
        EnrolmentStore(folder / "enrolments").add(self.enrolment)
        (folder / "sha256").mkdir()
        releases = []
        for place, release in enumerate(self.releases):
            path = folder / f"{place}.json"
            as_installed = release is self.host.release and sha256(self.host.installed) == self.host.release_id
            path.write_bytes(self.host.installed if as_installed else release.envelope)
            (folder / "sha256" / sha256(release.manifest).hex()).write_bytes(release.manifest)
            releases.append(str(path))
        for file, data in {
            "release.pub": public_pem(RELEASE_KEY),
            "package.pub": public_pem(PACKAGE_KEY),
            "package.json": SIGNED_PACKAGE,
            "ear.pem": private_pem(APPRAISER_KEY),
            "evidence.json": self.host.evidence(NONCE).to_bytes() if self.answer is None else self.answer,
        }.items():
            (folder / file).write_bytes(data)
        collected = {
            "collected": True,
            "dest": str(folder / "evidence.json"),
            "nonce": NONCE.hex(),
            "requested_at": utc_text(NOW_S - age_s),
            "ssh_host_key": self.host.ssh_host_key,
        }
        return {
            "name": "h1",
            "host_id": self.host.host_id,
            "enrolments": str(folder / "enrolments"),
            "evidence": collected if evidence is None else {**collected, **evidence},
            "releases": releases,
            "packages": [str(folder / "package.json")],
            "image_store": str(folder),
            "policy": {
                "name": "simulation",
                "ttl_s": 300,
                "release_keys": [str(folder / "release.pub")],
                "package_keys": [str(folder / "package.pub")],
                "installer_pcr4": [installer_pcr4().hex()],
                **self.policy,
            },
            "ear_key": str(folder / "ear.pem"),
            "directory": str(folder),
        }


def check(parts: Mapping[str, bytes], given: Anchors | None = None) -> Recheck:
    """Return what the bundle of ``parts`` is worth to who trusts ``given`` (everything when None)."""
    return recheck(parse_bundle(write_bundle(parts)), anchors() if given is None else given)

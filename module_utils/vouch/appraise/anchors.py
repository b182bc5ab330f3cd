# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody who checks a bundle trusts by themselves, and which claims of the bundle that carries.

A bundle brings its own policy, keys, releases and enrolment: whoever makes all of it up can make it agree with itself.
So each claim rests on something from outside, or on nothing:

===========  =======================================  ==========================================================
claim        says                                     carried by
===========  =======================================  ==========================================================
appraiser    an appraiser came to this result         a signature under the result, by a given key
inputs       and came to it from these very parts     the same signature, over a digest of all of them
release      what was booted was released             a signature under the release, by a given key
installer    what was installed was written by a      PCR 4 in the installer's quote is a given value
             trusted installer
packages     what guests run was released             a signature under each package, by a given key
===========  =======================================  ==========================================================

The attestation key is carried by the appraiser's claims: the enrolment, which says that the key is in the host's TPM,
is one of the parts.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..check.signature import verify_guest_package, verify_release
from ..errors import EvidenceError
from ..model.evidence import Roti
from ..model.finding import Finding
from ..model.key import PublicKey
from .ear import BUNDLE_CLAIM, Ear, check_one_form, read_unverified_ear, verify_ear
from .jwks import KeySet

APPRAISER, INPUTS, RELEASE, INSTALLER, PACKAGES = "appraiser", "inputs", "release", "installer", "packages"
LAUNCH_REGISTER = 4


class Hold(enum.Enum):
    """How a claim stands."""

    HELD = "held"
    MISSING = "missing"
    REFUTED = "refuted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """What is trusted from outside; what is empty was not given.

    Attributes:
        appraiser_keys: Who may sign results.
        release_keys: Who may sign host releases.
        installer_pcr4: PCR 4 of trusted installers.
        package_keys: Who may sign guest packages.
    """

    appraiser_keys: KeySet | None = None
    release_keys: tuple[PublicKey, ...] = ()
    installer_pcr4: tuple[bytes, ...] = ()
    package_keys: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of a bundle.

    Attributes:
        name: One of the table above.
        hold: HELD by what ``by`` says; MISSING, nothing was given, or the bundle has nothing to hold it against;
            REFUTED, it is not what was given.
        by: The key or value that carries it, or what would.
        findings: Why it is refuted.
    """

    name: str
    hold: Hold
    by: str
    findings: tuple[Finding, ...] = field(default=())


def appraiser_claim(token: bytes | None, anchors: Anchors) -> tuple[Claim, Ear | None]:
    """Return the claim about the appraiser, and what the signed result says.

    Trust: the claims are only believed where the claim is HELD; otherwise they serve to be compared.
    """
    if token is None:
        return Claim(name=APPRAISER, hold=Hold.MISSING, by="the bundle holds no signed result"), None
    try:
        ear, kid = read_unverified_ear(token)
        if BUNDLE_CLAIM in ear.extensions:
            # Who makes this claim signs in one form, so that no byte of a bundle can be another. Older ones did not.
            check_one_form(token)
        if anchors.appraiser_keys is None:
            named = f"the result names key {kid}" if kid else "the result names no key"
            return Claim(name=APPRAISER, hold=Hold.MISSING, by=f"no key of an appraiser was given; {named}"), ear
        ear = verify_ear(token, anchors.appraiser_keys)
    except EvidenceError as error:
        return Claim(name=APPRAISER, hold=Hold.REFUTED, by="the signed result", findings=error.findings), None
    return Claim(name=APPRAISER, hold=Hold.HELD, by=f"key {kid or next(iter(anchors.appraiser_keys.keys))}"), ear


def inputs_claim(appraiser: Claim, ear: Ear | None) -> Claim:
    """Return the claim that the result was made from these parts; ``recheck`` compares the digest itself."""
    if ear is not None and BUNDLE_CLAIM not in ear.extensions:
        # Of an appraiser older than the claim: enrolment and request are not under its signature.
        return Claim(name=INPUTS, hold=Hold.MISSING, by="the signed result does not name what it was made from")
    if appraiser.hold is not Hold.HELD:
        return Claim(name=INPUTS, hold=Hold.MISSING, by="no signature of a trusted appraiser covers the parts")
    return Claim(name=INPUTS, hold=Hold.HELD, by="the appraiser's signature, over the digest of every part")


def release_claim(envelopes: Iterable[bytes], anchors: Anchors) -> Claim:
    """Return the claim about the release that was booted, and those before it that its installation rests on."""
    if not anchors.release_keys:
        return Claim(name=RELEASE, hold=Hold.MISSING, by="no release key was given")
    signers = []
    for envelope in envelopes:
        try:
            signers.append(verify_release(envelope, anchors.release_keys).keyid)
        except EvidenceError as error:
            ours = Finding.deny("bundle.anchor.release", RELEASE, _named(anchors.release_keys), "another signer")
            return Claim(name=RELEASE, hold=Hold.REFUTED, by="the release", findings=(ours, *error.findings))
    return Claim(name=RELEASE, hold=Hold.HELD, by=", ".join(f"key {keyid}" for keyid in dict.fromkeys(signers)))


def installer_claim(roti: Roti, anchors: Anchors) -> Claim:
    """Return the claim about the installer whose quote was verified."""
    if not anchors.installer_pcr4:
        return Claim(name=INSTALLER, hold=Hold.MISSING, by="no PCR 4 of an installer was given")
    value = roti.pcrs[LAUNCH_REGISTER]
    if value not in anchors.installer_pcr4:
        expected = ", ".join(item.hex() for item in anchors.installer_pcr4)
        ours = Finding.deny("bundle.anchor.installer", f"pcr:{LAUNCH_REGISTER}", expected, value.hex())
        return Claim(name=INSTALLER, hold=Hold.REFUTED, by="the installer's quote", findings=(ours,))
    return Claim(name=INSTALLER, hold=Hold.HELD, by=f"PCR 4 {value.hex()}")


def packages_claim(envelopes: Iterable[bytes], anchors: Anchors) -> Claim:
    """Return the claim about the packages of guests that were found to be good."""
    if not anchors.package_keys:
        return Claim(name=PACKAGES, hold=Hold.MISSING, by="no package key was given")
    signers = set()
    for envelope in envelopes:
        try:
            signers.add(verify_guest_package(envelope, anchors.package_keys).keyid)
        except EvidenceError as error:
            ours = Finding.deny("bundle.anchor.package", PACKAGES, _named(anchors.package_keys), "another signer")
            return Claim(name=PACKAGES, hold=Hold.REFUTED, by="a package", findings=(ours, *error.findings))
    return Claim(name=PACKAGES, hold=Hold.HELD, by=", ".join(f"key {keyid}" for keyid in sorted(signers)))


def _named(keys: Iterable[PublicKey]) -> str:
    return ", ".join(f"key {key.keyid}" for key in keys)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of findings about peers: what one guest says of another that it does not accept. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

DENY = Severity.DENY

_NAME_IT = "name the key in the peers of this guest's package, and deliver it to the hosts with their papers"
_ISSUE = "issue the host another credential, and deliver it"
_RELAY = "treat it as an attempt to pass off another machine; if it lasts, look at the VM verifier of the peer's host"

PEER_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    ("peer.certificate.malformed", DENY, "The peer's channel certificate is none.", "look at the peer's version"),
    ("peer.certificate.mismatch", DENY, "The host states another channel certificate or key of the peer.", _RELAY),
    ("peer.certificate.name", DENY, "The channel certificate is of another guest or host, or of another form.", _RELAY),
    (
        "peer.certificate.signature",
        DENY,
        "The key that the host states did not issue the channel certificate.",
        _RELAY,
    ),
    (
        "peer.certificate.time",
        DENY,
        "The channel certificate does not count now.",
        "look at the clocks of both hosts",
    ),
    ("peer.credential.key", DENY, "No key of an enrolment authority is at hand that our package names.", _NAME_IT),
    ("peer.credential.malformed", DENY, "The credential of the peer's host is none.", _ISSUE),
    (
        "peer.credential.signature",
        DENY,
        "No enrolment authority that our package names signed the credential of the peer's host.",
        "enrol the host with an authority that is named, or name another in the package",
    ),
    ("peer.credential.time", DENY, "The credential of the peer's host does not count now.", _ISSUE),
    ("peer.guest", DENY, "The peer is not affirming on its host.", "see the findings that follow"),
    ("peer.guest.missing", DENY, "The host states no guest, or several, at the peer's address.", _RELAY),
    ("peer.host", DENY, "The peer's host is not affirming by our criteria.", "see the findings that follow"),
    (
        "peer.nobody",
        DENY,
        "Our own package names nobody to talk to.",
        "give the package criteria for peers (guest_image_peers)",
    ),
    ("peer.package.key", DENY, "No key of packages is at hand that our package names.", _NAME_IT),
    ("peer.package.mismatch", DENY, "The peer runs another package than the one it showed.", _RELAY),
    (
        "peer.package.name",
        DENY,
        "The peer's package has a name that ours does not list.",
        "list it in the package's peers if it is to be spoken to",
    ),
    (
        "peer.package.signature",
        DENY,
        "No key that our package names signed the peer's package.",
        "see who signed it; name the key if it is to be believed",
    ),
    ("peer.release.key", DENY, "No key of host releases is at hand that our package names.", _NAME_IT),
    (
        "peer.told",
        DENY,
        "The peer's host did not promise to tell us when the peer ends.",
        "ask again; if it lasts, look at the peer's port authority",
    ),
)

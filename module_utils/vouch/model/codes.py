# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code a finding can carry: what it means, how bad it is, and what to do about it.

A code is never renamed and never used for something else: playbooks, dashboards and other people's scripts match on it.
docs/findings.md is made from this table by ``tools/findings.py``; a test holds both against the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .bundlecodes import BUNDLE_CODES
from .finding import Severity
from .guestcodes import GUEST_CODES
from .gueststatecodes import GUEST_STATE_CODES
from .introspectcodes import INTROSPECT_CODES
from .peercodes import PEER_CODES
from .provenancecodes import PROVENANCE_CODES
from .storecodes import STORE_CODES

NOTE, WARN, DENY = Severity.NOTE, Severity.WARN, Severity.DENY


@dataclass(frozen=True, slots=True)
class Code:
    """One registered code.

    Attributes:
        code: The code.
        severities: Severities it is produced with; several where the policy, or what it stands for, chooses.
        meaning: What is true when it is produced.
        cure: What a person does about it; empty where nothing is to be done.
    """

    code: str
    severities: tuple[Severity, ...]
    meaning: str
    cure: str = ""


_REINSTALL = "find out what runs there; install again from the trusted installer"
_MALFORMED = "the sender is broken or hostile; look at its version"
_FIRMWARE = (
    "if the firmware or its set-up was changed on purpose, enrol the machine again; else treat it as tampered with"
)
_KERNEL = "the kernel is of a version that was never tried; see docs/introspection.md"
_TABLE: tuple[tuple[str, Severity, str, str], ...] = (
    # What signs.
    (
        "ak.attributes",
        DENY,
        "The attestation key could sign data from outside its TPM, or could leave it.",
        "enrol again",
    ),
    ("ak.key", DENY, "The attestation key is no point of P-256.", "enrol again"),
    ("ak.malformed", DENY, "The attestation key is no TPMT_PUBLIC.", "enrol again"),
    ("ak.scheme", DENY, "The attestation key is not restricted to ECDSA P-256 with SHA-256.", "enrol again"),
    ("ak.unknown", DENY, "No attestation key is enrolled for the host.", "install and enrol the machine"),
    # What was booted.
    ("boot.application.unexpected", DENY, "The firmware started something that is not approved.", _REINSTALL),
    ("boot.baseline.mismatch", DENY, "A firmware register differs from the value pinned at enrolment.", _FIRMWARE),
    ("boot.baseline.unpinned", NOTE, "The register is pinned by this first accepted evidence.", ""),
    (
        "boot.pcr4.attempts",
        NOTE,
        "Other boot options were tried and failed before the release was started.",
        "put the disk first",
    ),
    ("boot.pcr4.unexpected", DENY, "Something else than the release's xen.efi was booted.", _REINSTALL),
    # What was spoken to.
    (
        "channel.key.mismatch",
        DENY,
        "The connection's SSH host key is not the one stated, or not the one enrolled: a relay, or a changed host.",
        "do not send secrets; look at the network path, then at the host",
    ),
    # Attestation results of others.
    ("ear.algorithm.mismatch", DENY, "The token names another algorithm than ES256.", ""),
    ("ear.claims.malformed", DENY, "The token is signed, but holds no attestation result we understand.", ""),
    (
        "ear.kid.missing",
        DENY,
        "The token names no key, and several are trusted.",
        "give the one key that should have signed it",
    ),
    (
        "ear.kid.unknown",
        DENY,
        "The token names a key that is not among those trusted.",
        "fetch the key set again; if it stays, the token is another appraiser's",
    ),
    ("ear.signature.invalid", DENY, "The token was not signed by the given key.", ""),
    ("ear.token.malformed", DENY, "The text is no compact JWT with a plain header, or not in its one spelling.", ""),
    # Who made the TPM.
    ("ek.certificate.ca", DENY, "The endorsement certificate is that of an authority.", ""),
    ("ek.certificate.critical", DENY, "The endorsement certificate has a critical extension nobody knows.", ""),
    ("ek.certificate.malformed", DENY, "The endorsement certificate cannot be read.", ""),
    ("ek.certificate.tpm", DENY, "The endorsement certificate names no TPM manufacturer.", ""),
    ("ek.certificate.usage", DENY, "The certificate is not meant for endorsement keys.", ""),
    (
        "ek.chain.expired",
        DENY,
        "A certificate of the chain is not valid now.",
        "look at the controller's clock, then ask the vendor",
    ),
    ("ek.chain.sha1", NOTE, "The chain holds a signature made with SHA-1.", ""),
    (
        "ek.chain.untrusted",
        DENY,
        "No chain leads from the endorsement certificate to a given root.",
        "add the TPM vendor's authorities, once you have checked them",
    ),
    ("ek.key.unsupported", DENY, "The endorsement key is of a kind we do not use.", ""),
    # Signed documents.
    ("envelope.malformed", DENY, "The signed file is no DSSE envelope.", "fetch or build it again"),
    (
        "envelope.signature.invalid",
        DENY,
        "No enrolled key signed the file.",
        "enrol the key if you trust it; else find out where the file came from",
    ),
    ("envelope.type", DENY, "The envelope holds another kind of document.", ""),
    # The firmware's log.
    (
        "eventlog.bank.missing",
        DENY,
        "The log has no digests of the bank that was quoted.",
        "switch the SHA-256 bank on in the firmware's set-up",
    ),
    ("eventlog.locality.invalid", DENY, "The log states a start-up locality no TPM has.", ""),
    ("eventlog.malformed", DENY, "The bytes are no TCG event log.", _MALFORMED),
    ("eventlog.pcr.range", DENY, "An event names a register that does not exist.", ""),
    (
        "eventlog.quirk",
        NOTE,
        "A known defect of this firmware's log was repaired to explain the register.",
        "update the firmware",
    ),
    (
        "eventlog.replay.mismatch",
        DENY,
        "The log does not lead to the quoted register.",
        "an event was lost or changed; treat the machine as unknown",
    ),
    ("eventlog.trailing", NOTE, "Bytes follow the last event.", ""),
    # The VM verifier's log.
    ("eventlog14.boot.mismatch", DENY, "The log tells of a start in another boot of the TPM.", _REINSTALL),
    ("eventlog14.digest.mismatch", DENY, "A record's digest is not that of its content.", _REINSTALL),
    ("eventlog14.event.malformed", DENY, "An event has other members than its kind has.", "update the controller"),
    ("eventlog14.event.unknown", DENY, "An event of a kind this appraiser cannot judge.", "update the controller"),
    ("eventlog14.record.order", DENY, "Records are missing, out of order, or of another register.", _REINSTALL),
    ("eventlog14.replay.mismatch", DENY, "The VM verifier's log does not lead to the quoted PCR 14.", _REINSTALL),
    ("eventlog14.restarted", NOTE, "The VM verifier was started again in this boot.", "look why, if nobody did it"),
    ("eventlog14.start.missing", DENY, "The log does not begin with the start of the VM verifier.", _REINSTALL),
    ("eventlog14.statement.mismatch", DENY, "The statement tells of another length or head than the log has.", ""),
    # The container.
    ("evidence.malformed", DENY, "The answer is no evidence.", _MALFORMED),
    ("frame.length", DENY, "A frame is longer than allowed.", _MALFORMED),
    # dom0's measurements.
    (
        "ima.boot-aggregate.mismatch",
        DENY,
        "The list belongs to another boot than the quoted registers 0 to 9.",
        _REINSTALL,
    ),
    ("ima.boot-aggregate.missing", DENY, "The list does not begin with the boot aggregate.", _REINSTALL),
    ("ima.entry.malformed", DENY, "A proven measurement has fields that cannot be read.", _REINSTALL),
    ("ima.entry.unknown", DENY, "A file was executed or read that is not of the release.", _REINSTALL),
    ("ima.findings.more", DENY, "There are more findings of this list than are spelt out.", ""),
    ("ima.log.short", DENY, "The list is shorter than the statement says.", _REINSTALL),
    (
        "ima.offset.mismatch",
        DENY,
        "The list begins at another place than the one it was judged up to in this boot.",
        "ask again from offset 0: the host probably booted",
    ),
    ("ima.pcr.unexpected", DENY, "A measurement went to another register than PCR 10.", _REINSTALL),
    (
        "ima.replay.mismatch",
        DENY,
        "No part of the list leads to the quoted PCR 10: something was cut or altered.",
        _REINSTALL,
    ),
    ("ima.tail.uncovered", NOTE, "Files were measured after the quote; they are judged with the next evidence.", ""),
    ("ima.template.unknown", DENY, "An entry is of a template this appraiser does not know.", "update the controller"),
    ("ima.violation", DENY, "A file was written while it was measured, so nobody knows what ran.", _REINSTALL),
    ("manifest.malformed", DENY, "The file manifest of a release cannot be read.", "build the release again"),
    # Bytes that are not what their format says.
    ("parse.btf.constant", DENY, "The kernel's types have no such constant.", _KERNEL),
    ("parse.btf.member", DENY, "A struct of the kernel has no such member.", _KERNEL),
    ("parse.btf.struct", DENY, "The kernel's types have no such struct.", _KERNEL),
    ("parse.der", DENY, "The bytes are no DER.", _MALFORMED),
    ("parse.elf.section", DENY, "The kernel has no such section.", _KERNEL),
    ("parse.envelope.unsigned", DENY, "The envelope has no signature.", ""),
    ("parse.field.missing", DENY, "A member is missing.", _MALFORMED),
    ("parse.field.type", DENY, "A member is of another type.", _MALFORMED),
    ("parse.field.unknown", DENY, "A member is unknown.", "update the controller, if the sender is newer"),
    ("parse.field.value", DENY, "A member has a value it cannot have.", _MALFORMED),
    ("parse.invalid", DENY, "The bytes are not what their format says.", _MALFORMED),
    ("parse.kallsyms", DENY, "The kernel's table of symbols was not found.", _KERNEL),
    ("parse.yaml", DENY, "The text is no YAML of plain values, or says a member twice.", "correct the file"),
    ("parse.json.depth", DENY, "The JSON is nested too deeply.", _MALFORMED),
    ("parse.json.duplicate", DENY, "A member stands twice in a JSON object.", _MALFORMED),
    ("parse.json.encoding", DENY, "The JSON is not plain UTF-8.", _MALFORMED),
    ("parse.json.integer", DENY, "A number is beyond 2^53 - 1.", _MALFORMED),
    ("parse.json.not-canonical", DENY, "The JSON is not in its one canonical spelling.", _MALFORMED),
    ("parse.json.number", DENY, "A number is no integer.", _MALFORMED),
    ("parse.json.surrogate", DENY, "A text holds half a character.", _MALFORMED),
    ("parse.json.syntax", DENY, "The bytes are no JSON.", _MALFORMED),
    ("parse.key.pem", DENY, "The text is not one PEM block of a public key.", ""),
    ("parse.key.point", DENY, "The coordinates of a P-256 key have another length.", ""),
    ("parse.key.ssh", DENY, "The text is no Ed25519 SSH public key.", ""),
    ("parse.key.unsupported", DENY, "The key is of a kind, curve or size we do not accept.", ""),
    ("parse.duplicate", DENY, "A name or a number stands twice where it may stand once.", _MALFORMED),
    ("parse.magic", DENY, "The input is of another format.", _MALFORMED),
    ("parse.too-large", DENY, "The input is longer than allowed.", _MALFORMED),
    ("parse.too-many", DENY, "There are more parts than allowed.", _MALFORMED),
    ("parse.tpm2.scheme", DENY, "A TPM structure names a scheme we cannot read.", ""),
    ("parse.tpm2.type", DENY, "A TPM structure is of another type.", ""),
    ("parse.unsupported", DENY, "The input is of a version or for a system that we do not read.", _MALFORMED),
    ("parse.trailing", DENY, "Bytes follow the end.", _MALFORMED),
    ("parse.truncated", DENY, "The input ends too early.", _MALFORMED),
    # The quote.
    (
        "quote.clock.backwards",
        DENY,
        "The TPM's clock or counters went back: a restored snapshot, or an old quote.",
        _REINSTALL,
    ),
    (
        "quote.clock.repeated",
        NOTE,
        "After a boot the TPM's clock is behind where it was: it was not saved before a power cut.",
        "look why, if nobody cut the power",
    ),
    ("quote.clock.unsafe", NOTE, "After a power cut the TPM's clock may repeat values.", ""),
    ("quote.magic", DENY, "What was signed was not made by a TPM.", _REINSTALL),
    ("quote.malformed", DENY, "What was signed is no TPMS_ATTEST.", ""),
    (
        "quote.nonce.mismatch",
        DENY,
        "Our nonce, or this statement, is not under the quote: it is old, or another asker's.",
        "ask again; if it stays, somebody replays",
    ),
    ("quote.nonce.path", DENY, "The inclusion path has a shape no tree has.", ""),
    ("quote.nonce.stale", DENY, "The nonce was made so long ago that a result could not count any more.", "ask again"),
    ("quote.pcrs.mismatch", DENY, "The register values sent along are not the quoted ones.", ""),
    ("quote.reset.changed", NOTE, "The host booted since it was last appraised.", "look why, if nobody did it"),
    ("quote.selection.mismatch", DENY, "The quote covers other registers than we asked for.", ""),
    (
        "quote.signature.invalid",
        DENY,
        "The enrolled attestation key did not sign this: another machine, or a cleared TPM.",
        "install and enrol the machine again, if its TPM was cleared on purpose",
    ),
    ("quote.signature.malformed", DENY, "The signature is no TPMT_SIGNATURE.", ""),
    ("quote.signature.scheme", DENY, "The signature is of another scheme than the key's.", ""),
    ("quote.signer", DENY, "The quote names another signer than the enrolled key in its hierarchy.", ""),
    ("quote.statement.clock", DENY, "The statement was made after its own quote.", ""),
    (
        "quote.statement.malformed",
        DENY,
        "The host's statement cannot be read.",
        "update the controller, if the host is newer",
    ),
    ("quote.type", DENY, "The TPM signed another kind of attestation.", ""),
    # Reference values.
    ("release.malformed", DENY, "A signed file holds no host release.", "build the release again"),
    ("release.manifest.malformed", DENY, "The manifest a release binds cannot be read.", "build the release again"),
    (
        "release.manifest.mismatch",
        DENY,
        "The manifest is not the one the release binds.",
        "fetch it again from the image store",
    ),
    (
        "release.next",
        NOTE,
        "The host runs the release of an update that is being made, and is not confirmed yet.",
        "",
    ),
    (
        "release.retired",
        DENY,
        "The release is one that the host was updated from, that the policy retired, or that it does not list.",
        "update the host; after a roll-back find out who made it",
    ),
    (
        "release.unexpected",
        DENY,
        "The host states another release than the one it was installed with or updated to.",
        _REINSTALL,
    ),
    (
        "release.unknown",
        DENY,
        "The host states a release that is not in the image store.",
        "add the release, if it is yours",
    ),
    (
        "release.window",
        DENY,
        "The host runs the release of an update whose time is over.",
        "run the update again; it goes on from where it is",
    ),
    # The installation.
    ("roti.ak", DENY, "The install statement is about another attestation key.", _REINSTALL),
    ("roti.baseline.changed", NOTE, "The baseline was pinned again since the installation.", ""),
    ("roti.channel", DENY, "The installer made another SSH host key.", _REINSTALL),
    ("roti.files", DENY, "The installer wrote other files than the release has.", _REINSTALL),
    ("roti.host", DENY, "The install statement is about another host.", _REINSTALL),
    (
        "roti.installer",
        DENY,
        "The disk was written by an installer the policy does not trust.",
        "add its PCR 4 to the policy if you trust it; else install again",
    ),
    ("roti.missing", DENY, "There is no proof of the installation.", _REINSTALL),
    ("roti.quote", DENY, "The installer's quote does not hold; the next finding says why.", _REINSTALL),
    ("roti.release", DENY, "The installer wrote another release.", _REINSTALL),
    ("roti.statement.digest", DENY, "The install statement is not the one that was quoted.", _REINSTALL),
    ("roti.statement.malformed", DENY, "The install statement cannot be read.", _REINSTALL),
    # Secure Boot.
    ("secureboot.authority.unknown", DENY, "An image was accepted by an authority that is not approved.", _FIRMWARE),
    ("secureboot.database", DENY, "A signature database cannot be read.", _FIRMWARE),
    ("secureboot.event.uncovered", DENY, "An event of PCR 7 has data its digest does not cover.", _FIRMWARE),
    ("secureboot.event.unknown", DENY, "PCR 7 holds an event nobody knows.", _FIRMWARE),
    ("secureboot.separator", DENY, "The separators of PCR 7 are not as they should be.", _FIRMWARE),
    ("secureboot.value", DENY, "A Secure Boot variable has a value it cannot have.", _FIRMWARE),
    ("secureboot.variable.missing", DENY, "A Secure Boot variable was not measured.", _FIRMWARE),
    ("secureboot.variable.order", DENY, "Secure Boot variables were measured in another order.", _FIRMWARE),
    ("signature.invalid", DENY, "The signature is not by the enrolled key.", ""),
    ("statement.host.mismatch", DENY, "An enrolled machine states to be another host.", _REINSTALL),
    # Updates since the installation.
    ("update.boot", DENY, "An update statement was not made by the release that ran before.", _REINSTALL),
    (
        "update.chain",
        DENY,
        "The update proofs do not lead from the installed release to the one that runs.",
        _REINSTALL,
    ),
    ("update.files", DENY, "An update wrote other files than the release has.", _REINSTALL),
    ("update.host", DENY, "An update statement is about another host.", _REINSTALL),
    ("update.quote", DENY, "The quote of an update proof does not hold; the next finding says why.", _REINSTALL),
    ("update.statement.digest", DENY, "An update statement is not the one that was quoted.", _REINSTALL),
    ("update.statement.malformed", DENY, "An update statement cannot be read.", _MALFORMED),
)

_CHOSEN: tuple[Code, ...] = (
    Code("eventlog14.findings.more", (NOTE, DENY), "There are more findings of this log than are spelt out.", ""),
    Code(
        "package.debug",
        (WARN, DENY),
        "The package is of a debug guest, with a root shell on its console.",
        "start the production package",
    ),
    Code("release.debug", (WARN, DENY), "A debug image, with a shell, is running.", "install the production release"),
    Code("secureboot.weakened", (WARN,), "The firmware says that it weakened Secure Boot during this boot.", _FIRMWARE),
)


_TABLES = (
    *_TABLE,
    *BUNDLE_CODES,
    *GUEST_CODES,
    *GUEST_STATE_CODES,
    *INTROSPECT_CODES,
    *PEER_CODES,
    *PROVENANCE_CODES,
    *STORE_CODES,
)


def _registry() -> Mapping[str, Code]:
    codes: dict[str, Code] = {}
    for entry in (
        *(Code(code, (severity,), text, cure) for code, severity, text, cure in _TABLES),
        *_CHOSEN,
    ):
        if entry.code in codes:
            raise ValueError(f"code {entry.code} is registered twice")
        codes[entry.code] = entry
    return MappingProxyType(codes)


CODES: Mapping[str, Code] = _registry()
"""Code to its entry."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A signed guest package, judged as a host will judge it before it starts the guest.

1. The signature, by one of the given keys. Without it nothing else is read, unless no key was given: then all that
   follows is said of a package that anybody may have written, and the verdict is *none*.
2. What the package says (``check.packagerules``), and its name where one is expected.
3. Its files, where there are any to look at (``check.blobs``).
4. Its policy and proof (``check.guestproof``), its introspection profile (``check.guestprofile``), and whether that is
   what this kernel gives when it is made again.

Unlike the host, which stops at the first failure, this goes on and tells them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..check.blobs import check_blobs
from ..check.flowproof import VerifiedProof
from ..check.guestprofile import verify_profile
from ..check.guestproof import verify_policy
from ..check.packagerules import check_statement, read_package
from ..check.signature import verify_guest_package
from ..errors import EvidenceError, ParseError
from ..model.digest import sha256
from ..model.finding import Finding, Verdict, deny, verdict_of
from ..model.key import PublicKey
from ..model.package import KERNEL, MAX_PART_BYTES, POLICY, PROFILE, PROOF, GuestPackage, package_id
from ..parse.envelope import parse_envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageReport:
    """What is known of one signed package file.

    Attributes:
        verdict: *none* where no key was given or no file was looked at.
        package_id: SHA-256 of the file.
        findings: What speaks against it.
        keyid: Which of the given keys signed it; empty when none did.
        package: What it says, None when it could not be read. Without a ``keyid``, anybody may have written it.
        proof: What is proven about its policy; None when that was not looked at or does not hold.
    """

    verdict: Verdict
    package_id: bytes
    findings: tuple[Finding, ...]
    keyid: str = ""
    package: GuestPackage | None = None
    proof: VerifiedProof | None = None


def inspect_package(
    envelope: bytes,
    keys: Sequence[PublicKey],
    find_files: Callable[[GuestPackage], Mapping[str, BinaryIO]] | None = None,
    *,
    name: str = "",
    allow_debug: bool = False,
    full: bool = False,
    make_profile: Callable[[bytes], bytes] | None = None,
) -> PackageReport:
    """Return what is known of a signed package file.

    Args:
        envelope: The file.
        keys: Who may sign; empty to look at it without believing it.
        find_files: Returns the package's files that are there, open for reading; None to look at the package alone.
            It is asked once the signature was verified.
        name: The name it should have; empty for any.
        allow_debug: Take a debug package for a warning.
        full: Compare the root image's whole hash tree with its data.
        make_profile: Makes the introspection profile of a ``vmlinuz``; None to take the package's word for it.
    """
    own_id = package_id(envelope)
    try:
        verified = verify_guest_package(envelope, keys) if keys else None
        package = verified.package if verified else _unsigned(envelope)
    except EvidenceError as error:
        return PackageReport(verdict=Verdict.CONTRAINDICATED, package_id=own_id, findings=error.findings)
    findings = list(check_statement(package, allow_debug=allow_debug))
    if name and package.name != name:
        findings += deny("package.name", f"package:{package.name}", expected=name, actual=package.name).findings
    proof = None
    if find_files is not None:
        files = find_files(package)
        blobs = check_blobs(package, files, full=full)
        findings += blobs
        wrong = {finding.subject.rpartition("/")[2] for finding in blobs}
        if not wrong & {POLICY, PROOF}:
            proof = _proof(package, files, findings)
        if not wrong & {KERNEL, PROFILE}:
            _profile(package, files, findings, make_profile)
    verdict = verdict_of(findings)
    if verdict is not Verdict.CONTRAINDICATED and (find_files is None or not keys):
        verdict = Verdict.NONE
    return PackageReport(
        verdict=verdict,
        package_id=own_id,
        findings=tuple(findings),
        keyid=verified.keyid if verified else "",
        package=package,
        proof=proof,
    )


def report_json(report: PackageReport) -> dict[str, Any]:
    """Return the JSON form: statement, findings, and who is let in where and why."""
    package, intent = report.package, report.proof.intent if report.proof else None
    return {
        "verdict": report.verdict.value,
        "signed": bool(report.keyid),
        "proven": report.proof is not None,
        "findings": [finding.as_dict() for finding in report.findings],
        "package_id": report.package_id.hex(),
        "keyid": report.keyid,
        "statement": package.to_json() if package else {},
        "services": [item.to_json() for item in package.network.services] if package else [],
        "filters": [item.to_json() for item in intent.filters] if intent else [],
        "entries": [item.to_json() for item in intent.entries] if intent else [],
    }


def _unsigned(envelope: bytes) -> GuestPackage:
    """Return a package that nobody vouches for."""
    try:
        parsed = parse_envelope(envelope)
    except ParseError as error:
        raise deny("envelope.malformed", "package", actual=error) from None
    return read_package(parsed.payload_type, parsed.payload)


def _proof(package: GuestPackage, files: Mapping[str, BinaryIO], findings: list[Finding]) -> VerifiedProof | None:
    policy, proof = (_content(files[name], name) for name in (POLICY, PROOF))
    try:
        return verify_policy(package, policy=policy, proof=proof)
    except EvidenceError as error:
        findings += error.findings
        return None


def _profile(
    package: GuestPackage,
    files: Mapping[str, BinaryIO],
    findings: list[Finding],
    make: Callable[[bytes], bytes] | None,
) -> None:
    data = _content(files[PROFILE], PROFILE)
    try:
        verify_profile(package, data)
        if make is not None:
            _same_profile(package, data, make(_content(files[KERNEL], KERNEL)))
    except EvidenceError as error:
        findings += error.findings
    except ParseError as error:
        findings += deny("package.profile.kernel", f"package:{package.name}/{KERNEL}", actual=error).findings


def _same_profile(package: GuestPackage, given: bytes, made: bytes) -> None:
    if given != made:
        wanted, found = sha256(made).hex(), sha256(given).hex()
        raise deny("package.profile.kernel", f"package:{package.name}/{PROFILE}", expected=wanted, actual=found)


def _content(stream: BinaryIO, name: str) -> bytes:
    stream.seek(0)
    return stream.read(MAX_PART_BYTES[name])

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest package has to say before its files are looked at.

Standard library only: dom0 runs this. The step before it, the signature over the envelope, is apart: on the controller
``check.signature.verify_guest_package``; whoever made that step calls ``read_verified``.

Rules of the command line:

1. Each word of ``REQUIRED`` is there, with that value.
2. ``ima_policy`` measures critical data; ``lsm``, if it is there, holds SELinux and the lockdown.
3. ``vouch.verity`` names the package's own tree.
4. No word is of ``REFUSED``: none that starts another program, opens a shell, or weakens what rule 1 switched on.
   ``--`` stands last or nowhere: what follows it goes to the first program.
5. No parameter stands twice but ``console``: which of two counts is up to who reads the line.

Names are compared as the kernel does, which takes ``-`` for ``_``.

Source: Linux 6.12, Documentation/admin-guide/kernel-parameters.txt, kernel/params.c (parameq), security/security.c;
systemd 257, kernel-command-line(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import EvidenceError, ParseError
from ..model.finding import Finding, Severity, deny
from ..model.image import DEBUG, IN_TOTO_PAYLOAD_TYPE, ROOT_IMAGE
from ..model.package import GuestPackage, package_id

REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "security": ("selinux",),
        "selinux": ("1",),
        "enforcing": ("1",),
        "lockdown": ("integrity", "confidentiality"),
        "module.sig_enforce": ("1",),
        "ima_hash": ("sha256",),
    }
)
"""Parameter to the values one of which it must have."""

CRITICAL_DATA = "critical_data"
NEEDED_LSMS = ("lockdown", "selinux")

_PROGRAM, _SHELL, _WEAKER = "starts another program", "opens a shell or a debugger", "weakens the guest"

REFUSED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(?:rd)?init(?:=.*)?", _PROGRAM),
        (r"systemd\.(?:unit|wants|run\w*|generator\w*|setenv|set_credential\w*|import_credentials)(?:=.*)?", _PROGRAM),
        (r"(?:systemd|rd\.systemd)\.(?:debug_shell|confirm_spawn|default_debug_tty|debug\w*)(?:=.*)?", _SHELL),
        (r"systemd\.(?:mask|verity\w*|volatile|firstboot|crash_shell|crash_action)(?:=.*)?", _WEAKER),
        (r"rd\.(?!systemd\.show_status)[\w.]+(?:=.*)?", _SHELL),
        (r"(?:break|single|emergency|rescue|recovery|maintenance|[0-6sS]|_?[bs])(?:=.*)?", _SHELL),
        (r"(?:kgdboc|kgdbwait|kgdbcon|kgdb\w*|ekgdboc|kdb|earlycon_kgdboc)(?:=.*)?", _SHELL),
        (r"(?:apparmor|smack|tomoyo\w*)=.*", "asks for another security module"),
        (r"(?:ima|integrity|evm)=(?:off|0|fix)", _WEAKER),
        (r"ima_(?:appraise|template_fmt|tcb|canonical_fmt)(?:=.*)?", _WEAKER),
        (r"(?:checkreqprot=1|selinux_checkreqprot\w*=1)", _WEAKER),
        (r"(?:initcall_blacklist|module_blacklist|clearcpuid|initrdmem|initrd|noinitrd|dyndbg)(?:=.*)?", _WEAKER),
        (r"sysctl\..*", "changes a setting of the kernel behind the image's back"),
        (r"(?:mitigations=off|nosmap|nosmep|nopti|pti=off|noexec=off|noexec32=off|rodata=.*|nospectre_v[12])", _WEAKER),
        (r"(?:strict_devmem|iomem)=.*", _WEAKER),
        (r"root=.*|rootfstype=.*|rootflags=.*|usr=.*|mount\.usr\w*=.*", "names a root beside vouch.verity"),
    )
)
"""Words that no guest may have, names with ``_`` in the place of ``-``, and what is wrong with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPackage:
    """A guest package that an enrolled key signed (made by ``read_verified`` only).

    Attributes:
        package_id: SHA-256 of the signed file.
        package: What it says.
        keyid: The key that signed it.
    """

    package_id: bytes
    package: GuestPackage
    keyid: str


def read_package(payload_type: str, payload: bytes) -> GuestPackage:
    """Return the guest package of an envelope.

    Raises:
        EvidenceError: ``envelope.type``, ``package.malformed``.

    Trust: says nothing about who signed.
    """
    if payload_type != IN_TOTO_PAYLOAD_TYPE:
        raise deny("envelope.type", "package", expected=IN_TOTO_PAYLOAD_TYPE, actual=payload_type)
    try:
        return GuestPackage.from_bytes(payload)
    except ParseError as error:
        raise deny("package.malformed", "package", actual=error) from None


def read_verified(envelope: bytes, payload_type: str, payload: bytes, keyid: str) -> VerifiedPackage:
    """Return the guest package of an envelope whose signature was just verified.

    Args:
        envelope: The signed file, byte for byte.
        payload_type: Its type, covered by the signature.
        payload: Its payload, covered by the signature.
        keyid: Id of the enrolled key that made the signature.

    Raises:
        EvidenceError: as ``read_package``.

    Trust: only a caller that verified the signature may call it.
    """
    package = read_package(payload_type, payload)
    return VerifiedPackage(package_id=package_id(envelope), package=package, keyid=keyid)


def check_statement(package: GuestPackage, *, allow_debug: bool = False) -> tuple[Finding, ...]:
    """Return what speaks against the package, going by what it says alone.

    Args:
        package: The package.
        allow_debug: Take a debug package for a warning, not for a denial.
    """
    findings = []
    if package.variant == DEBUG:
        severity = Severity.WARN if allow_debug else Severity.DENY
        findings.append(
            Finding(
                code="package.debug",
                severity=severity,
                subject=_subject(package),
                expected="a production package",
                actual="a debug package: whoever reaches its console is root",
            )
        )
    size = package.parts[ROOT_IMAGE].size_bytes
    if size != package.verity.image_bytes:
        blocks = f"{package.verity.data_blocks} data blocks"
        findings.append(
            _bad(
                "package.verity.size",
                package,
                f"{package.verity.image_bytes} bytes for {blocks} and their tree",
                f"{size} bytes",
            )
        )
    return (*findings, *_command_line(package))


def verify_statement(package: GuestPackage, *, allow_debug: bool = False) -> None:
    """Return when nothing that the package says speaks against it.

    Raises:
        EvidenceError: with every finding that denies.
    """
    raise_denials(check_statement(package, allow_debug=allow_debug))


def raise_denials(findings: tuple[Finding, ...]) -> None:
    """Return when no finding denies.

    Raises:
        EvidenceError: with those that do.
    """
    denials = [finding for finding in findings if finding.severity is Severity.DENY]
    if denials:
        raise EvidenceError(denials)


def _command_line(package: GuestPackage) -> Iterator[Finding]:
    words: dict[str, list[str]] = {}
    for word in package.cmdline.split(" "):
        name, equals, value = word.partition("=")
        name = name.replace("-", "_") if name.strip("-") else name
        words.setdefault(name, []).append(value)
        plain = name + equals + value
        for pattern, why in REFUSED:
            if pattern.fullmatch(plain):
                yield _bad("package.cmdline.refused", package, f"no word that {why}", word)
                break
    if "--" in words and (len(words["--"]) > 1 or not package.cmdline.endswith(" --")):
        yield _bad("package.cmdline.refused", package, "-- as the last word", "words behind --")
    for name, values in REQUIRED.items():
        found = words.get(name, [])
        if len(found) != 1 or found[0] not in values:
            yield _bad("package.cmdline.required", package, f"{name}={' or '.join(values)}, once", _told(name, found))
    yield from _lists(package, words)
    yield from (
        _bad("package.cmdline.repeated", package, f"{name} once", _told(name, found))
        for name, found in words.items()
        if len(found) > 1 and name != "console" and name not in REQUIRED
    )


def _lists(package: GuestPackage, words: Mapping[str, list[str]]) -> Iterator[Finding]:
    policy = words.get("ima_policy", [])
    if not any(CRITICAL_DATA in value.split("|") for value in policy):
        yield _bad("package.cmdline.required", package, f"ima_policy with {CRITICAL_DATA}", _told("ima_policy", policy))
    for value in words.get("lsm", []):
        if missing := [name for name in NEEDED_LSMS if name not in value.split(",")]:
            yield _bad("package.cmdline.required", package, f"lsm with {', '.join(missing)}", f"lsm={value}")
    name, _, value = package.verity.word.partition("=")
    found = words.get(name, [])
    if found != [value]:
        yield _bad("package.cmdline.verity", package, package.verity.word, _told(name, found))


def _told(name: str, values: list[str]) -> str:
    return " ".join(f"{name}={value}" if value else name for value in values) or f"no {name}"


def _subject(package: GuestPackage) -> str:
    return f"package:{package.name}"


def _bad(code: str, package: GuestPackage, expected: str, actual: str) -> Finding:
    return Finding.deny(code, _subject(package), expected, actual)

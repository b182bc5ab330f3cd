# SPDX-License-Identifier: GPL-3.0-or-later
"""Secure Boot state from a verified event log (PCR 7).

What is checked, in order; the first two apply to every event of PCR 7:

1. The event is of a kind that belongs there: a variable, an authority, the separator, or a known action.
2. Its digest covers its data, names included; else the log could say anything.
3. SecureBoot, PK, KEK, db and dbx stand there once each, in this order, before the separator.
4. SecureBoot is one byte, 0 or 1; an absent variable is measured empty and means 0.
5. There is exactly one separator, and it reports no error.
6. The key databases follow their format.
7. An image was authorised by "db" only with a key or digest that the measured db holds.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4.8 (PCR[7]); UEFI 2.10, 32.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EvidenceError, ParseError, UsageError, shown
from ..model.boot import BootAction, BootClaim, BootVariable, Coverage, SeparatorSeen
from ..model.finding import Finding, Locator, Severity, deny
from ..parse.efivar import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, Signature, parse_signature_lists
from .replay import PART, VerifiedLog

PCR_SECURE_BOOT = 7
SUBJECT = f"pcr:{PCR_SECURE_BOOT}"

_SOURCE = "TCG PC Client Platform Firmware Profile 1.06, 3.3.4.8"
_REQUIRED = (
    (GLOBAL_VARIABLE, "SecureBoot"),
    (GLOBAL_VARIABLE, "PK"),
    (GLOBAL_VARIABLE, "KEK"),
    (IMAGE_SECURITY_DATABASE, "db"),
    (IMAGE_SECURITY_DATABASE, "dbx"),
)
_OPTIONAL = {
    (GLOBAL_VARIABLE, "SetupMode"),
    (GLOBAL_VARIABLE, "AuditMode"),
    (GLOBAL_VARIABLE, "DeployedMode"),
    (IMAGE_SECURITY_DATABASE, "dbt"),
    (IMAGE_SECURITY_DATABASE, "dbr"),
}
_WEAKENING_ACTIONS = ("DMA Protection Disabled", "Security Level is Downgraded to 0", "UEFI Debug Mode")
_OWNER_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBootState:
    """What PCR 7 proves.

    Attributes:
        enabled: Whether the firmware enforced Secure Boot.
        platform_keys, exchange_keys, allowed, forbidden: PK, KEK, db and dbx.
        authorities: Entries that authorised something, by any database (db, or shim's own), in order.
        findings: WARN for actions that weaken the boot; never a DENY.
    """

    enabled: bool
    platform_keys: tuple[Signature, ...]
    exchange_keys: tuple[Signature, ...]
    allowed: tuple[Signature, ...]
    forbidden: tuple[Signature, ...]
    authorities: tuple[BootVariable, ...]
    findings: tuple[Finding, ...]


def verify_secure_boot(log: VerifiedLog) -> SecureBootState:
    """Return the Secure Boot state that ``log`` proves.

    Raises:
        EvidenceError: one of the numbered checks failed; codes "secureboot.*".
        UsageError: PCR 7 was not among the registers that ``log`` was verified against.
    """
    if PCR_SECURE_BOOT not in log.bank.values:
        raise UsageError("the log was not verified against PCR 7", code="pcr.missing")
    claims = tuple(log.claims(PCR_SECURE_BOOT))
    findings = tuple(note for claim in claims for note in _expect_known(claim))
    databases = _variables_in_order(claims)
    _expect_one_separator(claims)
    keys = {name: _signatures(databases[name]) for name in ("PK", "KEK", "db", "dbx")}
    authorities = tuple(c for c in claims if isinstance(c, BootVariable) and c.authority)
    _expect_authorised(authorities, keys["db"])
    return SecureBootState(
        enabled=_flag(databases["SecureBoot"]),
        platform_keys=keys["PK"],
        exchange_keys=keys["KEK"],
        allowed=keys["db"],
        forbidden=keys["dbx"],
        authorities=authorities,
        findings=findings,
    )


def _deny(code: str, claim: BootClaim | None, *, expected: object = None, actual: object = None) -> EvidenceError:
    where = Locator(part=PART, entry=claim.event_index if claim else None)
    return deny(code, SUBJECT, expected=expected, actual=actual, where=where, source=_SOURCE)


def _expect_known(claim: BootClaim) -> tuple[Finding, ...]:
    """Checks 1 and 2; returns a warning for an action that weakens the boot."""
    known = isinstance(claim, SeparatorSeen | BootVariable) or (
        isinstance(claim, BootAction) and claim.text in _WEAKENING_ACTIONS
    )
    if not known:
        raise _deny("secureboot.event.unknown", claim, actual=getattr(claim, "text", claim.type_name))
    if claim.coverage is not Coverage.WHOLE:
        raise _deny("secureboot.event.uncovered", claim, actual=f"{claim.type_name} data differ from the digest")
    if not isinstance(claim, BootAction):
        return ()
    return (
        Finding(
            code="secureboot.weakened",
            severity=Severity.WARN,
            subject=SUBJECT,
            where=Locator(part=PART, entry=claim.event_index),
            actual=shown(claim.text),
            source=_SOURCE,
        ),
    )


def _variables_in_order(claims: tuple[BootClaim, ...]) -> dict[str, BootVariable]:
    """Check 3."""
    found: dict[str, BootVariable] = {}
    separated = False
    for claim in claims:
        separated = separated or isinstance(claim, SeparatorSeen)
        if not isinstance(claim, BootVariable) or claim.authority:
            continue
        key = (claim.vendor, claim.name)
        if key in _OPTIONAL:
            continue
        due = None if separated or len(found) == len(_REQUIRED) else _REQUIRED[len(found)]
        if key != due:
            expected = due[1] if due else "no further variable"
            raise _deny("secureboot.variable.order", claim, expected=expected, actual=claim.name)
        found[claim.name] = claim
    if len(found) != len(_REQUIRED):
        raise _deny("secureboot.variable.missing", None, expected=_REQUIRED[len(found)][1], actual="nothing")
    return found


def _flag(variable: BootVariable) -> bool:
    """Check 4."""
    if variable.data not in (b"", b"\x00", b"\x01"):
        raise _deny("secureboot.value", variable, expected="00 or 01", actual=variable.data)
    return variable.data == b"\x01"


def _expect_one_separator(claims: tuple[BootClaim, ...]) -> None:
    """Check 5."""
    separators = [c for c in claims if isinstance(c, SeparatorSeen)]
    if len(separators) != 1 or separators[0].error:
        actual = "an error separator" if len(separators) == 1 else f"{len(separators)} separators"
        raise _deny(
            "secureboot.separator", separators[0] if separators else None, expected="one separator", actual=actual
        )


def _signatures(variable: BootVariable) -> tuple[Signature, ...]:
    """Check 6."""
    try:
        return parse_signature_lists(variable.data)
    except ParseError as error:
        raise _deny("secureboot.database", variable, actual=f"{variable.name}: {error}") from error


def _expect_authorised(authorities: tuple[BootVariable, ...], allowed: tuple[Signature, ...]) -> None:
    """Check 7. The firmware logs EFI_SIGNATURE_DATA (with its owner), shim the bare certificate."""
    entries = {signature.data for signature in allowed}
    for authority in authorities:
        from_db = (authority.vendor, authority.name) == (IMAGE_SECURITY_DATABASE, "db")
        if from_db and authority.data not in entries and authority.data[_OWNER_BYTES:] not in entries:
            raise _deny("secureboot.authority.unknown", authority, expected="an entry of db", actual=authority.data)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signs attestation results, told to others: a JSON Web Key Set, and the choice of a key out of one.

A key is named by its thumbprint (RFC 7638): the ``kid`` of its entry, and of the header of what it signed. A reader
that has the set finds the key; one that has nothing but a token finds no key in it, and should not.

Written are the members that ES256 needs. Read are sets of others as well: entries of another kind are passed over, as
RFC 7517 wants it; an entry with a private member is not, since such a file should not be where anybody reads it.

Source: RFC 7517, 4, 5; RFC 7518, 6.2; RFC 7638, 3.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from joserfc import jwk
from joserfc.errors import JoseError

from ..errors import ParseError, UsageError
from ..model.finding import deny
from ..parse.canonical import dump_canonical, load_json

ALGORITHM = "ES256"
MAX_KEYS = 64
MAX_JWKS_BYTES = 256 << 10
MAX_KID_CHARS = 256

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256 (SEC 2, 2.4.2)."""

_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
"""Members of private and of symmetric keys (RFC 7518, 6)."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys that may sign results, each under its ``kid``; never empty.

    Attributes:
        keys: ``kid`` to key.
    """

    keys: Mapping[str, jwk.ECKey]

    def choose(self, kid: str | None) -> jwk.ECKey:
        """Return the key that a token names.

        Args:
            kid: From the token's header; None when it names none: then there must be one key only.

        Raises:
            EvidenceError: ``ear.kid.unknown``, ``ear.kid.missing``.
        """
        if kid is None:
            if len(self.keys) > 1:
                raise deny("ear.kid.missing", "ear", expected=f"one of {len(self.keys)} keys named", actual="none")
            return next(iter(self.keys.values()))
        if kid not in self.keys:
            raise deny("ear.kid.unknown", "ear", expected=" or ".join(sorted(self.keys)), actual=kid)
        return self.keys[kid]


def jwks(keys: Iterable[bytes]) -> dict[str, Any]:
    """Return the key set of ``keys``: public members only, ascending by ``kid``, each key once.

    Args:
        keys: P-256 keys, PEM, private or public.

    Raises:
        UsageError: ``ear.key`` for another kind of key, ``ear.jwks`` for none or too many.
    """
    entries: dict[str, dict[str, Any]] = {}
    for pem in keys:
        public = import_key(pem).as_dict(private=False)
        point = {name: str(public[name]) for name in ("crv", "kty", "x", "y")}
        kid = thumbprint(point)
        entries[kid] = {**point, "kid": kid, "use": "sig", "alg": ALGORITHM}
    if not 0 < len(entries) <= MAX_KEYS:
        raise UsageError(f"a key set has 1 to {MAX_KEYS} keys, not {len(entries)}", code="ear.jwks")
    return {"keys": [entries[kid] for kid in sorted(entries)]}


def jwks_bytes(keys: Iterable[bytes]) -> bytes:
    """Return the file of ``jwks(keys)``: the same keys, the same bytes; raises as ``jwks``."""
    return dump_canonical(jwks(keys)) + b"\n"


def thumbprint(public: Mapping[str, str]) -> str:
    """Return the name of an elliptic curve key (RFC 7638, 3.2): SHA-256 of its required members, base64url."""
    required = dump_canonical({name: public[name] for name in ("crv", "kty", "x", "y")})
    return encode_base64url(hashlib.sha256(required).digest())


def key_set(value: bytes | Mapping[str, Any]) -> KeySet:
    """Return the keys of a file (PEM, JWK or JWKS), or of a JWK or JWKS that was read.

    Raises:
        UsageError: ``ear.key``, ``ear.jwks``.
    """
    if not isinstance(value, bytes):
        return _key_set(value)
    if value.lstrip()[:1] != b"{":
        return _key_set(jwks([value]))
    try:
        return _key_set(load_json(value, limit_bytes=MAX_JWKS_BYTES))
    except ParseError as error:
        raise _bad(error.message) from None


def join_key_sets(sets: Iterable[KeySet]) -> KeySet:
    """Return the keys of all ``sets``; the same key in two of them counts once.

    Raises:
        UsageError: ``ear.jwks`` for two keys of one name, or no set at all.
    """
    found: dict[str, jwk.ECKey] = {}
    for item in sets:
        for kid, key in item.keys.items():
            if kid in found and key_name(found[kid]) != key_name(key):
                raise _bad("two keys have one kid")
            found[kid] = key
    if not found:
        raise _bad("no key is given")
    return KeySet(MappingProxyType(found))


def import_key(key: bytes | Mapping[str, Any]) -> jwk.ECKey:
    """Return the P-256 key of a PEM block or of a JWK.

    Raises:
        UsageError: ``ear.key`` for another kind of key.
    """
    try:
        imported = jwk.ECKey.import_key(dict(key) if isinstance(key, Mapping) else key)
        name = imported.curve_name
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"no P-256 key: {type(error).__name__}", code="ear.key") from None
    if name != "P-256":
        raise UsageError(f"{ALGORITHM} takes a P-256 key, not {name}", code="ear.key")
    return imported


def key_name(key: jwk.ECKey) -> str:
    """Return the thumbprint of ``key``."""
    public = key.as_dict(private=False)
    return thumbprint({name: str(public[name]) for name in ("crv", "kty", "x", "y")})


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: bytes) -> bytes:
    """Return the bytes of characters of base64url, whatever stands in bits that mean nothing."""
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""


def smaller_form(signature: bytes) -> bytes:
    """Return the one of the two forms of an ES256 signature whose s is the smaller.

    Whoever has ``(r, s)`` has ``(r, n - s)``, without the key and just as valid (SEC 1, 4.1.4).
    """
    r, s = signature[:32], int.from_bytes(signature[32:], "big")
    return r + min(s, abs(_ORDER - s)).to_bytes(32, "big")


def _key_set(value: Mapping[str, Any]) -> KeySet:
    entries = value.get("keys", [value])
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise _bad(f"keys is no list of at most {MAX_KEYS}")
    found: dict[str, jwk.ECKey] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise _bad("an entry is no object")
        if _PRIVATE & entry.keys():
            raise _bad("an entry holds a private or a symmetric key")
        if not _usable(entry):
            continue
        key = import_key({name: entry[name] for name in ("crv", "kty", "x", "y") if name in entry})
        kid = entry.get("kid", key_name(key))
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS or kid in found:
            raise _bad("a kid stands twice or is no short text")
        found[kid] = key
    if not found:
        raise _bad(f"no entry is a key for {ALGORITHM}")
    return KeySet(MappingProxyType(found))


def _usable(entry: Mapping[str, Any]) -> bool:
    """Say whether an entry is for what we read: P-256, signatures, ES256."""
    return (
        (entry.get("kty"), entry.get("crv")) == ("EC", "P-256")
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", ALGORITHM) == ALGORITHM
        and (not isinstance(entry.get("key_ops"), list) or "verify" in entry["key_ops"])
    )


def _bad(problem: str) -> UsageError:
    return UsageError(f"key set: {problem}", code="ear.jwks")

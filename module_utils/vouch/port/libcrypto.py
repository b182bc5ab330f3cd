# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures by the libcrypto that sshd brings into dom0 anyway, called through ctypes: no further package is trusted.

The scheme is the key's, as everywhere. The library gets bytes and lengths only, never a file or a URL; an answer other
than exactly 1 is a signature that does not hold.

Source: OpenSSL 3.5, d2i_PUBKEY(3), EVP_DigestVerifyInit(3), EVP_DigestSignInit(3), EVP_PKEY_get_id(3),
EVP_PKEY_Q_keygen(3).
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..errors import UnreachableError, UsageError
from ..model.finding import deny
from ..model.key import ECDSA_P256, ED25519, RSASSA, PublicKey

LIBRARY = "libcrypto.so.3"

# EVP_PKEY_RSA, EVP_PKEY_EC, EVP_PKEY_ED25519: openssl/obj_mac.h.
_NID = {RSASSA: 6, ECDSA_P256: 408, ED25519: 1087}


MAX_SPKI_BYTES, MAX_SIGNATURE_BYTES = 256, 128
"""A P-256 key takes 91 bytes, a signature by it at most 72."""


class Libcrypto:
    """The library, loaded once.

    Raises:
        UnreachableError: ``libcrypto.absent``.
    """

    __slots__ = ("_library", "_sha256")

    def __init__(self, name: str = LIBRARY) -> None:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            raise UnreachableError(f"{name} cannot be loaded: {error}", code="libcrypto.absent") from None
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        _declare(library, "d2i_PUBKEY", pointer, pointer, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long)
        _declare(library, "EVP_PKEY_free", None, pointer)
        _declare(library, "EVP_PKEY_get_id", ctypes.c_int, pointer)
        _declare(library, "EVP_MD_CTX_new", pointer)
        _declare(library, "EVP_MD_CTX_free", None, pointer)
        _declare(library, "EVP_sha256", pointer)
        _declare(library, "EVP_DigestVerifyInit", ctypes.c_int, pointer, pointer, pointer, pointer, pointer)
        _declare(library, "EVP_DigestVerify", ctypes.c_int, pointer, ctypes.c_char_p, size, ctypes.c_char_p, size)
        _declare(library, "EVP_DigestSignInit", ctypes.c_int, pointer, pointer, pointer, pointer, pointer)
        _declare(library, "EVP_DigestSign", ctypes.c_int, pointer, pointer, ctypes.POINTER(size), ctypes.c_char_p, size)
        _declare(library, "EVP_PKEY_Q_keygen", pointer, pointer, pointer, ctypes.c_char_p, ctypes.c_char_p)
        _declare(library, "i2d_PUBKEY", ctypes.c_int, pointer, ctypes.POINTER(ctypes.c_char_p))
        _declare(library, "ERR_clear_error", None)
        self._library = library
        self._sha256 = library.EVP_sha256()

    def verify_signature(self, key: PublicKey, message: bytes, signature: bytes) -> None:
        """Return when ``signature`` over ``message`` is ``key``'s; what ``check.opened`` wants.

        Args:
            key: An enrolled key.
            message: The signed bytes.
            signature: Ed25519: 64 bytes; ECDSA: DER SEQUENCE of r and s; RSA: as long as the modulus.

        Raises:
            EvidenceError: ``signature.invalid``.
            UsageError: ``key.unusable``: the key should not have been enrolled.
        """
        library = self._library
        where = ctypes.c_char_p(key.spki)
        loaded = library.d2i_PUBKEY(None, ctypes.byref(where), len(key.spki))
        try:
            if not loaded or library.EVP_PKEY_get_id(loaded) != _NID[key.scheme]:
                raise UsageError(f"key {key.keyid} cannot be used", code="key.unusable")
            if not self._holds(loaded, key, message, signature):
                raise deny("signature.invalid", "signature", expected=f"a signature by {key.keyid}", actual=signature)
        finally:
            library.EVP_PKEY_free(loaded)
            # What failed leaves its reasons in a queue of the library, where nobody reads them.
            library.ERR_clear_error()

    def generate_key(self) -> SigningKey:
        """Return a fresh P-256 key, which never leaves this process.

        Raises:
            UnreachableError: ``libcrypto.key``: the library makes none.
        """
        made = self._library.EVP_PKEY_Q_keygen(None, None, b"EC", b"P-256")
        if not made:
            raise self._no_key()
        return SigningKey(self, made)

    def _no_key(self) -> UnreachableError:
        self._library.ERR_clear_error()
        return UnreachableError("libcrypto makes no P-256 key, or does not use it", code="libcrypto.key")

    def _holds(self, loaded: int, key: PublicKey, message: bytes, signature: bytes) -> bool:
        library = self._library
        context = library.EVP_MD_CTX_new()
        if not context:
            raise MemoryError
        try:
            # Ed25519 hashes by itself; the two others sign a SHA-256.
            digest = None if key.scheme == ED25519 else self._sha256
            if library.EVP_DigestVerifyInit(context, None, digest, None, loaded) != 1:
                raise UsageError(f"key {key.keyid} cannot be used", code="key.unusable")
            return bool(library.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1)
        finally:
            library.EVP_MD_CTX_free(context)


class SigningKey:
    """A P-256 key; made by ``Libcrypto.generate_key`` only."""

    __slots__ = ("_key", "_owner", "spki")

    def __init__(self, owner: Libcrypto, key: int) -> None:
        self._owner, self._key = owner, key
        library = owner._library
        where = ctypes.create_string_buffer(MAX_SPKI_BYTES)
        end = ctypes.cast(where, ctypes.c_char_p)
        size = library.i2d_PUBKEY(key, None)
        if not 0 < size <= MAX_SPKI_BYTES or library.i2d_PUBKEY(key, ctypes.byref(end)) != size:
            raise owner._no_key()
        self.spki = where.raw[:size]
        """Its public half, SubjectPublicKeyInfo."""

    def __del__(self) -> None:
        if getattr(self, "_key", 0):
            self._owner._library.EVP_PKEY_free(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the ECDSA signature over the SHA-256 of ``message``: DER SEQUENCE of r and s.

        Raises:
            UnreachableError: ``libcrypto.key``.
        """
        library, owner = self._owner._library, self._owner
        context = library.EVP_MD_CTX_new()
        if not context:
            raise MemoryError
        try:
            signature = ctypes.create_string_buffer(MAX_SIGNATURE_BYTES)
            size = ctypes.c_size_t(MAX_SIGNATURE_BYTES)
            if (
                library.EVP_DigestSignInit(context, None, owner._sha256, None, self._key) != 1
                or library.EVP_DigestSign(context, signature, ctypes.byref(size), message, len(message)) != 1
            ):
                raise owner._no_key()
            return signature.raw[: size.value]
        finally:
            library.EVP_MD_CTX_free(context)


def _declare(library: Any, name: str, result: Any, *arguments: Any) -> None:
    """Tell ctypes what a function takes: without that, pointers would be cut to 32 bits."""
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments

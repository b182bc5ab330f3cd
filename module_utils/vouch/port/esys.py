# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a TPM through tpm2-pytss (ESAPI): its errors in our words, its handles given back.

Works with tpm2-pytss 2.3 and 3.0: every argument whose default changed between them is given. The library is
imported when a TPM is opened, not before: it takes a second or more on a slow machine.

Every transient object and session is flushed in ``finally``: their slots are few (three, usually) and a TPM whose
slots are used up answers nobody until it is reset.

Source: TPM 2.0 Library, Part 3 (commands); Part 2, 6.6.3 (response codes).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from ..errors import UnreachableError
from .quotetpm import DEVICE

MAX_NV_BYTES = 16 * 1024
"""Longest NV index that is read as a certificate."""

NV_CHUNK_BYTES = 512
"""Every TPM reads that much at once (TPM_PT_NV_BUFFER_MAX is at least 512 by the PC Client profile)."""

MAX_HANDLES = 254

CODES: Mapping[int, str] = {
    0x921: "tpm.lockout",
    0x08E: "tpm.auth",
    0x0A2: "tpm.auth",
    0x902: "tpm.slots",
    0x903: "tpm.slots",
}
"""TPM_RC to our code: LOCKOUT, AUTH_FAIL, BAD_AUTH, OBJECT_MEMORY, SESSION_MEMORY."""


class EsysConnection:
    """One open connection; methods with a leading underscore are for subclasses, called inside ``_errors``.

    Args:
        tcti: How to reach the TPM, e.g. ``device:/dev/tpmrm0`` or ``swtpm:host=127.0.0.1,port=2321``.

    Raises:
        UnreachableError: ``tpm.absent`` when there is none or the library is missing.
    """

    def __init__(self, tcti: str = DEVICE) -> None:
        # The C library writes errors to standard error as well, which are part of ours already.
        os.environ.setdefault("TSS2_LOG", "all+none")
        try:
            import tpm2_pytss
        except ImportError as error:
            raise UnreachableError(f"tpm2-pytss cannot be loaded: {error}", code="tpm.absent") from None
        self._t: Any = tpm2_pytss
        try:
            self._esys: Any = tpm2_pytss.ESAPI(tcti)
        except (tpm2_pytss.TSS2_Exception, OSError) as error:
            raise UnreachableError(f"no TPM at {tcti}: {error}", code="tpm.absent") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._esys.close()

    @contextlib.contextmanager
    def _errors(self, doing: str, codes: Mapping[int, str] = CODES) -> Iterator[None]:
        """Turn the library's errors into ours."""
        try:
            yield
        except self._t.TSS2_Exception as error:
            raise UnreachableError(f"TPM, {doing}: {error}", code=_code(int(error.rc), codes)) from None

    def _handles(self, first: int) -> list[int]:
        """Return the handles in use from ``first`` on, of the same kind."""
        t = self._t
        _, capability = self._esys.get_capability(t.TPM2_CAP.HANDLES, first, MAX_HANDLES)
        return [int(handle) for handle in capability.data.handles]

    def _create_primary(self, template: Any, hierarchy: Any) -> Any:
        t = self._t
        made, *_ = self._esys.create_primary(
            t.TPM2B_SENSITIVE_CREATE(),
            t.TPM2B_PUBLIC(publicArea=template),
            hierarchy,
            session1=t.ESYS_TR.PASSWORD,
        )
        return made

    @contextlib.contextmanager
    def _transient(self, handle: Any) -> Iterator[Any]:
        try:
            yield handle
        finally:
            self._esys.flush_context(handle)

    def _evict(self, handle: int) -> None:
        """Remove a persistent object; nothing happens when there is none."""
        if handle in self._handles(handle):
            kept = self._esys.tr_from_tpmpublic(handle)
            self._esys.evict_control(self._t.ESYS_TR.OWNER, kept, handle)
            # Some versions of the library forget an evicted object by themselves, some do not.
            with contextlib.suppress(self._t.TSS2_Exception):
                self._close(kept)

    def _close(self, handle: Any) -> None:
        """Forget a persistent object or NV index on our side (the TPM keeps it)."""
        self._esys.tr_close(handle)

    def _public(self, handle: Any) -> bytes:
        public, *_ = self._esys.read_public(handle)
        return bytes(public.publicArea.marshal())

    def _read_nv(self, index: int) -> bytes:
        handle = self._esys.tr_from_tpmpublic(index)
        try:
            public, _ = self._esys.nv_read_public(handle)
            size = int(public.nvPublic.dataSize)
            if size > MAX_NV_BYTES:
                raise UnreachableError(f"NV index {index:#x} holds {size} bytes", code="tpm.nv.too-large")
            data = b""
            while len(data) < size:
                count = min(NV_CHUNK_BYTES, size - len(data))
                # The index authorizes its own reading, with the empty password the profile prescribes.
                data += bytes(self._esys.nv_read(handle, count, len(data), handle))
            return data
        finally:
            self._close(handle)


def _code(rc: int, codes: Mapping[int, str]) -> str:
    """Return our code of a response code; bits above the low 12 only say which layer passed it on."""
    low = rc & 0xFFF
    # Format one keeps the error in six bits; the others number the parameter, handle or session it is about.
    return codes.get(low & 0x0BF if low & 0x080 else low, "tpm.failed")

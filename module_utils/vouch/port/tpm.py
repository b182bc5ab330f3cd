# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM of this machine, through tpm2-pytss (ESAPI).

What it is asked to do; how it is reached, and that nothing is left behind in it, is ``esys.py``.

Source: TPM 2.0 Library, Part 3 (commands); TCG EK Credential Profile v2.5 (certificates in NV).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import UnreachableError, UsageError
from ..model.certificate import Certificate
from ..model.digest import PcrBank, PcrSelection, hash_bytes
from ..model.ektemplate import EK_CHAIN_FIRST, EK_CHAIN_LAST, EK_TEMPLATES, RSA_2048, EkTemplate, ek_template
from ..model.statement import TpmCounters
from ..parse.der import parse_der
from ..parse.tpm2 import parse_attest
from .esys import CODES, EsysConnection
from .quotetpm import AK_HANDLE as AK_HANDLE
from .quotetpm import DEVICE as DEVICE

QUOTE_ATTEMPTS = 8
"""How often registers are read again when one was extended between quote and reading."""

_PT_PERMANENT, _IN_LOCKOUT = 0x200, 1 << 9

_CHALLENGE_CODES = {**CODES, 0x09F: "tpm.challenge", 0x084: "tpm.challenge", 0x095: "tpm.challenge"}
"""INTEGRITY, VALUE and SIZE as well: what a challenge for another TPM or key fails with."""

_TRANSIENT_FIRST, _SESSION_FIRST, _NV_FIRST = 0x80000000, 0x02000000, 0x01C00000

# restricted | sign | noDA | userWithAuth | sensitiveDataOrigin | fixedParent | fixedTPM. noDA, because a key without
# password would else be blocked by somebody else's wrong passwords.
_AK_HEAD = bytes.fromhex("0023 000b 00050472 0000 0010 0018 000b 0003 0010")


class Tpm(EsysConnection):
    """A connection to one TPM; use it as a context manager, from one thread.

    Args:
        tcti: How to reach it, e.g. ``device:/dev/tpmrm0`` or ``swtpm:host=127.0.0.1,port=2321``.

    Raises:
        UnreachableError: ``tpm.absent`` when there is none or the library is missing; by every method
            ``tpm.lockout``, ``tpm.ak.missing``, ``tpm.auth``, or ``tpm.failed`` with the TPM's own words.
    """

    def __init__(self, tcti: str = DEVICE) -> None:
        super().__init__(tcti)
        self._ak: Any = None

    # Registers and clock.

    def read_pcrs(self, selection: PcrSelection) -> PcrBank:
        """Return the values of ``selection``, all of one moment.

        A TPM answers at most eight registers at once; its update counter tells whether one changed in between.
        """
        with self._errors("reading registers"):
            for _ in range(QUOTE_ATTEMPTS):
                values, settled = self._read_pcrs_once(selection)
                if settled:
                    return PcrBank(selection.algorithm, values)
        raise UnreachableError("registers changed during every attempt to read them", code="tpm.busy")

    def _read_pcrs_once(self, selection: PcrSelection) -> tuple[dict[int, bytes], bool]:
        values: dict[int, bytes] = {}
        counters = set()
        wanted = selection.indices
        while wanted:
            part = PcrSelection(selection.algorithm, wanted[:8])
            counter, _, digests = self._esys.pcr_read(str(part))
            counters.add(int(counter))
            read = [bytes(digest) for digest in digests]
            if len(read) != len(part.indices):
                raise UnreachableError(f"this TPM has no complete bank for {part}", code="tpm.bank")
            values.update(zip(part.indices, read, strict=True))
            wanted = wanted[8:]
        return values, len(counters) == 1

    def extend(self, pcr: int, digest: bytes) -> None:
        """Extend register ``pcr`` of the SHA-256 bank by ``digest``.

        Raises:
            UsageError: for a digest that is not 32 bytes long or a register that does not exist.
        """
        if len(digest) != 32 or not 0 <= pcr < 24:
            raise UsageError("extend takes a register 0 to 23 and a 32-byte digest", code="digest.length")
        t = self._t
        value = t.TPMT_HA(hashAlg=t.TPM2_ALG.SHA256, digest=t.TPMU_HA(sha256=digest))
        with self._errors(f"extending PCR {pcr}"):
            self._esys.pcr_extend(t.ESYS_TR(pcr), t.TPML_DIGEST_VALUES([value]))

    def clock(self) -> TpmCounters:
        """Return the clock and both counters as of now."""
        with self._errors("reading the clock"):
            info = self._esys.read_clock().clockInfo
            return TpmCounters(
                clock_ms=int(info.clock), reset_count=int(info.resetCount), restart_count=int(info.restartCount)
            )

    def locked_out(self) -> bool:
        """Say whether wrong passwords have put the TPM into lockout (TPMA_PERMANENT.inLockout)."""
        t = self._t
        with self._errors("reading its state"):
            _, capability = self._esys.get_capability(t.TPM2_CAP.TPM_PROPERTIES, _PT_PERMANENT, 1)
            properties = capability.data.tpmProperties
            return bool(len(properties) and int(properties[0].value) & _IN_LOCKOUT)

    # Attestation key and quotes.

    def create_ak(self) -> bytes:
        """Make a new attestation key, keep it at ``AK_HANDLE``, and return its TPMT_PUBLIC.

        ECC P-256, restricted to sign what the TPM itself made. 32 random bytes go into the template and are thrown
        away, so nobody can make the same key again: after TPM2_Clear it is gone for good. A key that was at the
        handle before is removed.
        """
        t = self._t
        unique = os.urandom(32)
        template, _ = t.TPMT_PUBLIC.unmarshal(_AK_HEAD + b"\x00\x20" + unique + b"\x00\x00")
        with self._errors("making the attestation key"):
            self._forget_ak()
            self._evict(AK_HANDLE)
            with self._transient(self._create_primary(template, t.ESYS_TR.OWNER)) as made:
                self._close(self._esys.evict_control(t.ESYS_TR.OWNER, made, AK_HANDLE))
        return self.ak_public()

    def ak_public(self) -> bytes:
        """Return the TPMT_PUBLIC of the attestation key.

        Raises:
            UnreachableError: ``tpm.ak.missing``.
        """
        ak = self._ak_handle()
        with self._errors("reading the attestation key"):
            return self._public(ak)

    def quote(self, qualifying: bytes, selection: PcrSelection) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE of a quote by the attestation key.

        Args:
            qualifying: What the quote is bound to, at most 64 bytes.
            selection: Registers it covers.
        """
        ak = self._ak_handle()
        t = self._t
        with self._errors("quoting"):
            attest, signature = self._esys.quote(
                ak,
                str(selection),
                qualifying,
                in_scheme=t.TPMT_SIG_SCHEME(scheme=t.TPM2_ALG.NULL),
                session1=t.ESYS_TR.PASSWORD,
            )
            return bytes(attest), bytes(signature.marshal())

    def quote_registers(self, qualifying: bytes, selection: PcrSelection) -> tuple[bytes, bytes, PcrBank]:
        """Return a quote and the register values it covers.

        Quoting and reading are two commands; a register extended in between (IMA does it at any time) makes them
        differ, and then both are done again.

        Raises:
            UnreachableError: ``tpm.busy`` when that happens every time.
        """
        for _ in range(QUOTE_ATTEMPTS):
            attest, signature = self.quote(qualifying, selection)
            bank = self.read_pcrs(selection)
            quoted = parse_attest(attest).quote
            # The digest is of the signing scheme's hash, which for our key is SHA-256 (Part 3, 18.4).
            if quoted is not None and quoted.pcr_digest == hash_bytes("sha256", bank.composite(selection)):
                return attest, signature, bank
        raise UnreachableError("a register changed between every quote and its reading", code="tpm.busy")

    # Endorsement key, credential activation.

    def ek_certificates(self) -> Mapping[str, bytes]:
        """Return kind (see ``model.ektemplate``) to certificate, cut where its DER ends.

        Raises:
            UnreachableError: ``tpm.ek.certificate-missing`` when the TPM holds none that we know.
        """
        with self._errors("reading EK certificates"):
            there = set(self._handles(_NV_FIRST))
            found = {
                template.kind: _trimmed(self._read_nv(template.certificate_index))
                for template in EK_TEMPLATES
                if template.certificate_index in there
            }
        if not found:
            raise UnreachableError(
                "the TPM holds no EK certificate",
                code="tpm.ek.certificate-missing",
                hint="enrol it with a certificate from the vendor's site, or by hand",
            )
        return found

    def ek_chain(self) -> tuple[bytes, ...]:
        """Return the intermediate certificates that the vendor put beside the EK certificate; often none."""
        with self._errors("reading the EK certificate chain"):
            indices = [i for i in self._handles(EK_CHAIN_FIRST) if EK_CHAIN_FIRST <= i <= EK_CHAIN_LAST]
            # One long chain may be cut over several indices (2.2.1.5.2), so the bytes are joined first.
            data = b"".join(self._read_nv(index) for index in indices)
        chain = []
        while data[:1] == b"\x30":
            element = parse_der(data, allow_trailing=True)
            chain.append(element.encoded)
            data = data[element.end :]
        return tuple(chain)

    def ek_public(self, kind: str = RSA_2048) -> bytes:
        """Return the TPMT_PUBLIC of the endorsement key named ``kind``, made from its template.

        Raises:
            UnreachableError: ``tpm.ek.mismatch`` when it is not the key of the certificate of that kind: the vendor
                made it from another template, and a challenge for the certificate could not be answered.
        """
        certificate = self.ek_certificates().get(kind)
        template = ek_template(kind)
        with self._errors("making the endorsement key"), self._ek(template) as ek:
            public = self._public(ek)
        if certificate is not None:
            numbers = [item for item in Certificate.from_der(certificate).key[1:] if isinstance(item, bytes)]
            if public != template.public(*numbers):
                raise UnreachableError(f"the {kind} endorsement key is not the certified one", code="tpm.ek.mismatch")
        return public

    def activate(self, credential_blob: bytes, encrypted_secret: bytes, *, kind: str = RSA_2048) -> bytes:
        """Return the secret of a credential challenge.

        The TPM gives it out only if the endorsement key can decrypt it and the attestation key has the name it
        was made for: both keys then sit in this TPM.

        Args:
            credential_blob: As ``check.identity.make_challenge`` gives it.
            encrypted_secret: Likewise.
            kind: Endorsement key the challenge was made for.

        Raises:
            UnreachableError: ``tpm.challenge`` when the challenge is for another TPM or another key.
        """
        t = self._t
        template = ek_template(kind)
        ak = self._ak_handle()
        with self._errors("answering the credential challenge", _CHALLENGE_CODES), self._ek(template) as ek:
            blob = t.TPM2B_ID_OBJECT(credential=credential_blob)
            secret = t.TPM2B_ENCRYPTED_SECRET(secret=encrypted_secret)
            with self._ek_authorization(template) as session:
                answer = self._esys.activate_credential(
                    ak, ek, blob, secret, session1=t.ESYS_TR.PASSWORD, session2=session
                )
            return bytes(answer)

    # For tests and metrics.

    def open_handles(self) -> Mapping[str, int]:
        """Return how many transient objects and sessions the TPM holds: they must not grow."""
        with self._errors("counting handles"):
            return {
                "transient": len(self._handles(_TRANSIENT_FIRST)),
                "sessions": len(self._handles(_SESSION_FIRST)),
            }

    def clear(self) -> None:
        """Do TPM2_Clear: owner keys are lost for good, the endorsement seed stays. Tests only."""
        with self._errors("clearing"):
            self._forget_ak()
            self._esys.clear(self._t.ESYS_TR.LOCKOUT)

    # Helpers; all but ``_ak_handle`` are called inside ``_errors``.

    def _ak_handle(self) -> Any:
        if self._ak is None:
            with self._errors("looking for the attestation key"):
                if AK_HANDLE not in self._handles(AK_HANDLE):
                    raise UnreachableError(f"no key at {AK_HANDLE:#x}", code="tpm.ak.missing", hint="install the host")
                self._ak = self._esys.tr_from_tpmpublic(AK_HANDLE)
        return self._ak

    def _forget_ak(self) -> None:
        # The library keeps the name of every handle it knows, and refuses a new key at a handle it still holds.
        if self._ak is not None:
            self._close(self._ak)
            self._ak = None

    @contextlib.contextmanager
    def _ek(self, template: EkTemplate) -> Iterator[Any]:
        """Yield the endorsement key: the persistent one where it is of our template, else a transient one."""
        if template.persistent_handle in self._handles(template.persistent_handle):
            kept = self._esys.tr_from_tpmpublic(template.persistent_handle)
            try:
                if self._public(kept).startswith(template.head):
                    yield kept
                    return
            finally:
                self._close(kept)
        area, _ = self._t.TPMT_PUBLIC.unmarshal(template.template)
        with self._transient(self._create_primary(area, self._t.ESYS_TR.ENDORSEMENT)) as made:
            yield made

    @contextlib.contextmanager
    def _ek_authorization(self, template: EkTemplate) -> Iterator[Any]:
        """Yield the session that authorizes one use of the endorsement key."""
        t = self._t
        if not template.uses_policy:
            yield t.ESYS_TR.PASSWORD
            return
        session = self._esys.start_auth_session(
            t.ESYS_TR.NONE,
            t.ESYS_TR.NONE,
            t.TPM2_SE.POLICY,
            t.TPMT_SYM_DEF(algorithm=t.TPM2_ALG.NULL),
            t.TPM2_ALG.SHA256,
        )
        with self._transient(session):
            self._esys.policy_secret(t.ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0, session1=t.ESYS_TR.PASSWORD)
            yield session


def _trimmed(data: bytes) -> bytes:
    """Return the certificate without the filling of its NV index."""
    return parse_der(data, allow_trailing=True).encoded

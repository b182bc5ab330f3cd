# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence: what an attester answers to one nonce, each part as received.

Nothing here is verified. ``check.quote`` says what is proven by it; the parts stay bytes until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, UsageError
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields, encode_base64
from .digest import HASH_SIZE_BYTES, PCR_COUNT, PcrBank, sha256
from .merkle import HASH_BYTES, MAX_LEAVES, MAX_PATH_NODES, NONCE_BYTES
from .release import MAX_INSTALL_STATEMENT_BYTES
from .statement import MAX_STATEMENT_BYTES
from .update import MAX_UPDATE_STATEMENT_BYTES, MAX_UPDATES

EVIDENCE_TYPE = "urn:vouch:evidence:1"

MAX_EVIDENCE_BYTES = 64 * 1024 * 1024
MAX_ATTEST_BYTES = 2048
"""A quote with every hash and a 64-byte nonce is below 300 bytes."""

MAX_TPM_SIGNATURE_BYTES = 1024
MAX_IMA_LOG_BYTES = 40 * 1024 * 1024
"""As base64 it leaves room for the rest in one answer."""

MAX_EVENT_LOG_BYTES = 4 * 1024 * 1024
MAX_FIRMWARE_LOG_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Roti:
    """The ROTI proof: the installer's statement, its quote, and the log of the boot it ran in."""

    statement: bytes
    attest: bytes
    signature: bytes
    pcrs: PcrBank
    event_log: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "statement": encode_base64(self.statement),
            "attest": encode_base64(self.attest),
            "signature": encode_base64(self.signature),
            "pcrs": bank_to_json(self.pcrs),
            "event_log": encode_base64(self.event_log),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON kept on the host as ``roti.json``."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> Roti:
        """Return the proof of its JSON form; raises ``ParseError``."""
        return cls.from_json(load_json(data, limit_bytes=MAX_EVIDENCE_BYTES))

    @classmethod
    def from_json(cls, value: Any) -> Roti:
        """Return the proof of a JSON value; raises ``ParseError``."""
        fields = Fields(value, "roti")
        roti = cls(
            statement=fields.blob("statement", limit_bytes=MAX_INSTALL_STATEMENT_BYTES),
            attest=fields.blob("attest", limit_bytes=MAX_ATTEST_BYTES),
            signature=fields.blob("signature", limit_bytes=MAX_TPM_SIGNATURE_BYTES),
            pcrs=bank_from_json(fields.take("pcrs"), "roti.pcrs"),
            event_log=fields.blob("event_log", limit_bytes=MAX_FIRMWARE_LOG_BYTES),
        )
        fields.done()
        return roti


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateProof:
    """One step from a release to the next: the statement of the one that wrote (``model.update``), and its quote."""

    statement: bytes
    attest: bytes
    signature: bytes
    pcrs: PcrBank

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "statement": encode_base64(self.statement),
            "attest": encode_base64(self.attest),
            "signature": encode_base64(self.signature),
            "pcrs": bank_to_json(self.pcrs),
        }

    @classmethod
    def from_json(cls, value: Any) -> UpdateProof:
        """Return the proof of a JSON value; raises ``ParseError``."""
        fields = Fields(value, "update")
        proof = cls(
            statement=fields.blob("statement", limit_bytes=MAX_UPDATE_STATEMENT_BYTES),
            attest=fields.blob("attest", limit_bytes=MAX_ATTEST_BYTES),
            signature=fields.blob("signature", limit_bytes=MAX_TPM_SIGNATURE_BYTES),
            pcrs=bank_from_json(fields.take("pcrs"), "update.pcrs"),
        )
        fields.done()
        return proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One answer of one host.

    Attributes:
        nonce: The asker's nonce, as the host understood it.
        statement: The host statement, bytes as hashed.
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        pcrs: Values of the quoted registers.
        leaf_index: Place of the asker's leaf under the quote's Merkle root.
        leaf_count: Number of leaves.
        path: Sibling hashes from the leaf upwards.
        ima_offset: Byte of the measurement list that ``ima_log`` begins at.
        ima_log: The list from there on, binary.
        event_log: The VM verifier's event log, complete.
        roti: Proof of the installation, when the host has one.
        updates: Proofs of the updates since then, in their order.
    """

    nonce: bytes
    statement: bytes
    attest: bytes
    signature: bytes
    pcrs: PcrBank
    leaf_index: int
    leaf_count: int
    path: tuple[bytes, ...]
    ima_offset: int
    ima_log: bytes
    event_log: bytes
    roti: Roti | None
    updates: tuple[UpdateProof, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": EVIDENCE_TYPE,
            "nonce": self.nonce.hex(),
            "statement": encode_base64(self.statement),
            "attest": encode_base64(self.attest),
            "signature": encode_base64(self.signature),
            "pcrs": bank_to_json(self.pcrs),
            "merkle": {
                "index": self.leaf_index,
                "size": self.leaf_count,
                "path": [item.hex() for item in self.path],
            },
            "ima": {"offset": self.ima_offset, "log": encode_base64(self.ima_log)},
            "event_log": encode_base64(self.event_log),
            "roti": None if self.roti is None else self.roti.to_json(),
            "updates": [update.to_json() for update in self.updates],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        return dump_canonical(self.to_json())

    def digest(self) -> bytes:
        """Return SHA-256 of ``to_bytes``: the name of this evidence in results."""
        return sha256(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Return the evidence of its JSON form.

        Raises:
            ParseError: for an unknown, missing, malformed or oversized member.

        Trust: all of it is the attester's.
        """
        return cls.from_json(load_json(data, limit_bytes=MAX_EVIDENCE_BYTES))

    @classmethod
    def from_json(cls, value: Any) -> Evidence:
        """Return the evidence of a JSON value; raises and trusts as ``from_bytes``."""
        fields = Fields(value, "evidence")
        fields.literal("type", EVIDENCE_TYPE)
        merkle, ima = fields.object("merkle"), fields.object("ima")
        path = tuple(
            merkle.decode_hex("path", item, HASH_BYTES) for item in merkle.array("path", maximum=MAX_PATH_NODES)
        )
        roti = fields.take("roti")
        updates = fields.array("updates", maximum=MAX_UPDATES + 1)
        evidence = cls(
            nonce=fields.hex("nonce", NONCE_BYTES),
            statement=fields.blob("statement", limit_bytes=MAX_STATEMENT_BYTES),
            attest=fields.blob("attest", limit_bytes=MAX_ATTEST_BYTES),
            signature=fields.blob("signature", limit_bytes=MAX_TPM_SIGNATURE_BYTES),
            pcrs=bank_from_json(fields.take("pcrs"), "evidence.pcrs"),
            leaf_index=merkle.integer("index", maximum=MAX_LEAVES - 1),
            leaf_count=merkle.integer("size", minimum=1, maximum=MAX_LEAVES),
            path=path,
            ima_offset=ima.integer("offset"),
            ima_log=ima.blob("log", limit_bytes=MAX_IMA_LOG_BYTES, empty=True),
            event_log=fields.blob("event_log", limit_bytes=MAX_EVENT_LOG_BYTES, empty=True),
            roti=None if roti is None else Roti.from_json(roti),
            updates=tuple(UpdateProof.from_json(update) for update in updates),
        )
        for part in (merkle, ima, fields):
            part.done()
        return evidence


def bank_to_json(bank: PcrBank) -> dict[str, Any]:
    """Return ``{algorithm: {index: hex}}``."""
    return {bank.algorithm: bank.hex()}


def bank_from_json(value: Any, what: str) -> PcrBank:
    """Return the one bank of ``{algorithm: {index: hex}}``.

    Raises:
        ParseError: for no bank or several, no register, an index that is not canonical decimal, or a wrong length.
    """
    banks = Fields(value, what).rest()
    if len(banks) != 1:
        raise ParseError(what, 0, f"expected one bank, found {len(banks)}", code="parse.field.value")
    ((algorithm, registers),) = banks.items()
    size = HASH_SIZE_BYTES.get(algorithm)
    if size is None:
        raise ParseError(what, 0, "unknown bank", code="parse.field.value")
    fields = Fields(registers, f"{what}.{algorithm}")
    values = {_index(name, fields): fields.decode_hex(name, item, size) for name, item in _items(fields)}
    try:
        return PcrBank(algorithm, values) if values else _no_register(what)
    except UsageError as error:
        raise ParseError(what, 0, error.message, code="parse.field.value") from None


def _items(fields: Fields) -> list[tuple[str, Any]]:
    members: Mapping[str, Any] = fields.rest()
    if len(members) > PCR_COUNT:
        raise fields.fail("", f"{len(members)} registers, more than {PCR_COUNT}")
    return list(members.items())


def _index(name: str, fields: Fields) -> int:
    if not name.isascii() or not name.isdigit() or len(name) > 2 or str(int(name)) != name:
        raise fields.fail("", "a register is named by its decimal index")
    return int(name)


def _no_register(what: str) -> PcrBank:
    raise ParseError(what, 0, "holds no register", code="parse.field.value")

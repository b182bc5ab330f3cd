# SPDX-License-Identifier: GPL-3.0-or-later
"""Making evidence: one statement and one quote per round, then what each asker gets of it.

The plan of a round, numbered as docs/proof.md does:

1. The event log is settled and ``verifier.start`` recorded; IMA's end is found; offsets beyond it are refused.
2. TPM2_ReadClock; the statement is written. Its digest and the nonces make the leaves.
3. TPM2_Quote over the root, TPM2_PCR_Read until the values read hash to the quoted digest (step 3 repeats when IMA
   extended PCR 10 in between).
4. The quoted PCR 14 equals the event log's head.
5. Per answer: the IMA list from the asked offset. It is read after the quote, and IMA adds to the list before it
   extends, so it covers the quoted PCR 10; its tail may be newer, which the appraiser reports as not covered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..errors import UnreachableError, UsageError, VouchError
from ..model.gueststate import GuestRecord
from ..parse.canonical import dump_canonical
from ..parse.fields import encode_base64
from ..port.ima import ImaLog
from .batch import Tree
from .eventlog import PCR as LOG_PCR
from .eventlog import EventLog, LogTpm
from .exchange import PROTOCOL_VERSION, REQUESTS, EvidenceRequest, encode_answer, encode_error

MAX_QUOTE_ATTEMPTS = 8
"""Quotes per round. IMA extends only when something new is executed; eight times in a row is no normal host."""

STATEMENT_TYPE = "urn:vouch:host-statement:1"
EVIDENCE_TYPE = "urn:vouch:evidence:1"

PROOF_PCRS = tuple(range(10))
"""What an update proof quotes: the registers of firmware and boot, as the install proof does."""


class Clock(Protocol):
    """Counters of a TPM."""

    @property
    def clock_ms(self) -> int:
        """Milliseconds the TPM was powered."""
        ...

    @property
    def reset_count(self) -> int:
        """TPM resets."""
        ...

    @property
    def restart_count(self) -> int:
        """TPM restarts."""
        ...


class EvidenceTpm(LogTpm, Protocol):
    """What this service needs of a TPM; ``port.quotetpm.QuoteTpm`` is the real one."""

    def quote(self, qualifying: bytes, indices: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE."""
        ...

    def clock(self) -> Clock:
        """Return clock and counters."""
        ...

    def increment(self) -> int:
        """Return the monotonic counter after one more step."""
        ...

    def counter(self) -> int:
        """Return the monotonic counter."""
        ...


class Identity(NamedTuple):
    """What this host is, by its data partition.

    Attributes:
        host_id: UUID.
        release_id: Release that runs, in hex.
        ssh_host_key: Key of its channel.
        roti: The install proof as JSON, or None.
        updates: The update proofs since then, as JSON.
    """

    host_id: str
    release_id: str
    ssh_host_key: str
    roti: dict[str, Any] | None
    updates: Sequence[dict[str, Any]] = ()


class Round(NamedTuple):
    """What the askers of one quote share."""

    statement: str
    attest: str
    signature: str
    pcrs: dict[str, str]
    tree: Tree
    event_log: str


class EvidenceMaker:
    """The one user of the TPM, the event log and the IMA list.

    Args:
        identity: From the data partition.
        tpm, event_log, ima_log: Their readers.
        now_s: Seconds since 1970.
        version: Of this software, recorded in ``verifier.start``.
        report: Told about repairs, one line each.
        guests: Returns every guest of this host, ascending by id.
        channel_authority: Returns the key that certifies guests' channels, SubjectPublicKeyInfo; b"" for none.

    Attributes:
        channel_authority: SubjectPublicKeyInfo of the key that this service certifies its guests' channels with; empty
            while it has none.

    Raises:
        VouchError: by ``make_round``, with the code the askers are answered with.
    """

    __slots__ = (
        *("_ima", "_ima_base64", "_log", "_now_s", "_report", "_started", "_tpm", "_version"),
        *("channel_authority", "guests", "identity"),
    )

    def __init__(
        self,
        *,
        identity: Identity,
        tpm: EvidenceTpm,
        event_log: EventLog,
        ima_log: ImaLog,
        now_s: Callable[[], int],
        version: str,
        report: Callable[[str], None],
        guests: Callable[[], Sequence[GuestRecord]] = tuple,
        channel_authority: Callable[[], bytes] = bytes,
    ) -> None:
        self.identity = identity
        self.guests, self.channel_authority = guests, channel_authority
        self._tpm = tpm
        self._log = event_log
        self._ima = ima_log
        self._now_s = now_s
        self._version = version
        self._report = report
        self._started = False
        # Askers of one round mostly continue from the same offset: the last slice is kept, and only that one.
        self._ima_base64: tuple[Round, int, str] | None = None

    def start(self) -> None:
        """Return when the event log is settled and holds this start; does nothing the second time."""
        repaired = self._log.open()
        if repaired:
            self._report(f"event log: {repaired}")
        if self._started:
            return
        clock = self._tpm.clock()
        self._log.record(
            {
                "event": "verifier.start",
                "version": self._version,
                "time": self._now_s(),
                "reset_count": clock.reset_count,
                "restart_count": clock.restart_count,
            }
        )
        self._started = True

    def record(self, content: dict[str, Any]) -> None:
        """Return when the event is in PCR 14 and in the log; only then may its effect begin."""
        self.start()
        self._log.record(content)

    def log_lines(self) -> bytes:
        """Return the event log, which describes PCR 14."""
        self.start()
        return self._log.data

    def increment(self) -> int:
        """Return the host's monotonic counter after one more step; 0 on a host whose TPM has none and gets none."""
        return self._counted(self._tpm.increment)

    def counter(self) -> int:
        """Return the host's monotonic counter; 0 on a host whose TPM has none."""
        return self._counted(self._tpm.counter)

    @staticmethod
    def _counted(count: Callable[[], int]) -> int:
        try:
            return count()
        except UnreachableError as error:
            if error.code != "tpm.counter.missing":
                raise
            return 0

    def prove(self, statement: bytes) -> dict[str, Any]:
        """Return an update proof as JSON: our registers at start-up, quoted with the digest of ``statement``."""
        self.start()
        attest, signature, values = self._quote(hashlib.sha256(statement).digest(), PROOF_PCRS)
        return {
            "statement": encode_base64(statement),
            "attest": encode_base64(attest),
            "signature": encode_base64(signature),
            "pcrs": {"sha256": {str(index): value.hex() for index, value in values.items()}},
        }

    def hello(self) -> dict[str, Any]:
        """Return the answer to ``hello``; it needs neither TPM nor logs."""
        return {
            "product": "vouch",
            "protocol": PROTOCOL_VERSION,
            "host_id": self.identity.host_id,
            "release_id": self.identity.release_id,
            "requests": list(REQUESTS),
        }

    def refused_offset(self, request: EvidenceRequest) -> str:
        """Return why the asked IMA offset cannot be served, or "". ``refresh`` comes first."""
        if self._ima.is_boundary(request.ima_offset):
            return ""
        return f"IMA's list has {self._ima.end_bytes} bytes, and no entry begins at byte {request.ima_offset}"

    def refresh(self) -> None:
        """Step 1: return when the logs are ready to be stated."""
        self.start()
        self._ima.refresh()

    def make_round(self, pcrs: tuple[int, ...], nonces: Sequence[bytes]) -> Round:
        """Steps 2 to 4, after ``refresh``: return one quote for all ``nonces``."""
        clock = self._tpm.clock()
        statement = dump_canonical(
            {
                "type": STATEMENT_TYPE,
                "host_id": self.identity.host_id,
                "release_id": self.identity.release_id,
                "ssh_host_key": self.identity.ssh_host_key,
                "time": self._now_s(),
                "tpm": {
                    "clock_ms": clock.clock_ms,
                    "reset_count": clock.reset_count,
                    "restart_count": clock.restart_count,
                },
                "event_log": {"count": self._log.count, "head": self._log.head.hex()},
                "ima": {"bytes": self._ima.end_bytes},
                "guests": [guest.to_json() for guest in self.guests()],
                "channel_authority": encode_base64(self.channel_authority()),
            }
        )
        tree = Tree(nonces, hashlib.sha256(statement).digest())
        attest, signature, values = self._quote(tree.root, pcrs)
        if LOG_PCR in values:
            self._log.require_head(values[LOG_PCR])
        return Round(
            statement=encode_base64(statement),
            attest=encode_base64(attest),
            signature=encode_base64(signature),
            pcrs={str(index): value.hex() for index, value in values.items()},
            tree=tree,
            event_log=encode_base64(self._log.data),
        )

    def answer(self, made: Round, index: int, request: EvidenceRequest) -> bytes:
        """Step 5: return the frame for asker ``index`` of a round. Made late, so that few of them exist at once."""
        try:
            result = {
                "type": EVIDENCE_TYPE,
                "nonce": request.nonce.hex(),
                "statement": made.statement,
                "attest": made.attest,
                "signature": made.signature,
                "pcrs": {"sha256": made.pcrs},
                "merkle": {
                    "index": index,
                    "size": made.tree.size,
                    "path": [item.hex() for item in made.tree.path(index)],
                },
                "ima": {"offset": request.ima_offset, "log": self._ima_slice(made, request.ima_offset)},
                "event_log": made.event_log,
                "roti": self.identity.roti,
                "updates": list(self.identity.updates),
            }
            return encode_answer(request.id, result)
        except VouchError as error:
            return encode_error(request.id, error.code, error.message)

    def _quote(self, root: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes, dict[int, bytes]]:
        for _ in range(MAX_QUOTE_ATTEMPTS):
            attest, signature = self._tpm.quote(root, pcrs)
            values = self._tpm.read_pcrs(pcrs)
            # A quote's TPMS_ATTEST ends in its pcrDigest (Part 2, 10.12.1); our key's hash is SHA-256.
            if attest.endswith(b"\0\x20" + hashlib.sha256(b"".join(values[i] for i in pcrs)).digest()):
                return attest, signature, values
        raise UnreachableError(
            f"the PCRs changed during each of {MAX_QUOTE_ATTEMPTS} quotes", code="tpm.busy", hint="ask again"
        )

    def _ima_slice(self, made: Round, offset_bytes: int) -> str:
        kept = self._ima_base64
        if kept is None or kept[0] is not made or kept[1] != offset_bytes:
            kept = (made, offset_bytes, encode_base64(self._ima.read_from(offset_bytes)))
            self._ima_base64 = kept
        return kept[2]


def read_identity(value: Any, ssh_host_key_line: str, roti: Any) -> Identity:
    """Return the identity of ``identity.json``, the public host key's line and ``roti.json``.

    Raises:
        UsageError: code ``verifier.identity``; the data partition is not as the installer left it.
    """
    key = ssh_host_key_line.split()
    if not isinstance(value, dict) or set(value) != {"host_id", "release_id", "version"} or value["version"] != 1:
        raise UsageError("identity.json is not as the installer writes it", code="verifier.identity")
    if not isinstance(value["host_id"], str) or not isinstance(value["release_id"], str) or len(key) < 2:
        raise UsageError("identity.json or the SSH host key is malformed", code="verifier.identity")
    if roti is not None and not isinstance(roti, dict):
        raise UsageError("roti.json is not an object", code="verifier.identity")
    # The comment of the key file is dropped: it is not part of the key.
    return Identity(value["host_id"], value["release_id"], f"{key[0]} {key[1]}", roti)

# SPDX-License-Identifier: GPL-3.0-or-later
"""How many quotes of a real software TPM are appraised per second."""

from __future__ import annotations

import functools
import pathlib
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

from .harness import Measured, NotMeasuredError, at_least, rate, row
from .service import HOST_KEY, PCRS, new_nonces, software_tpm

QUOTES = 256
ROUNDS = 4
"""Each quote is looked at so often per measured round: a round has to be long against the clock's grain."""

AUTHENTICODE = bytes(range(32))
BASELINE = "tpm2-pytss 3.0.0: unmarshal and verify_signature, nothing else judged"


@dataclass(frozen=True, slots=True)
class Quoted:
    """Evidence of one fresh TPM under one key, each over a nonce of its own."""

    ak: bytes
    asked: tuple[tuple[bytes, Any], ...]
    baseline: dict[int, bytes]


@functools.cache
def quoted() -> Quoted:
    """Return ``QUOTES`` pieces of evidence; PCR 4 is what our release leads to."""
    from vouch.check.bootpcrs import pcr4_values
    from vouch.model.digest import PcrSelection, sha256
    from vouch.model.evidence import Evidence
    from vouch.model.merkle import leaf
    from vouch.model.statement import HostStatement
    from vouch.port.tpm import Tpm

    if shutil.which("swtpm_setup") is None:
        raise NotMeasuredError("swtpm is not installed; `make lab-up` installs it")
    selection = PcrSelection("sha256", PCRS)
    asked = []
    with (
        tempfile.TemporaryDirectory(prefix="vouch-bench-") as name,
        software_tpm(pathlib.Path(name)) as tcti,
        Tpm(tcti) as tpm,
    ):
        ak = tpm.create_ak()
        for action in boot_actions():
            tpm.extend(4, action)
        for nonce in new_nonces(QUOTES):
            statement = HostStatement(
                host_id="6a1d2c34-9d55-4a7e-8c51-b1d1f5a0c3e2",
                release_id=bytes(32),
                ssh_host_key=HOST_KEY,
                time_s=1_800_000_000,
                tpm=tpm.clock(),
                event_log_count=0,
                event_log_head=bytes(32),
                ima_bytes=0,
            ).to_bytes()
            attest, signature, bank = tpm.quote_registers(leaf(nonce, sha256(statement)), selection)
            evidence = Evidence(
                nonce=nonce,
                statement=statement,
                attest=attest,
                signature=signature,
                pcrs=bank,
                leaf_index=0,
                leaf_count=1,
                path=(),
                ima_offset=0,
                ima_log=b"",
                event_log=b"",
                roti=None,
            )
            asked.append((nonce, evidence))
    assert bank[4] == pcr4_values(AUTHENTICODE, 0)[0]
    return Quoted(ak, tuple(asked), {index: bank[index] for index in PCRS})


def boot_actions() -> tuple[bytes, ...]:
    """Return what a firmware extends into PCR 4 on the way to our file."""
    from vouch.model.digest import sha256
    from vouch.model.launchregister import CALLING_EFI_APPLICATION

    return sha256(CALLING_EFI_APPLICATION.encode()), sha256(bytes(4)), AUTHENTICODE


@functools.cache
def pytss_rate() -> float:
    """Return quotes per second that tpm2-pytss unmarshals and whose signature it verifies."""
    from tpm2_pytss import TPMS_ATTEST, TPMT_PUBLIC, TPMT_SIGNATURE

    data = quoted()
    public, _ = TPMT_PUBLIC.unmarshal(data.ak)

    def work(_: object) -> None:
        for _ in range(ROUNDS):
            for _, evidence in data.asked:
                attest, _ = TPMS_ATTEST.unmarshal(evidence.attest)
                signature, _ = TPMT_SIGNATURE.unmarshal(evidence.signature)
                signature.verify_signature(public, evidence.attest)
                assert attest.magic

    return rate(QUOTES * ROUNDS, work)


@row("quote.appraise", "quotes/s/core", target=at_least(3_000), baseline=BASELINE)
def appraise() -> Measured:
    """Parse, signature, nonce, signer, selection, register values, counters, PCR 4, firmware baseline; 12 PCRs."""
    from vouch.check.bootpcrs import check_baseline, check_pcr4
    from vouch.check.identity import check_ak_public
    from vouch.check.quote import verify_quote
    from vouch.model.digest import PcrSelection

    data = quoted()
    ak, selection = check_ak_public(data.ak), PcrSelection("sha256", PCRS)

    def work(_: object) -> None:
        for _ in range(ROUNDS):
            for nonce, evidence in data.asked:
                proven = verify_quote(ak=ak, nonce=nonce, selection=selection, evidence=evidence)
                findings = (
                    *check_pcr4(
                        proven.bank, authenticode_sha256=AUTHENTICODE, max_failed_attempts=2, others={b"\1" * 32: "old"}
                    ),
                    *check_baseline(proven.bank, data.baseline),
                )
                if findings:
                    raise RuntimeError(f"a good quote is refused: {findings[0]}")

    value = rate(QUOTES * ROUNDS, work)
    return Measured(value=value, baseline_value=pytss_rate(), note=f"{QUOTES} quotes of swtpm over {len(PCRS)} PCRs")

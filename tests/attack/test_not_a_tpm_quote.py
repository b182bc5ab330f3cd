# SPDX-License-Identifier: GPL-3.0-or-later
"""Something else than a quote made by a TPM, signed with the enrolled key."""

from __future__ import annotations

from dataclasses import replace

from sim.attester import SimAppraiser, SimHost


def test_a_structure_no_tpm_made() -> None:
    host = SimHost()
    host.tpm.magic = 0x41414141
    assert SimAppraiser(host=host).appraise().result.codes == ("quote.magic",)


def test_another_kind_of_attestation() -> None:
    host = SimHost()
    host.tpm.kind = 0x8017
    assert SimAppraiser(host=host).appraise().result.codes == ("quote.type",)


def test_bytes_behind_the_quote() -> None:
    host = SimHost()
    evidence = host.evidence()
    longer = evidence.attest + b"\0"
    changed = replace(evidence, attest=longer, signature=host.tpm.sign(longer))
    assert SimAppraiser(host=host).appraise(changed).result.codes == ("quote.malformed",)

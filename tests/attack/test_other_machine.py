# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of another machine's TPM is given out as that of the enrolled one."""

from __future__ import annotations

from sim.attester import SimAppraiser, SimHost, SimTpm


def test_the_other_machine_signs_for_this_one() -> None:
    host, other = SimHost(seed=1), SimHost(seed=2)
    other.host_id, other.ssh_host_key = host.host_id, host.ssh_host_key
    result = SimAppraiser(host=host).appraise(other.evidence()).result
    assert (result.stage, result.codes) == ("quote", ("quote.signature.invalid",))


def test_a_host_that_is_not_enrolled() -> None:
    appraiser = SimAppraiser(host=SimHost())
    appraiser.enrolment = None
    result = appraiser.appraise().result
    assert (result.stage, result.codes) == ("identity", ("ak.unknown",))


def test_a_cleared_tpm_has_another_key() -> None:
    host = SimHost()
    registers = host.tpm.registers
    host.tpm = SimTpm()
    host.tpm.registers = registers
    assert SimAppraiser(host=host).appraise().result.codes == ("quote.signature.invalid",)


def test_an_enrolled_machine_that_states_another_host() -> None:
    host = SimHost()
    host.statement_changes = {"host_id": SimHost(seed=2).host_id}
    assert SimAppraiser(host=host).appraise().result.codes == ("statement.host.mismatch",)

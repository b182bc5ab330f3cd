# SPDX-License-Identifier: GPL-3.0-or-later
"""Install proofs are remembered only when they held, and only for what they were held against."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.errors import EvidenceError

from sim.attester import SimAppraiser, SimHost, ssh_key


def prove(references: References, host: SimHost, **changes: object) -> object:
    """Check the host's install proof with a changed enrolment."""
    assert host.roti is not None
    return references.install_proof(
        host.roti,
        reference=references.find(host.release_id),
        ak=check_ak_public(host.tpm.public),
        known=replace(host.enrolment, **changes),  # type: ignore[arg-type]
    )


def test_a_proof_is_checked_once() -> None:
    host = SimHost()
    references = SimAppraiser(host=host).references
    assert prove(references, host) is prove(references, host)


@pytest.mark.parametrize("changes", [{"ssh_host_key": ssh_key(5)}, {"host_id": SimHost(seed=5).host_id}])
def test_for_another_host_it_is_checked_again(changes: dict[str, object]) -> None:
    host = SimHost()
    references = SimAppraiser(host=host).references
    prove(references, host)
    for _ in range(2):
        with pytest.raises(EvidenceError):
            prove(references, host, **changes)


def test_a_changed_proof_is_checked_again() -> None:
    host = SimHost()
    references = SimAppraiser(host=host).references
    prove(references, host)
    assert host.roti is not None
    host.roti = replace(host.roti, signature=host.tpm.sign(b"something else"))
    with pytest.raises(EvidenceError) as caught:
        prove(references, host)
    assert caught.value.code == "roti.quote"

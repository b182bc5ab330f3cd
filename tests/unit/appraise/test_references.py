# SPDX-License-Identifier: GPL-3.0-or-later
"""Install proofs are remembered only when they held, and only for what they were held against."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.statements import sign_host_release
from ansible.module_utils.vouch.model.release import release_id

from sim.attester import RELEASE_KEY, SimAppraiser, SimHost, ssh_key


def prove(references: References, host: SimHost, **changes: object) -> object:
    """Check the host's install proof with a changed enrolment."""
    assert host.roti is not None
    return references.install_proof(
        host.roti,
        release=references.signed(host.release_id),
        ak=check_ak_public(host.tpm.public),
        known=replace(host.enrolment, **changes),  # type: ignore[arg-type]
    )


def test_a_wrong_manifest_does_not_take_down_the_right_one() -> None:
    """Whoever can put a file into an image store must not stop appraisals."""
    host = SimHost()
    good = (host.installed, host.release.manifest)
    for pairs in ([good, (host.installed, b"x\n")], [(host.installed, b"x\n"), good]):
        references = References(SimAppraiser(host=host).policy, pairs)
        assert references.find(host.release_id).verified.release_id == host.release_id
        assert references.refused == {}


def test_a_release_that_predicts_another_pcr_4_than_we_do() -> None:
    host = SimHost()
    envelope = sign_host_release(replace(host.release.release, pcr4=bytes(32)), RELEASE_KEY)
    references = References(SimAppraiser(host=host).policy, [(envelope, host.release.manifest)])
    with pytest.raises(EvidenceError) as caught:
        references.find(release_id(envelope))
    assert (caught.value.code, caught.value.findings[0].subject) == ("release.malformed", "pcr:4")


def test_what_a_host_ran_before_is_known_without_its_files() -> None:
    host = SimHost()
    policy = SimAppraiser(host=host).policy
    forged = host.release.forged()
    for references in (
        References(policy, [], former=[host.installed, forged]),
        References(policy, [(host.installed, b"x\n"), (forged, b"")]),
    ):
        assert references.signed(host.release_id).release_id == host.release_id
        for wanted, code in ((release_id(forged), "envelope.signature.invalid"), (bytes(32), "release.unknown")):
            with pytest.raises(EvidenceError) as caught:
                references.signed(wanted)
            assert caught.value.code == code
        with pytest.raises(EvidenceError):
            references.find(host.release_id)


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

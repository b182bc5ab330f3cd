# SPDX-License-Identifier: GPL-3.0-or-later
"""Reference values that nobody we trust signed, or that the policy does not want any more."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.sign import generate_private_key

from sim.attester import SimAppraiser, SimHost, SimRelease


def test_a_release_signed_by_somebody_else() -> None:
    release = SimRelease(signing_key=generate_private_key())
    result = SimAppraiser(host=SimHost(release)).appraise().result
    assert (result.stage, result.codes) == ("boot", ("envelope.signature.invalid",))


def test_a_forged_file_in_the_store_stops_nobody_else() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    pairs = [(host.release.forged(), host.release.manifest), (b"{}", b""), (host.installed, host.release.manifest)]
    references = References(appraiser.policy, pairs)
    assert references.find(host.release_id).verified.release_id == host.release_id
    assert len(references.refused) == 2


def test_a_manifest_with_one_more_line() -> None:
    host = SimHost()
    manifest = host.release.manifest + b"0" * 64 + b"  /zz\n"
    references = References(SimAppraiser(host=host).policy, [(host.installed, manifest)])
    with pytest.raises(EvidenceError) as caught:
        references.find(host.release_id)
    assert caught.value.code == "release.manifest.mismatch"


def test_an_unknown_release() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host, releases=[SimRelease(name="another")])
    assert appraiser.appraise().result.codes == ("release.unknown",)


def test_a_host_that_states_no_release() -> None:
    host = SimHost()
    host.statement_changes = {"release_id": b""}
    assert SimAppraiser(host=host).appraise().result.codes == ("release.unknown",)


def test_a_release_the_policy_no_longer_lists() -> None:
    appraiser = SimAppraiser(host=SimHost(), policy_changes={"releases": (b"\x01" * 32,)})
    assert appraiser.appraise().result.codes == ("release.retired",)

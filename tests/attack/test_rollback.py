# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates: the way forward within its time, and no way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import NOW_S, SimAppraiser, SimRelease, sha256
from sim.updates import UpdatedHost

OLD = SimRelease(name="dom0-1")
NEW = SimRelease(name="dom0-2", xen_efi=b"newer xen.efi", root_img=b"newer root")
OLD_ID, NEW_ID = sha256(OLD.envelope), sha256(NEW.envelope)


def enrolled() -> tuple[UpdatedHost, SimAppraiser]:
    """Return a host that runs what was installed, once accepted, and its appraiser."""
    host = UpdatedHost(OLD)
    appraiser = SimAppraiser(host=host, releases=[OLD, NEW])
    appraiser.accept()
    return host, appraiser


def expect_new(appraiser: SimAppraiser, seconds: int = 3600) -> None:
    assert appraiser.enrolment is not None
    appraiser.enrolment = appraiser.enrolment.expecting(NEW_ID, until_s=NOW_S + seconds)


def judged(appraiser: SimAppraiser) -> tuple[Verdict, str, tuple[str, ...]]:
    result = appraiser.appraise().result
    return result.verdict, result.stage, result.codes


def updated() -> tuple[UpdatedHost, SimAppraiser]:
    """Return a host whose update was confirmed."""
    host, appraiser = enrolled()
    expect_new(appraiser)
    host.update(NEW)
    appraiser.accept()
    assert appraiser.enrolment is not None
    appraiser.enrolment = appraiser.enrolment.updated(NEW_ID)
    return host, appraiser


def test_a_release_nobody_announced_is_refused_though_it_is_signed() -> None:
    host, appraiser = enrolled()
    host.update(NEW)
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "boot", ("release.unexpected",))


def test_both_releases_are_accepted_while_the_update_is_made() -> None:
    host, appraiser = enrolled()
    expect_new(appraiser)
    host.stage(NEW)
    assert judged(appraiser)[0] is Verdict.AFFIRMING
    host.run(NEW)
    found = appraiser.accept().result
    assert found.verdict is Verdict.AFFIRMING
    assert "release.next" in {item.code for item in found.findings}
    assert appraiser.enrolment is not None
    assert appraiser.enrolment.next is not None
    assert appraiser.enrolment.next.accepted_at_s == NOW_S
    host.run(OLD)
    assert judged(appraiser)[0] is Verdict.AFFIRMING


def test_the_time_of_an_update_ends() -> None:
    host, appraiser = enrolled()
    expect_new(appraiser, seconds=0)
    host.update(NEW)
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "boot", ("release.window",))


def test_after_the_update_the_old_release_is_no_way_back() -> None:
    host, appraiser = updated()
    assert judged(appraiser) == (Verdict.AFFIRMING, "done", ())
    host.run(OLD)
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "boot", ("release.retired",))


def test_a_rolled_back_host_that_states_the_new_release_is_found_out() -> None:
    host, appraiser = updated()
    host.run(OLD)
    host.release_id = NEW_ID
    assert judged(appraiser)[1:] == ("boot", ("boot.pcr4.unexpected",))


def test_a_retired_release_is_not_announced_again() -> None:
    _, appraiser = updated()
    assert appraiser.enrolment is not None
    with pytest.raises(UsageError) as caught:
        appraiser.enrolment.expecting(OLD_ID, until_s=NOW_S + 60)
    assert caught.value.code == "update.retired"


def test_the_policy_retires_a_release_for_every_host() -> None:
    appraiser = SimAppraiser(host=UpdatedHost(OLD), policy_changes={"retired": (OLD_ID,)})
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "boot", ("release.retired",))


def test_an_updated_host_without_its_proofs() -> None:
    host, appraiser = updated()
    host.updates.clear()
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "roti", ("update.chain",))


def test_a_new_release_that_somebody_else_wrote() -> None:
    """Signed, announced, booted: but the release before did not write it."""
    host, appraiser = enrolled()
    expect_new(appraiser)
    host.run(NEW)
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "roti", ("update.chain",))


def test_a_proof_that_the_new_release_made_for_itself() -> None:
    host, appraiser = enrolled()
    expect_new(appraiser)
    statement = host.statement_of(NEW)
    host.run(NEW)
    host.updates.append(host.prove(statement))
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "roti", ("update.boot",))


def test_firmware_registers_stay_those_of_the_first_boot() -> None:
    """An update changes none of them; one that changed is still found."""
    host, appraiser = updated()
    host.firmware = b"firmware 1.1"
    host.boot()
    assert judged(appraiser)[2] == ("boot.baseline.mismatch",)


def test_the_first_release_has_to_be_known_as_long_as_its_install_proof_counts() -> None:
    _, appraiser = updated()
    appraiser.releases = [NEW]
    assert judged(appraiser) == (Verdict.CONTRAINDICATED, "roti", ("release.unknown",))


def test_nothing_unproven_is_taken_for_an_update() -> None:
    host, appraiser = enrolled()
    expect_new(appraiser)
    assert appraiser.enrolment is not None
    with pytest.raises(UsageError) as caught:
        appraiser.enrolment.updated(NEW_ID)
    assert caught.value.code == "update.unproven"
    # Refused evidence proves nothing either.
    host.run(NEW)
    appraiser.appraise()
    with pytest.raises(UsageError):
        appraiser.enrolment.updated(NEW_ID)


def test_an_announcement_can_be_renewed_and_keeps_what_was_proven() -> None:
    host, appraiser = enrolled()
    expect_new(appraiser)
    host.update(NEW)
    appraiser.accept()
    expect_new(appraiser, seconds=7200)
    assert appraiser.enrolment is not None
    assert appraiser.enrolment.updated(NEW_ID).retired == (OLD_ID,)
    other = appraiser.enrolment.expecting(sha256(b"other"), until_s=NOW_S + 60)
    assert other.next is not None
    assert other.next.accepted_at_s == 0
    assert replace(other, next=None) == replace(appraiser.enrolment, next=None)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The debug image, with its shell, stands in for the production one."""

from __future__ import annotations

from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import SimAppraiser, SimHost, SimRelease

DEBUG = SimRelease(name="dom0-1-debug", variant="debug", xen_efi=b"debug xen.efi")


def test_it_is_refused_by_default() -> None:
    result = SimAppraiser(host=SimHost(DEBUG)).appraise().result
    assert result.verdict is Verdict.CONTRAINDICATED
    assert (result.stage, result.codes) == ("boot", ("release.debug",))


def test_where_a_policy_allows_it_the_verdict_is_a_warning() -> None:
    appraiser = SimAppraiser(host=SimHost(DEBUG), policy_changes={"allow_debug": True})
    appraisal = appraiser.appraise()
    assert appraisal.result.verdict is Verdict.WARNING
    assert (appraisal.result.stage, appraisal.result.codes) == ("done", ("release.debug",))
    assert appraisal.enrolment is not None


def test_booted_in_place_of_the_production_image_it_is_named() -> None:
    production = SimRelease()
    host = SimHost(production)
    host.boot(DEBUG.authenticode)
    appraiser = SimAppraiser(host=host, releases=[production, DEBUG], policy_changes={"allow_debug": True})
    result = appraiser.appraise().result
    assert (result.stage, result.codes) == ("boot", ("boot.pcr4.unexpected",))
    (finding,) = [item for item in result.findings if item.code == "boot.pcr4.unexpected"]
    assert finding.actual is not None
    assert "debug release dom0-1-debug" in finding.actual

# SPDX-License-Identifier: GPL-3.0-or-later
"""From a verdict to stories, groups and spots: each conflict is found again, with the rules that allow it."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.explain.cut import FILTER, REMOVE, TRUST, find_cures
from ansible.module_utils.vouch.explain.report import flat_keys
from ansible.module_utils.vouch.explain.story import SEVERITIES
from ansible.module_utils.vouch.explain.survey import Survey
from ansible.module_utils.vouch.model import flowmap
from ansible.module_utils.vouch.model.integrity import Filter, Intent
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.buildnode import intent, policy
from sim.policy import SimPolicy, allow


def survey(sim: SimPolicy, wanted: Intent | None = None) -> Survey:
    """Return the survey of a policy."""
    return Survey(check_policy(parse_policy(sim.to_bytes()), wanted or intent()))


def broken(*rules: str) -> SimPolicy:
    """Return the build node's policy with more rules."""
    sim = policy()
    sim.rules += [allow(rule) for rule in rules]
    return sim


def test_severities_are_those_of_the_map() -> None:
    assert tuple(SEVERITIES) == flowmap.SEVERITIES


def test_a_read_is_told_with_both_rules() -> None:
    found = survey(broken("cc_t etc_t:file write append"))
    (story,) = found.stories_at("init_t", "etc_t", "file")
    assert story.key == "C1 init_t etc_t:file"
    assert (story.severity, story.writers, story.writer_count) == ("data", ("cc_t",), 1)
    assert story.write is not None
    assert story.write.rule == "allow cc_t etc_t:file { append write };"
    assert story.write.permissions == ("append", "write")
    assert story.read is not None
    assert story.read.rule == "allow domain etc_t:file { getattr open read };"
    assert story.read.permissions == ("read",)
    assert "cc_t, the only untrusted writer" in story.cures[0]
    assert "{subject: init_t, object: etc_t, class: file, permissions: [read], reason: ...}" in story.cures[-1]


def test_the_condition_is_told_and_a_rule_without_one_preferred() -> None:
    sim = policy()
    sim.conditionals = [("cc_debug", [], [allow("cc_t etc_t:file write")])]
    (story,) = survey(sim).stories_at("init_t", "etc_t", "file")
    assert story.write is not None
    assert story.write.condition == "not cc_debug"
    sim.rules.append(allow("domain etc_t:file append"))
    (story,) = survey(sim).stories_at("init_t", "etc_t", "file")
    assert story.write is not None
    assert (story.write.condition, story.write.rules, story.write.permissions) == ("", 2, ("append", "write"))


CASES = {
    "C2": ("cc_t init_t:process signal", ("init_t", "cc_t", "process"), "cc_t may signal init_t:process"),
    "C3": ("cc_t kernel_t:security load_policy", ("cc_t", "kernel_t", "security"), "cc_t may load_policy"),
    "C5": ("cc_t distccd_t:process transition", ("distccd_t", "distccd_t", "process"), "cc_t may transition"),
}


@pytest.mark.parametrize("kind", CASES)
def test_acts_are_told(kind: str) -> None:
    rule, place, words = CASES[kind]
    (story,) = survey(broken(rule)).stories_at(*place)
    assert story.kind == kind
    assert story.read is None
    assert words in story.sentence()
    assert story.cures
    if kind == "C5":
        assert "{source: cc_t, target: distccd_t, entrypoint: distccd_exec_t, reason: ...}" in story.cures[0]


def test_an_endorsement_is_told() -> None:
    found = survey(broken("init_t cc_tmp_t:file relabelfrom", "init_t cc_exec_t:file relabelto"))
    (story,) = found.stories_at("init_t", "cc_tmp_t", "file")
    assert story.becomes == "cc_exec_t"
    assert "the type cc_exec_t" in story.sentence()
    assert "relabel_to: cc_exec_t" in story.cures[-1]
    assert story.read is not None
    assert story.read.permissions == ("relabelfrom",)
    (spot,) = found.spots()
    assert (spot.kind, spot.becomes) == ("C4", "cc_exec_t")
    assert "relabel_to: cc_exec_t" in find_cures([spot], found.policy.types)[0].sentence()


def test_what_anybody_may_have_written_names_no_writer() -> None:
    found = survey(broken("init_t init_t:tcp_socket read", "cc_t init_t:tcp_socket write"))
    stories = found.stories_at("init_t", "init_t", "tcp_socket")
    read = next(story for story in stories if story.kind == "C1")
    assert (read.writers, read.write) == ((), None)
    assert "counts as written by anybody" in read.sentence()
    assert any(
        cure.kind == FILTER and cure.subject == "init_t" for cure in find_cures(found.spots(), found.policy.types)
    )


def test_names_that_do_not_exist() -> None:
    for place in (("ghost_t", "etc_t", "file"), ("init_t", "ghost_t", "file"), ("init_t", "etc_t", "ghost")):
        with pytest.raises(UsageError) as caught:
            survey(policy()).stories_at(*place)
        assert caught.value.code == "cwlite.name"
    assert survey(policy()).stories_at("init_t", "etc_t", "file") == []


def test_report_counts_everything_and_tells_some() -> None:
    sim = broken("cc_t domain:process signal", "domain etc_t:file write", "cc_t cc_exec_t:file write")
    sim.permissive = ["cc_t"]
    found = survey(sim)
    report = found.report(sim.to_bytes(), path="policy.33", limit=1)
    assert not report.passed
    assert report.conflicts == found.verdict.conflict_count == sum(report.by_severity.values())
    assert sum(report.by_kind.values()) == report.conflicts
    assert len(report.groups) == len(report.stories) == 1
    assert report.group_count > 1
    assert report.groups[0].object == report.stories[0].object
    assert report.faults == ("type cc_t is permissive: nothing is enforced for it",)
    assert report.sole_writers[0].writer == "cc_t"
    whole = found.report(sim.to_bytes(), path="policy.33", limit=100)
    assert sum(group.conflicts for group in whole.groups) == report.conflicts
    assert len({(group.object, group.class_name) for group in whole.groups}) == report.group_count


def test_each_conflict_has_a_key() -> None:
    found = survey(broken("cc_t domain:process signal", "domain etc_t:file write"))
    assert len(flat_keys(found.keys())) == len(
        {(c.kind, c.subject, c.object, c.class_name, c.becomes) for c in found.verdict.conflicts()}
    )


def test_filters_in_vain_are_named() -> None:
    spare = Filter(subject="init_t", object="etc_t", class_name="dir", permissions=("read",), reason="was needed once")
    wide = dataclasses.replace(intent().filters[0], permissions=("open", "read"))
    wanted = dataclasses.replace(intent(), filters=(wide, intent().filters[1], spare))
    report = survey(policy(), wanted).report(b"", path="p", limit=9)
    assert report.passed
    assert report.unused_filters == (
        "filter distccd_t on cc_tmp_t:file, only its permissions open",
        "filter init_t on etc_t:dir",
    )


def test_cures_of_a_policy_clear_it() -> None:
    """Declare the filters that the cut asks for, trust whom it says, and the check passes."""
    sim = broken("cc_t etc_t:file write")
    found = survey(sim)
    cures = find_cures(found.spots(), found.policy.types, found.low_reads())
    assert {cure.kind for cure in cures} <= {"split", FILTER, TRUST, REMOVE}
    filters = [
        Filter(subject=name, object="etc_t", class_name="file", permissions=("read",), reason="generated")
        for name in ("kernel_t", "init_t", "distccd_t")
    ]
    cured = dataclasses.replace(intent(), filters=(*intent().filters, *filters))
    assert survey(sim, cured).verdict.passed


def test_trust_weighs_what_is_read() -> None:
    sim = broken(*(f"cc_t {name}:file write read" for name in ("etc_t", "distccd_exec_t")))
    found = survey(sim)
    cc = found.policy.symbols.types["cc_t"].value
    # cc_tmp_t, etc_t and distccd_exec_t; what nobody untrusted writes does not count.
    assert found.low_reads() == {cc: 3}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain: what failed is at its link, what was not judged is never called proven."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.appraise.result import STAGES
from ansible.module_utils.vouch.model.finding import Finding, Severity, Verdict
from ansible.module_utils.vouch.report.chain import LINKS, Link, Status, chain_of, guest_links, told
from ansible.module_utils.vouch.report.drawing import CHAR, WIDTH, draw
from ansible.module_utils.vouch.report.view import HostInput

from sim.fleet import HOSTILE, hosts, small

KINDS = {host.name: host for host in hosts()}
RELEASES = small().releases


def chain(host: HostInput, *, current: bool = True) -> dict[str, Link]:
    """Return the links of ``host`` by key."""
    return {link.key: link for link in chain_of(host, RELEASES, current=current)}


def words(host: HostInput, *, current: bool = True) -> dict[str, str]:
    """Return the word of each link."""
    return {key: link.word for key, link in chain(host, current=current).items()}


def stopped(stage: str, *codes: str) -> HostInput:
    """Return a host whose appraisal stopped at ``stage`` for ``codes``."""
    host = KINDS["xen-01"]
    assert host.result is not None
    findings = tuple(Finding(code=code, severity=Severity.DENY, subject="host") for code in codes)
    result = dataclasses.replace(
        host.result, stage=stage, findings=findings, verdict=Verdict.CONTRAINDICATED, guests=()
    )
    return dataclasses.replace(host, result=result)


def test_a_good_host_has_every_link_proven() -> None:
    links = chain(KINDS["xen-01"])
    assert {link.status for link in links.values()} == {Status.PROVEN}
    assert links["pcr4"].expected == links["pcr4"].found != ""
    assert links["ak"].expected == links["ak"].found != ""
    assert links["release"].expected == links["release"].found
    assert links["channel"].expected == links["channel"].found


def test_the_same_result_later_proves_nothing() -> None:
    assert set(words(KINDS["xen-01"], current=False).values()) == {"accepted then"}


def test_another_image_fails_at_pcr_4() -> None:
    links = chain(KINDS["xen-06"])
    assert [key for key, link in links.items() if link.status is Status.FAILED] == ["pcr4"]
    assert [item.code for item in links["pcr4"].findings] == ["boot.pcr4.unexpected"]
    assert {key: links[key].word for key in ("ek", "ak", "quote", "firmware", "release", "log", "ima")} == {
        "ek": "proven",
        "ak": "proven",
        "quote": "proven",
        "firmware": "not concluded",
        "release": "not concluded",
        "log": "not reached",
        "ima": "not reached",
    }


def test_an_unknown_file_fails_at_the_list() -> None:
    told_words = words(KINDS["xen-05"])
    assert (told_words["ima"], told_words["log"], told_words["roti"]) == ("failed", "not concluded", "not reached")


def test_a_debug_host_warns_at_its_release() -> None:
    links = chain(KINDS["xen-04"])
    assert [key for key, link in links.items() if link.status is Status.WARNED] == ["release"]


PLACES = {
    "a quote in the installer": ("roti", ("roti.quote", "quote.signature.invalid"), "roti"),
    "a quote now": ("quote", ("quote.signature.invalid",), "quote"),
    "a clock": ("counters", ("quote.clock.backwards",), "quote"),
    "a stranger": ("identity", ("ak.unknown",), "ak"),
    "no evidence": ("evidence", ("evidence.malformed",), "quote"),
    "firmware": ("boot", ("boot.baseline.mismatch",), "firmware"),
    "an unknown release": ("boot", ("release.unknown",), "release"),
    "a log that was cut": ("logs", ("eventlog14.replay.mismatch",), "log"),
    "a relay": ("channel", ("channel.key.mismatch",), "channel"),
    "a code of tomorrow": ("logs", ("new.code",), "log"),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_denial_is_at_a_link_of_the_stage_it_stopped(what: str) -> None:
    stage, codes, key = PLACES[what]
    links = chain(stopped(stage, *codes))
    assert [name for name, link in links.items() if link.status is Status.FAILED] == [key]
    assert tuple(item.code for item in links[key].findings) == codes


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "guests"])
def test_nothing_behind_the_stage_is_proven(stage: str) -> None:
    for key, link in chain(stopped(stage, "some.code")).items():
        judged_last = STAGES.index(LINKS[key][1])
        if judged_last >= STAGES.index(stage):
            assert link.status in (Status.FAILED, Status.OPEN), key
        else:
            assert link.status is Status.PROVEN, key


def test_every_link_is_judged_by_a_stage() -> None:
    assert {stage for _, stage in LINKS.values()} <= set(STAGES)


@pytest.mark.parametrize("name", ["xen-07", "xen-12"])
def test_nothing_is_proven_without_an_answer(name: str) -> None:
    host = KINDS[name]
    links = chain(host, current=False)
    assert not {link.status for link in links.values()} & {Status.PROVEN, Status.WARNED, Status.FAILED}
    assert links["ek"].status is (Status.OPEN if host.enrolment is None else Status.PAST)


def test_an_enrolment_without_a_key_is_told_not_raised() -> None:
    known = KINDS["xen-01"].enrolment
    assert known is not None
    host = dataclasses.replace(KINDS["xen-01"], enrolment=dataclasses.replace(known, ak_public=b"\x00"))
    assert chain(host)["ak"].expected == "nothing: the enrolment holds no attestation key"


def test_guests_stand_worst_first() -> None:
    links = guest_links(KINDS["xen-03"], current=True)
    assert [(link.guest.guest, link.status, link.word) for link in links] == [
        ("build-2", Status.FAILED, "failed"),
        ("base-1", Status.OPEN, "paused"),
    ]
    past = guest_links(KINDS["xen-01"], current=False)
    assert {link.status for link in past} == {Status.PAST}


def test_the_sentence_says_what_the_picture_shows() -> None:
    host = KINDS["xen-05"]
    text = told(chain_of(host, RELEASES, current=True), guest_links(host, current=True))
    assert text.startswith("failed: IMA list; proven: EK certificate, Attestation key, Quote")
    assert text.endswith("1 guest, 1 failed.")


@pytest.mark.parametrize("name", KINDS)
def test_everything_lies_inside_and_nothing_overlaps(name: str) -> None:
    host = KINDS[name]
    drawing = draw(chain_of(host, RELEASES, current=True), guest_links(host, current=True), shown_guests=2)
    assert len({box.title for box in drawing.boxes if box.title}) == len(LINKS)
    for at, box in enumerate(drawing.boxes):
        assert 0 <= box.x < box.x + box.width <= WIDTH
        assert 0 <= box.y < box.y + box.height <= drawing.height
        for other in drawing.boxes[:at]:
            apart = (
                other.x + other.width <= box.x
                or box.x + box.width <= other.x
                or other.y + other.height <= box.y
                or box.y + box.height <= other.y
            )
            assert apart, (box.title, other.title)
    guests = 0 if host.result is None else len(host.result.guests)
    assert drawing.note == (f"and {guests - 2} more below" if guests > 2 else "" if guests else "no guests")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_inside_their_box(text: str) -> None:
    host = KINDS["xen-01"]
    assert host.result is not None
    result = dataclasses.replace(
        host.result,
        release_name=text,
        guests=tuple(dataclasses.replace(guest, guest=text, record=None) for guest in host.result.guests),
    )
    changed = dataclasses.replace(host, result=result)
    drawing = draw(chain_of(changed, RELEASES, current=True), guest_links(changed, current=True), shown_guests=6)
    for box in drawing.boxes:
        assert len(box.text) * CHAR <= box.width
        assert box.text.replace(" · ", "").replace("…", "").isascii()

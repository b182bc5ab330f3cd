# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of appraisal: whatever is changed in accepted evidence, it is never accepted as something else."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import replace
from typing import Any

from ansible.module_utils.vouch.appraise.ear import ear_claims, parse_ear
from ansible.module_utils.vouch.appraise.host import appraise_host
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.appraise.result import DONE, AttestationResult
from ansible.module_utils.vouch.model.finding import Finding, Severity, Verdict, verdict_of
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.attester import NONCE, NOW_S, SimAppraiser, SimHost
from thorough import examples

SLOWER = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def accepted() -> tuple[SimHost, References, bytes]:
    """Return a host, its references and evidence that is accepted."""
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    return host, appraiser.references, host.evidence(others=[bytes(32), b"\x01" * 32], place=1).to_bytes()


def judge(data: bytes, nonce: bytes = NONCE) -> AttestationResult:
    """Appraise ``data`` as evidence of the accepted host."""
    host, references, _ = accepted()
    return appraise_host(
        data,
        host_id=host.host_id,
        nonce=nonce,
        channel_key=host.ssh_host_key,
        enrolment=host.enrolment,
        references=references,
        now_s=NOW_S,
    ).result


def test_the_evidence_itself_is_accepted() -> None:
    assert judge(accepted()[2]).verdict is Verdict.AFFIRMING


@SLOWER
@given(st.data())
def test_a_flipped_bit_of_what_is_signed_or_covered_never_affirms(data: st.DataObject) -> None:
    evidence = json.loads(accepted()[2])
    part = data.draw(st.sampled_from(["statement", "attest", "signature", "event_log", "nonce"]))
    raw = bytearray(bytes.fromhex(evidence[part]) if part == "nonce" else base64.b64decode(evidence[part]))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    evidence[part] = raw.hex() if part == "nonce" else base64.b64encode(raw).decode()
    result = judge(dump_canonical(evidence))
    assert result.verdict is Verdict.CONTRAINDICATED
    assert result.stage != DONE


@SLOWER
@given(st.binary(min_size=32, max_size=32).filter(lambda nonce: nonce != NONCE))
def test_no_other_nonce_is_answered(nonce: bytes) -> None:
    assert judge(accepted()[2], nonce).codes == ("quote.nonce.mismatch",)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every member of ``value``."""
    if isinstance(value, dict):
        return [at, *(path for name, item in value.items() for path in paths(item, (*at, name)))]
    if isinstance(value, list):
        return [at, *(path for index, item in enumerate(value) for path in paths(item, (*at, index)))]
    return [at]


@SLOWER
@given(
    st.data(),
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**40), st.text(max_size=40), st.just([]), st.just({})),
)
def test_a_replaced_member_gives_a_verdict_and_no_crash(data: st.DataObject, value: Any) -> None:
    evidence = json.loads(accepted()[2])
    path = data.draw(st.sampled_from(paths(evidence)))
    holder: Any = {"evidence": evidence}
    for step in ("evidence", *path)[:-1]:
        holder = holder[step]
    last = ("evidence", *path)[-1]
    unchanged = holder[last] == value and type(holder[last]) is type(value)
    holder[last] = value
    whole = evidence if path else value
    result = judge(dump_canonical(whole))
    assert unchanged or result.verdict is Verdict.CONTRAINDICATED


@SLOWER
@given(st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    assert judge(data).codes == ("evidence.malformed",)


@SLOWER
@given(st.data())
def test_cut_or_repeated_bytes_never_affirm(data: st.DataObject) -> None:
    whole = accepted()[2]
    begin = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(begin + 1, len(whole)))
    changed = whole[:begin] + whole[end:] if data.draw(st.booleans()) else whole[:end] + whole[begin:]
    if changed != whole:
        assert judge(changed).verdict is Verdict.CONTRAINDICATED


@SLOWER
@given(st.lists(st.sampled_from(list(Severity)), max_size=4), st.booleans())
def test_every_result_can_be_told_as_ear(severities: list[Severity], debug: bool) -> None:
    findings = tuple(Finding(code="x.y", severity=severity, subject="host") for severity in severities)
    result = replace(
        judge(accepted()[2]),
        findings=findings,
        verdict=verdict_of(findings),
        variant="debug" if debug else "production",
    )
    ear = parse_ear(ear_claims(result, build="x"))
    assert ear.submodules["host"].status is result.verdict
    assert AttestationResult.from_bytes(result.to_bytes()) == result

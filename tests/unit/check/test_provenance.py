# SPDX-License-Identifier: GPL-3.0-or-later
"""Each step of believing a statement has a way to fail, and fails by its own code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.check.provenance import (
    SKEW_S,
    check_answer,
    read_owner,
    verify_build,
    verify_job,
    verify_work_key,
)
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.provenance import seal
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.image import IN_TOTO_PAYLOAD_TYPE
from ansible.module_utils.vouch.model.provenance import BuildStatement
from ansible.module_utils.vouch.model.workkey import WORK_KEY_PAYLOAD_TYPE
from ansible.module_utils.vouch.notary.signer import WorkSigner

from provenanceparts import ANSWER, NOW_S, REQUEST, Worker

WORKER, OTHER = Worker("node1", "fd00::2"), Worker("node2", "fd00::3")
SPKI = WORKER.signer.public.spki
KEYID, CHANNEL = WORKER.signer.public.keyid, WORKER.guest.owner.key.keyid
BUILD = BuildStatement(
    builder=WORKER.builder, run=WORKER.run(), subjects={"app": sha256(b"app")}, objects={sha256(b"a"): sha256(b"1")}
)


def refused(call: Callable[[], object]) -> str:
    """Return the code with which a statement is refused."""
    with pytest.raises(EvidenceError) as caught:
        call()
    return caught.value.code


def test_what_holds() -> None:
    key = WORKER.key()
    assert key.key == WORKER.signer.public
    assert key.owner == WORKER.guest.owner
    assert key.endorsement == sha256(WORKER.endorsement)
    signed = WORKER.signer.seal(WORKER.job())
    verified = verify_job(signed, key)
    assert (verified.job, verified.statement) == (WORKER.job(), sha256(signed))
    check_answer(verified, REQUEST, ANSWER, package=WORKER.guest.package)
    assert verify_build(WORKER.signer.seal(BUILD), key).build == BUILD


def test_certificates() -> None:
    assert read_owner(WORKER.guest.certificate) == WORKER.guest.owner
    assert refused(lambda: read_owner(b"certificate")) == "provenance.certificate"


ENDORSEMENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no envelope": (lambda: b"{}", "envelope.malformed"),
    "by another channel key": (lambda: OTHER.guest.endorse(SPKI, NOW_S), "envelope.signature.invalid"),
    "by the work key itself": (
        lambda: seal(WORK_KEY_PAYLOAD_TYPE, b"{}", keyid="", sign=WORKER.signer.sign),
        "envelope.signature.invalid",
    ),
    "of another kind": (
        lambda: seal(IN_TOTO_PAYLOAD_TYPE, WORKER.job().to_bytes(), keyid=CHANNEL, sign=WORKER.guest.sign),
        "provenance.key",
    ),
    "unreadable": (lambda: seal(WORK_KEY_PAYLOAD_TYPE, b"{}", keyid=CHANNEL, sign=WORKER.guest.sign), "provenance.key"),
    "of another guest": (lambda: WORKER.guest.endorse(SPKI, NOW_S, guest="node2"), "provenance.key.owner"),
    "of another host": (
        lambda: WORKER.guest.endorse(SPKI, NOW_S, host_id="00000000-2222-4333-8444-555555555555"),
        "provenance.key.owner",
    ),
    "of another certificate": (
        lambda: WORKER.guest.endorse(SPKI, NOW_S, channel_certificate=sha256(b"x")),
        "provenance.key.owner",
    ),
    "before the certificate": (lambda: WORKER.guest.endorse(SPKI, NOW_S - 301 - SKEW_S), "provenance.time"),
    "after the certificate": (lambda: WORKER.guest.endorse(SPKI, NOW_S + 3601), "provenance.time"),
}


@pytest.mark.parametrize("fault", ENDORSEMENTS)
def test_endorsements(fault: str) -> None:
    make, code = ENDORSEMENTS[fault]
    assert refused(lambda: verify_work_key(make(), WORKER.guest.owner)) == code


def sealed(**changes: Any) -> bytes:
    """Return the signed statement about another job."""
    return WORKER.signer.seal(WORKER.job(**changes))


JOBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no envelope": (lambda: b"", "envelope.malformed"),
    "by another key": (lambda: WorkSigner().seal(WORKER.job()), "envelope.signature.invalid"),
    "by the channel key": (
        lambda: seal(IN_TOTO_PAYLOAD_TYPE, WORKER.job().to_bytes(), keyid="", sign=WORKER.guest.sign),
        "envelope.signature.invalid",
    ),
    "of another type": (
        lambda: seal("text/plain", WORKER.job().to_bytes(), keyid=KEYID, sign=WORKER.signer.sign),
        "provenance.malformed",
    ),
    "with no key's id": (
        lambda: seal(IN_TOTO_PAYLOAD_TYPE, WORKER.job().to_bytes(), keyid="", sign=WORKER.signer.sign),
        "envelope.malformed",
    ),
    "in another spelling": (lambda: WORKER.signer.seal(WORKER.job())[:-1] + b" ", "envelope.malformed"),
    "a build": (lambda: WORKER.signer.seal(BUILD), "provenance.malformed"),
    "by another guest": (lambda: sealed(builder=OTHER.builder), "provenance.builder"),
    "under another channel": (
        lambda: sealed(run=WORKER.run(channel_certificate=sha256(b"x"))),
        "provenance.builder",
    ),
    "before its key": (
        lambda: sealed(run=WORKER.run(started_s=NOW_S - 9, finished_s=NOW_S - 1)),
        "provenance.time",
    ),
    "after its certificate": (lambda: sealed(run=WORKER.run(finished_s=NOW_S + 3601)), "provenance.time"),
}


@pytest.mark.parametrize("fault", JOBS)
def test_jobs(fault: str) -> None:
    make, code = JOBS[fault]
    assert refused(lambda: verify_job(make(), WORKER.key())) == code


def test_a_job_is_no_build() -> None:
    assert refused(lambda: verify_build(sealed(), WORKER.key())) == "provenance.malformed"
    other = WORKER.signer.seal(dataclasses.replace(BUILD, builder=OTHER.builder))
    assert refused(lambda: verify_build(other, WORKER.key())) == "provenance.builder"
    assert refused(lambda: verify_build(OTHER.signer.seal(BUILD), WORKER.key())) == "envelope.signature.invalid"


def test_a_job_that_began_before_its_key_was_endorsed_anew_holds() -> None:
    verify_job(sealed(run=WORKER.run(started_s=NOW_S - 100, finished_s=NOW_S)), WORKER.key())


FAILED = dataclasses.replace(ANSWER, status=256, object=b"")
ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "another nonce": ({"request": dataclasses.replace(REQUEST, nonce=sha256(b"other"))}, "provenance.nonce"),
    "no nonce": ({"request": dataclasses.replace(REQUEST, nonce=None)}, "provenance.nonce"),
    "other arguments": ({"request": dataclasses.replace(REQUEST, arguments=("gcc",))}, "provenance.request"),
    "another source": ({"request": dataclasses.replace(REQUEST, source=b"x")}, "provenance.request"),
    "another object": ({"answer": dataclasses.replace(ANSWER, object=b"x")}, "provenance.answer"),
    "an object of length 0": ({"answer": dataclasses.replace(ANSWER, object=b"")}, "provenance.answer"),
    "a failure": ({"answer": FAILED}, "provenance.answer"),
    "another package": ({"package": sha256(b"x")}, "provenance.package"),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_answers(fault: str) -> None:
    changes, code = ANSWERS[fault]
    verified = verify_job(sealed(), WORKER.key())
    given: dict[str, Any] = {"request": REQUEST, "answer": ANSWER, "package": WORKER.guest.package, **changes}
    assert refused(lambda: check_answer(verified, given["request"], given["answer"], package=given["package"])) == code


def test_a_failed_job() -> None:
    verified = verify_job(sealed(status=256, object=b""), WORKER.key())
    check_answer(verified, REQUEST, FAILED, package=WORKER.guest.package)
    assert refused(lambda: check_answer(verified, REQUEST, ANSWER, package=WORKER.guest.package)) == "provenance.answer"

# SPDX-License-Identifier: GPL-3.0-or-later
"""Provenance bundles: whatever byte of whatever part is another one, the bundle is not proven."""

from __future__ import annotations

import dataclasses
import re

import pytest
from ansible.module_utils.vouch.appraise.provenance import recheck_provenance
from ansible.module_utils.vouch.appraise.recheck import Outcome
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.provenance import write_provenance_bundle
from ansible.module_utils.vouch.model.acceptance import MAX_FORMER, Acceptance
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.provenance import BuildStatement, JobStatement
from ansible.module_utils.vouch.parse.provenancebundle import CHAIN, parse_provenance_bundle, part_name
from hypothesis import given, settings
from hypothesis import strategies as st

from provenanceparts import Build, Worker, believe
from thorough import examples

PARTS = Build(former=(b"a release before", b"the one before that")).parts()
GOOD = write_provenance_bundle(PARTS)
WORKER = Worker("node1", "fd00::2")
DIGESTS = st.binary(min_size=32, max_size=32)


def timeless(acceptance: bytes) -> bytes:
    """Return an acceptance without its times."""
    return re.sub(rb'"(accepted|expires)_at":\d+', b"", acceptance)


def test_the_bundle_is_good_otherwise() -> None:
    assert recheck_provenance(parse_provenance_bundle(GOOD), believe).outcome is Outcome.PROVEN


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(sorted(PARTS)), st.integers(0, 10_000), st.integers(1, 255))
def test_an_altered_part_under_its_new_name(name: str, at: int, flip: int) -> None:
    changed = bytearray(PARTS[name])
    changed[at % len(changed)] ^= flip
    if name.startswith("acceptances/") and timeless(changed) == timeless(PARTS[name]):
        # When a peer was accepted is the word of who accepted it: a judge only asks what the evidence was worth then.
        return
    parts = {other: content for other, content in PARTS.items() if other != name}
    parts[CHAIN if name == CHAIN else part_name(name.partition("/")[0], sha256(changed))] = bytes(changed)
    found = recheck_provenance(parse_provenance_bundle(write_provenance_bundle(parts)), believe)
    assert found.outcome is Outcome.FALSE


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(sorted(set(PARTS) - {CHAIN})))
def test_a_part_that_is_left_out(name: str) -> None:
    parts = {other: content for other, content in PARTS.items() if other != name}
    found = recheck_provenance(parse_provenance_bundle(write_provenance_bundle(parts)), believe)
    assert found.outcome is not Outcome.PROVEN


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_an_altered_byte_of_the_file(at: int, flip: int) -> None:
    changed = bytearray(GOOD)
    changed[at] ^= flip
    try:
        parse_provenance_bundle(bytes(changed))
    except ParseError:
        return
    raise AssertionError(f"byte {at} may be another one")


@settings(max_examples=examples(200), deadline=None)
@given(
    arguments=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50), min_size=1),
    source=DIGESTS,
    nonce=DIGESTS,
    status=st.sampled_from((0, 256, 11)),
    digest=DIGESTS,
    compilers=st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1), DIGESTS, min_size=1),
)
def test_jobs_are_read_as_they_were_written(
    arguments: list[str], source: bytes, nonce: bytes, status: int, digest: bytes, compilers: dict[str, bytes]
) -> None:
    job = WORKER.job(
        arguments=tuple(arguments),
        source=source,
        nonce=nonce,
        status=status,
        object=b"" if status else digest,
        compilers=dict(sorted(compilers.items())[:64]),
    )
    assert JobStatement.from_bytes(job.to_bytes()) == job


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(DIGESTS, max_size=MAX_FORMER + 2))
def test_former_releases_have_one_spelling(former: list[bytes]) -> None:
    acceptance = dataclasses.replace(Build().accepted[0].acceptance, former=tuple(former))
    if len(former) <= MAX_FORMER and former == sorted(set(former)):
        assert Acceptance.from_bytes(acceptance.to_bytes()) == acceptance
    else:
        with pytest.raises(ParseError):
            Acceptance.from_bytes(acceptance.to_bytes())


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(DIGESTS, DIGESTS, min_size=1, max_size=20))
def test_builds_are_read_as_they_were_written(objects: dict[bytes, bytes]) -> None:
    build = BuildStatement(builder=WORKER.builder, run=WORKER.run(), subjects={"app": sha256(b"app")}, objects=objects)
    assert BuildStatement.from_bytes(build.to_bytes()) == build

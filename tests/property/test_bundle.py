# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of bundles: one spelling for each set of parts, any other bytes refused, and nothing altered is proven."""

from __future__ import annotations

import functools

from ansible.module_utils.vouch.appraise.anchors import Anchors
from ansible.module_utils.vouch.appraise.chain import chain
from ansible.module_utils.vouch.appraise.recheck import Outcome
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, VouchError
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.bundle import PART_BYTES, REQUIRED, former_name, parse_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundles import Site, anchors, check
from thorough import examples

SLOWER = settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])

OPTIONAL = sorted(set(PART_BYTES) - set(REQUIRED) - {"release.json", "manifest"})
CONTENT = st.binary(max_size=1200)
PARTS = st.builds(
    lambda required, optional, release, packages, former: {
        **required,
        **optional,
        **release,
        **{f"packages/{sha256(item).hex()}.json": item for item in packages},
        **{former_name(sha256(item)): item for item in former},
    },
    st.fixed_dictionaries(dict.fromkeys(REQUIRED, CONTENT)),
    st.dictionaries(st.sampled_from(OPTIONAL), CONTENT),
    st.one_of(st.just({}), st.fixed_dictionaries({"release.json": CONTENT, "manifest": CONTENT})),
    st.lists(CONTENT, max_size=3),
    st.lists(CONTENT, max_size=3),
)


@functools.cache
def good() -> dict[str, bytes]:
    """Return the parts of a good bundle."""
    return Site(guest=True).parts()


def of_family(error: VouchError) -> None:
    """Fail unless the error is one about bundles."""
    if not error.code.startswith("bundle."):
        raise AssertionError(error.code) from error


@SLOWER
@given(PARTS)
def test_round_trip(parts: dict[str, bytes]) -> None:
    data = write_bundle(parts)
    assert parse_bundle(data).parts == parts


@SLOWER
@given(PARTS, st.data())
def test_any_other_bytes_are_another_bundle_or_none(parts: dict[str, bytes], draw: st.DataObject) -> None:
    data = write_bundle(parts)
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, min(begin + 600, len(data))))
    changed = data[:begin] + draw.draw(st.binary(max_size=600)) + data[end:]
    try:
        found = parse_bundle(changed)
    except ParseError as error:
        of_family(error)
    else:
        assert write_bundle(found.parts) == changed


@SLOWER
@given(st.data())
def test_a_bundle_cut_and_joined_is_refused(draw: st.DataObject) -> None:
    data = write_bundle(good())
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    order = draw.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=len(blocks)))
    changed = b"".join(blocks[place] for place in order)
    try:
        assert parse_bundle(changed).parts == good()
    except ParseError as error:
        of_family(error)
        if changed == data:
            raise


@SLOWER
@given(st.data())
def test_an_altered_part_is_never_proven(draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(sorted(good())))
    old = good()[name]
    begin = draw.draw(st.integers(0, len(old)))
    end = draw.draw(st.integers(begin, min(begin + 40, len(old))))
    new = old[:begin] + draw.draw(st.binary(max_size=40)) + old[end:]
    place = f"packages/{sha256(new).hex()}.json" if name.startswith("packages/") else name
    parts = {**{other: data for other, data in good().items() if other != name}, place: new}
    for given_anchors in (anchors(), Anchors()):
        try:
            found = check(parts, given_anchors)
        except (ParseError, EvidenceError) as error:
            of_family(error)
        else:
            assert chain(found)
            if given_anchors == Anchors():
                assert found.outcome in (Outcome.UNANCHORED, Outcome.FALSE)
            else:
                assert found.outcome is (Outcome.PROVEN if new == old else Outcome.FALSE)

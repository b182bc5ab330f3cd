# SPDX-License-Identifier: GPL-3.0-or-later
"""What the port authority answers programs: an acceptance with every paper that it names."""

from __future__ import annotations

from ansible.module_utils.vouch.appraise.peer import PeerPapers
from ansible.module_utils.vouch.authority.control import acceptance_json
from ansible.module_utils.vouch.authority.judging import Judged
from ansible.module_utils.vouch.model.acceptance import PAPERS, Acceptance
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import decode_base64

NOW_S = 1_800_000_000
JUDGED = Judged(
    address="fd00::2",
    nonce=bytes(32),
    evidence=b"evidence",
    papers=PeerPapers(
        credential=b"credential",
        release=b"release",
        manifest=b"manifest",
        package=b"package",
        certificate=b"certificate",
        former=(b"second", b"first", b"second", b"third"),
    ),
    accepted_at_s=NOW_S,
    expires_at_s=NOW_S + 60,
)


def test_an_acceptance_names_all_that_comes_with_it() -> None:
    found = acceptance_json(JUDGED, asker="fd00::1")
    assert found.keys() == {"acceptance", "papers", "former", "certificate"}
    acceptance = Acceptance.from_bytes(dump_canonical(found["acceptance"]))
    papers = [decode_base64(found["papers"][name]) or b"" for name in PAPERS]
    former = [decode_base64(release) or b"" for release in found["former"]]
    assert papers == [name.encode() for name in PAPERS]
    assert tuple(sha256(paper) for paper in (*papers, *former)) == acceptance.papers


def test_former_releases_have_one_order_and_stand_once() -> None:
    """A peer shows them as it likes."""
    found = acceptance_json(JUDGED, asker="fd00::1")
    acceptance = Acceptance.from_bytes(dump_canonical(found["acceptance"]))
    assert acceptance.former == tuple(sorted(sha256(release) for release in (b"first", b"second", b"third")))

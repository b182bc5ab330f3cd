# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed statements are DSSE as others read it; a bundle takes nothing that has no place in it."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.provenance import Accepted, seal_statement, write_provenance_bundle
from ansible.module_utils.vouch.model.acceptance import PAPERS
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.canonical import load_json
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from ansible.module_utils.vouch.parse.provenancebundle import CHAIN, part_limit, part_name
from ansible.module_utils.vouch.parse.provenancebundle import PAPERS as PAPER_FOLDER
from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from provenanceparts import NOW_S, Build, Worker
from sim.portauthority import accepted_with

WORKER, OTHER = Worker("node1", "fd00::2"), Worker("node2", "fd00::3")


def test_another_implementation_reads_the_envelope() -> None:
    signer = WORKER.signer
    data = seal_statement(WORKER.job(), keyid=signer.public.keyid, sign=signer.sign)
    envelope = Envelope.from_dict(load_json(data, limit_bytes=1 << 20))
    pem = serialization.load_der_public_key(signer.public.spki).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = SSlibKey(signer.public.keyid, "ecdsa", "ecdsa-sha2-nistp256", {"public": pem.decode()})
    assert list(envelope.verify([key], 1)) == [signer.public.keyid]
    assert envelope.payload == WORKER.job().to_bytes()
    assert parse_envelope(data).signatures[0].keyid == signer.public.keyid
    assert data.endswith(b"}\n")


def test_an_acceptance_comes_with_what_it_names() -> None:
    good = accepted_with(WORKER.guest, OTHER.guest, NOW_S)
    for name in PAPERS:
        with pytest.raises(UsageError) as caught:
            Accepted(acceptance=good.acceptance, papers={**good.papers, name: b"another"}, certificate=good.certificate)
        assert caught.value.code == "provenance.paper"
    for papers, certificate in (
        (good.papers, OTHER.guest.certificate),
        ({**good.papers, "more": b""}, good.certificate),
        ({}, good.certificate),
    ):
        with pytest.raises(UsageError):
            Accepted(acceptance=good.acceptance, papers=papers, certificate=certificate)


def test_an_acceptance_comes_with_the_former_releases_it_names() -> None:
    good = accepted_with(WORKER.guest, OTHER.guest, NOW_S, former=(b"first", b"second"))
    assert set(good.contents) == {*good.papers.values(), b"first", b"second"}
    first, second = good.former
    for former in ((), (first,), (second, first), (first, second, b"third"), (first, b"third")):
        with pytest.raises(UsageError) as caught:
            Accepted(acceptance=good.acceptance, papers=good.papers, certificate=good.certificate, former=former)
        assert caught.value.code == "provenance.paper"


def test_former_releases_stand_among_the_papers() -> None:
    parts = Build(former=(b"first", b"second")).parts()
    assert parts.items() >= {part_name(PAPER_FOLDER, sha256(paper)): paper for paper in (b"first", b"second")}.items()
    assert len(parts) == 1 + 2 + 3 + 3 + 3 + 15 + 2, "one host, so the same two for every guest"


def test_parts_have_their_place() -> None:
    parts = Build().parts()
    assert all(part_limit(name) is not None for name in parts)
    assert len(parts) == 1 + 2 + 3 + 3 + 3 + 15
    for wrong in ({"other": b""}, {CHAIN: bytes((16 << 20) + 1)}):
        with pytest.raises(UsageError) as caught:
            write_provenance_bundle({**parts, **wrong})
        assert caught.value.code == "bundle.part"


def test_the_same_parts_are_the_same_bundle() -> None:
    parts = Build().parts()
    assert write_provenance_bundle(parts) == write_provenance_bundle(dict(reversed(parts.items())))

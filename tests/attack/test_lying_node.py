# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that compiles for others hands over another object, or somebody else's word: nobody gets it."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.provenance import JobStatement
from ansible.module_utils.vouch.notary.dispatch import NO_HOSTS
from ansible.module_utils.vouch.notary.jobio import Share
from ansible.module_utils.vouch.notary.node import NodeNotary
from ansible.module_utils.vouch.notary.signer import WorkSigner
from ansible.module_utils.vouch.parse.distcc import DistccAnswer, DistccRequest
from ansible.module_utils.vouch.parse.envelope import parse_envelope

from notaryparts import Farm, SimNode, farm

FAILED = NO_HOSTS << 8


class LyingNotary(NodeNotary):
    """A node's notary that changes what it sends."""

    lie = staticmethod(lambda answer, _request, _notary: answer)

    async def _work(self, request: DistccRequest, share: Share) -> DistccAnswer:
        return self.lie(await super()._work(request, share), request, self)


def stated(answer: DistccAnswer, notary: NodeNotary, signer: WorkSigner | None = None, **changes: Any) -> DistccAnswer:
    """Return the answer with another statement, signed by the node's own work key or another one."""
    assert answer.statement is not None
    job = JobStatement.from_bytes(parse_envelope(answer.statement).payload)
    changed = dataclasses.replace(job, **changes)
    return dataclasses.replace(answer, statement=(signer or notary._signer).seal(changed))


OTHER = sha256(b"something else")


def other_builder(answer: DistccAnswer, notary: NodeNotary, **changes: Any) -> DistccAnswer:
    """Return the answer with another builder."""
    standing = notary._keeper.standing
    assert standing is not None
    return stated(answer, notary, builder=dataclasses.replace(standing.builder, **changes))


LIES: dict[str, tuple[Any, str]] = {
    "another object": (lambda a, r, n: dataclasses.replace(a, object=b"implant"), "provenance.answer"),
    "an object that did not compile": (
        lambda a, r, n: dataclasses.replace(a, status=1 << 8, object=b""),
        "provenance.answer",
    ),
    "another object in the statement": (lambda a, r, n: stated(a, n, object=OTHER), "provenance.answer"),
    "another source": (lambda a, r, n: stated(a, n, source=OTHER), "provenance.request"),
    "other arguments": (lambda a, r, n: stated(a, n, arguments=("gcc", "-DX")), "provenance.request"),
    "another nonce": (lambda a, r, n: stated(a, n, nonce=OTHER), "provenance.nonce"),
    "another package": (lambda a, r, n: other_builder(a, n, package=OTHER), "provenance.package"),
    "another guest": (lambda a, r, n: other_builder(a, n, guest="node2"), "provenance.builder"),
    "another work key": (lambda a, r, n: stated(a, n, WorkSigner()), "envelope.signature.invalid"),
    "an altered statement": (
        lambda a, r, n: dataclasses.replace(a, statement=a.statement.replace(b'"payload":"', b'"payload":"AAAA')),
        "envelope.signature.invalid",
    ),
    "no statement": (lambda a, r, n: dataclasses.replace(a, statement=b""), "envelope.malformed"),
    "no endorsement": (lambda a, r, n: dataclasses.replace(a, endorsement=b"{}"), "envelope.malformed"),
    "plain distccd": (lambda a, r, n: dataclasses.replace(a, endorsement=None, statement=None), "was lost"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_lies_is_not_believed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    change, code = LIES[lie]
    monkeypatch.setattr("notaryparts.NodeNotary", LyingNotary)
    monkeypatch.setattr(LyingNotary, "lie", staticmethod(change))

    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1) as site:
            liar = await site.add_node("127.0.0.2")
            answer = await site.job(b"x")
            assert (answer.status, answer.object) == (FAILED, b"")
            assert code in site.said[-1]
            assert len(liar.compiled) == 1
            assert len(site.journal) == 0
            # An honest node does it; the liar is not asked again.
            monkeypatch.setattr("notaryparts.NodeNotary", NodeNotary)
            honest = await site.add_node("127.0.0.3")
            for number in range(4):
                assert (await site.job(b"%d" % number)).status == 0
            assert (len(liar.compiled), len(honest.compiled)) == (1, 4)

    asyncio.run(scenario())


def test_a_work_key_of_another_guest_is_not_believed(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1) as site:
            first = await site.add_node("127.0.0.2")
            second = await site.add_node("127.0.0.3")
            standing = first.keeper.standing
            assert standing is not None
            # The second one speaks with the first one's endorsement and key: of a guest that is accepted itself.
            second.keeper.standing = standing
            second.signer._key = first.signer._key
            await site.refuse(first)
            assert (await site.job(b"x")).status == FAILED
            assert "envelope.signature.invalid" in site.said[-1]

    asyncio.run(scenario())


async def believed(site: Farm, node: SimNode) -> bool:
    """Say whether a job can be done at ``node``, the only one there is."""
    before = len(node.compiled)
    answer = await site.job(b"again")
    return answer.status == 0 and len(node.compiled) == before + 1


def test_a_liar_needs_another_channel_certificate(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notaryparts.NodeNotary", LyingNotary)
    monkeypatch.setattr(LyingNotary, "lie", staticmethod(LIES["another nonce"][0]))

    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1) as site:
            node = await site.add_node("127.0.0.2")
            assert not await believed(site, node)
            monkeypatch.setattr(LyingNotary, "lie", staticmethod(lambda a, r, n: a))
            site.shift_s = 30
            await site.accept(node)
            assert not await believed(site, node)
            node.guest.renew(int(site.now_s()))
            await node.keeper.refresh()
            site.shift_s = 60
            await site.accept(node)
            assert await believed(site, node)

    asyncio.run(scenario())

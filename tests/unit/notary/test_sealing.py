# SPDX-License-Identifier: GPL-3.0-or-later
"""A build is sealed through the control socket: the bundle holds all that speaks for it, and is read again."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.provenance import recheck_provenance
from ansible.module_utils.vouch.appraise.recheck import Outcome
from ansible.module_utils.vouch.errors import UnreachableError, UsageError, VouchError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary import sealing
from ansible.module_utils.vouch.notary.buildseal import seal_build
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json
from ansible.module_utils.vouch.parse.frame import FrameReader, encode_frame
from ansible.module_utils.vouch.parse.provenancebundle import (
    ACCEPTANCES,
    CERTIFICATES,
    KEYS,
    PAPERS,
    STATEMENTS,
    parse_provenance_bundle,
)

from notaryparts import Farm, farm
from provenanceparts import believe
from sim.portauthority import SimGuest


async def built(site: Farm, folder: pathlib.Path, count: int = 3) -> tuple[pathlib.Path, list[str]]:
    """Have objects made, and a file of them."""
    objects = []
    for number in range(count):
        path = folder / f"{number}.o"
        path.write_bytes((await site.job(b"%d" % number)).object)
        objects.append(str(path))
    whole = folder / "app"
    whole.write_bytes(b"".join(pathlib.Path(path).read_bytes() for path in objects))
    return whole, objects


def test_a_build_is_sealed_and_read_again(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, slots=1) as site:
            for address in ("127.0.0.2", "127.0.0.3"):
                node = await site.add_node(address)
                site.accepted(node.guest)
                await site.dispatcher._fetch_accepted(site.roster.peer(address))
            site.accepted(site.controller)
            whole, objects = await built(site, tmp_path)
            data = await asyncio.to_thread(seal_build, [str(whole)], [*objects, objects[0]], path=site.control)
            bundle = parse_provenance_bundle(data)
            counts = {f: len(list(bundle.digests(f))) for f in (STATEMENTS, KEYS, CERTIFICATES, ACCEPTANCES, PAPERS)}
            assert counts == {STATEMENTS: 3, KEYS: 3, CERTIFICATES: 3, ACCEPTANCES: 3, PAPERS: 15}
            files = {"app": sha256(whole.read_bytes())}
            found = recheck_provenance(bundle, believe, files=files)
            assert (found.outcome, found.findings) == (Outcome.PROVEN, ())
            assert found.build is not None
            assert dict(found.build.build.subjects) == files
            assert set(found.jobs) == {sha256(read(path)) for path in objects}
            assert recheck_provenance(bundle, None).outcome is Outcome.UNANCHORED

    asyncio.run(scenario())


def read(path: str) -> bytes:
    """Return a file."""
    return pathlib.Path(path).read_bytes()


def test_papers_that_the_authority_does_not_give_are_missed_later(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            site.accepted(site.controller)
            whole, objects = await built(site, tmp_path, 1)
            data = await asyncio.to_thread(seal_build, [str(whole)], objects, path=site.control)
            found = recheck_provenance(parse_provenance_bundle(data), believe)
            assert found.outcome is Outcome.UNANCHORED
            missing = [claim.name for claim in found.claims if claim.by == "the bundle holds no evidence about it"]
            assert missing == [f"{node.guest.guest}.{node.guest.host_id}"]
            assert any("papers of 127.0.0.2" in line for line in site.said)

    asyncio.run(scenario())


def test_a_host_that_starts_again_is_waited_for(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "OWN_PAUSE_S", 0.01)

    async def scenario() -> None:
        async with farm(tmp_path) as site:
            site.accepted((await site.add_node("127.0.0.2")).guest)
            whole, objects = await built(site, tmp_path, 1)
            asked = asyncio.create_task(asyncio.to_thread(seal_build, [str(whole)], objects, path=site.control))
            while not any("own papers" in line for line in site.said):
                await asyncio.sleep(0.01)
            # It speaks again, for another certificate than the one that the statement rests on, and then for that.
            site.accepted(SimGuest(site.controller.guest, site.controller.address, now_s=int(site.now_s())))
            while not any("seal.certificate" in line for line in site.said):
                await asyncio.sleep(0.01)
            site.accepted(site.controller)
            found = recheck_provenance(parse_provenance_bundle(await asked), believe)
            assert found.outcome is Outcome.PROVEN

    asyncio.run(scenario())


def test_a_build_that_no_host_speaks_for_is_not_sealed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "OWN_PAUSE_S", 0.01)
    monkeypatch.setattr(sealing, "OWN_LIMIT_S", 0.1)

    async def scenario() -> None:
        async with farm(tmp_path) as site:
            site.accepted((await site.add_node("127.0.0.2")).guest)
            whole, objects = await built(site, tmp_path, 1)
            with pytest.raises(UnreachableError) as caught:
                await asyncio.to_thread(seal_build, [str(whole)], objects, path=site.control)
            assert caught.value.code == "seal.refused"
            assert "peer.unknown" in str(caught.value)

    asyncio.run(scenario())


def test_what_cannot_be_sealed(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2")
            whole, objects = await built(site, tmp_path, 1)
            stranger = tmp_path / "stranger.o"
            stranger.write_bytes(b"made elsewhere")

            async def refused(files: list[str], parts: list[str], path: str = site.control) -> VouchError:
                with pytest.raises((UnreachableError, UsageError)) as caught:
                    await asyncio.to_thread(seal_build, files, parts, path=path)
                return caught.value

            error = await refused([str(whole)], [*objects, str(stranger)])
            assert error.code == "seal.refused"
            assert "journal.unknown" in str(error)
            assert "seal.empty" in str(await refused([str(whole)], []))
            assert (await refused([str(whole), str(whole)], objects)).code == "seal.names"
            assert (await refused([str(tmp_path / "none")], objects)).code == "files.missing"
            assert (await refused([str(whole)], objects, str(tmp_path / "none"))).code == "seal.unreachable"

    asyncio.run(scenario())


async def ask(path: str, *requests: Any) -> list[Any]:
    """Return the answers to requests on one connection; it may end early."""
    reader, writer = await asyncio.open_unix_connection(path)
    frames = FrameReader(limit_bytes=1 << 20)
    answers = []
    for request in requests:
        body = request if isinstance(request, bytes) else dump_canonical({"version": 1, "id": "1", **request})
        writer.write(encode_frame(body, limit_bytes=1 << 20))
        while (answer := frames.next_body()) is None:
            if not (data := await reader.read(1 << 16)):
                return answers
            frames.feed(data)
        answers.append(load_json(answer, limit_bytes=1 << 20))
    writer.close()
    return answers


def test_the_control_socket(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2")
            await site.job(b"x")
            (answer,) = await ask(site.control, {"request": "status"})
            assert answer["result"] == {"nodes": ["127.0.0.2"], "statements": 1, "dropped": 0}
            one = sha256(b"1").hex()
            answers = await ask(
                site.control,
                {"request": "objects", "objects": [one]},
                {"request": "objects", "objects": [one, one]},
                {"request": "objects", "objects": ["zz"]},
                {"request": "part", "name": "chain.json"},
                {"request": "seal", "subjects": [{"name": "a/b", "sha256": one}]},
                {"request": "seal", "subjects": [{"name": "a", "sha256": one}] * 2},
                {"request": "status", "more": 1},
            )
            assert [item["ok"] for item in answers] == [True, True, False, False, False, False, False]
            assert answers[1]["result"] == {"objects": 3}
            assert await ask(site.control, {"request": "other"}) == []
            assert await ask(site.control, b"{}") == []

    asyncio.run(scenario())

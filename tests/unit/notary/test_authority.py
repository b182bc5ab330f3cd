# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of the port authority: what it says is read strictly, and silence is an error, never an answer."""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from ansible.module_utils.vouch.check.provenance import verify_work_key
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.notary import authority as module
from ansible.module_utils.vouch.notary.authority import AuthorityClient, Bell
from ansible.module_utils.vouch.notary.signer import WorkSigner
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import encode_base64
from ansible.module_utils.vouch.parse.frame import encode_frame

from sim.portauthority import SimAuthority, SimGuest, accepted_with

NOW_S = int(time.time())
GUEST, PEER = SimGuest("control", "fd00::1", now_s=NOW_S), SimGuest("node1", "fd00::2", now_s=NOW_S)


def with_authority(
    folder: pathlib.Path, scenario: Callable[[AuthorityClient, SimAuthority], Coroutine[Any, Any, None]]
) -> None:
    """Run a scenario with a simulated authority and a client of it."""

    async def run() -> None:
        authority = SimAuthority(GUEST, str(folder / "a.sock"), time.time)
        await authority.start()
        client = AuthorityClient(authority.path)
        try:
            await scenario(client, authority)
        finally:
            await client.close()
            authority.stop()

    asyncio.run(run())


async def refused(call: Awaitable[Any]) -> str:
    """Return the code with which a request fails."""
    with pytest.raises(UnreachableError) as caught:
        await call
    return caught.value.code


def test_all_requests(tmp_path: pathlib.Path) -> None:
    async def scenario(client: AuthorityClient, authority: SimAuthority) -> None:
        identity = await client.identity()
        assert (identity.host_id, identity.guest, identity.address) == (GUEST.host_id, "control", "fd00::1")
        assert (identity.certificate, identity.evidence) == (GUEST.certificate, b"")
        signer = WorkSigner()
        key = verify_work_key(await client.endorse(signer.public.spki), GUEST.owner)
        assert key.key == signer.public
        assert await client.peers() == ()
        authority.peers = [PEER.listed(NOW_S), SimGuest("node2", "fd00::3", now_s=NOW_S).refused("guest.violated")]
        (peer,) = await client.peers()
        assert (peer.address, peer.owner, peer.package) == ("fd00::2", PEER.owner, PEER.package)
        assert (peer.accepted_at_s, peer.expires_at_s) == (NOW_S, NOW_S + 60)
        authority.accepted["fd00::2"] = accepted_with(PEER, GUEST, NOW_S)
        assert await client.accepted("fd00::2") == authority.accepted["fd00::2"]
        assert await refused(client.accepted("fd00::9")) == "authority.refused"
        authority.refusing["fd00::9"] = "peer.host"
        assert await client.connect("fd00::2") == ("", {"all": 12})
        assert (await client.connect("fd00::9")).reason == "refused peer.host"
        # An error answer leaves the connection as it is.
        assert len(await client.peers()) == 1

    with_authority(tmp_path, scenario)


def test_the_bell_rings_once_for_each_change(tmp_path: pathlib.Path) -> None:
    async def scenario(_: AuthorityClient, authority: SimAuthority) -> None:
        bell = Bell(authority.path)
        # Nothing is known yet.
        await bell.rings()
        for change in ([PEER.listed(NOW_S)], []):
            waiting = asyncio.create_task(bell.rings())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            authority.peers = change
            await asyncio.wait_for(waiting, 5)
        bell.forget()
        await bell.rings()
        waiting = asyncio.create_task(bell.rings())
        await asyncio.sleep(0.1)
        authority.stop()
        assert await refused(waiting) == "authority.unreachable"

    with_authority(tmp_path, scenario)


def test_who_heard_nothing_in_time_asks_anew(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a guest that stood still: that is no reason to believe that the authority is gone."""
    monkeypatch.setattr(module, "CHANGED_LIMIT_S", 0.2)

    async def scenario(_: AuthorityClient, authority: SimAuthority) -> None:
        bell = Bell(authority.path)
        await bell.rings()
        await asyncio.wait_for(bell.rings(), 5)
        # Of three, the one in the middle was never answered.
        assert authority.asked == ["changed"] * 2

    with_authority(tmp_path, scenario)


def test_former_releases_of_the_peers_host(tmp_path: pathlib.Path) -> None:
    async def scenario(client: AuthorityClient, authority: SimAuthority) -> None:
        good = accepted_with(PEER, GUEST, NOW_S, former=(b"first", b"second"))
        authority.accepted["fd00::2"] = good
        assert await client.accepted("fd00::2") == good
        answer = authority._result({"request": "accepted", "address": "fd00::2"})
        assert answer is not None
        first, second = answer["former"]
        for former in ([], [first], [second, first], [first, second, second], [first, encode_base64(b"third")], first):
            changed = {**answer, "former": former}
            authority._result = lambda _, changed=changed: changed  # type: ignore[method-assign]
            assert await refused(client.accepted("fd00::2")) == "authority.answer"

    with_authority(tmp_path, scenario)


def test_an_authority_that_goes_and_comes_back(tmp_path: pathlib.Path) -> None:
    async def scenario(client: AuthorityClient, authority: SimAuthority) -> None:
        await client.identity()
        authority.stop()
        assert await refused(client.identity()) == "authority.unreachable"
        pathlib.Path(authority.path).unlink(missing_ok=True)
        assert await refused(client.identity()) == "authority.unreachable"
        await authority.start()
        await client.identity()

    with_authority(tmp_path, scenario)


def test_requests_at_once_go_one_after_the_other(tmp_path: pathlib.Path) -> None:
    async def scenario(client: AuthorityClient, authority: SimAuthority) -> None:
        found = await asyncio.gather(*(client.identity() for _ in range(20)))
        assert {identity.guest for identity in found} == {"control"}
        assert authority.asked == ["identity"] * 20

    with_authority(tmp_path, scenario)


PEER_FAULTS: dict[str, dict[str, Any]] = {
    "another guest": {"guest": "node2"},
    "no certificate": {"certificate": ""},
    "a certificate that is none": {"certificate": encode_base64(b"x")},
    "no package": {"package": ""},
    "more": {"more": 1},
    "no time": {"expires_at": "soon"},
}


@pytest.mark.parametrize("fault", PEER_FAULTS)
def test_a_peer_that_cannot_be_read(tmp_path: pathlib.Path, fault: str) -> None:
    async def scenario(client: AuthorityClient, authority: SimAuthority) -> None:
        authority.peers = [{**PEER.listed(NOW_S), **PEER_FAULTS[fault]}]
        assert await refused(client.peers()) == "authority.answer"

    with_authority(tmp_path, scenario)


def frame(value: Any) -> bytes:
    """Return the frame of an answer."""
    return encode_frame(dump_canonical(value), limit_bytes=1 << 20)


ANSWERS = {
    "no JSON": (encode_frame(b"hello", limit_bytes=99), "authority.answer"),
    "another version": (frame({"version": 2, "id": "1", "ok": True, "result": {"peers": []}}), "authority.answer"),
    "another id": (frame({"version": 1, "id": "2", "ok": True, "result": {"peers": []}}), "authority.answer"),
    "neither": (frame({"version": 1, "id": "1", "ok": "yes", "result": {"peers": []}}), "authority.answer"),
    "no result": (frame({"version": 1, "id": "1", "ok": True}), "authority.answer"),
    "more": (frame({"version": 1, "id": "1", "ok": True, "result": {"peers": [], "more": 1}}), "authority.answer"),
    "a length of nothing": (bytes(4), "authority.answer"),
    "half a frame": (b"\0\0\0\x10{", "authority.unreachable"),
    "nothing": (b"", "authority.unreachable"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_that_are_none(tmp_path: pathlib.Path, answer: str) -> None:
    data, code = ANSWERS[answer]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(data)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "a.sock")
        assert await refused(AuthorityClient(str(tmp_path / "a.sock")).peers()) == code
        server.close()

    asyncio.run(run())


def test_an_authority_that_says_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT_S", 0.05)
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        hung_up.set()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "a.sock")
        assert await refused(AuthorityClient(str(tmp_path / "a.sock")).peers()) == "authority.unreachable"
        # An answer that comes later must not be taken for the next one's.
        async with asyncio.timeout(5):
            await hung_up.wait()
        server.close()

    asyncio.run(run())

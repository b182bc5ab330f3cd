# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's standing follows its authority: a new certificate brings a new endorsement of the same work key."""

from __future__ import annotations

import asyncio
import pathlib
import time

import pytest
from ansible.module_utils.vouch.check.provenance import verify_work_key
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary import standing as module
from ansible.module_utils.vouch.notary.authority import AuthorityClient, Bell
from ansible.module_utils.vouch.notary.signer import WorkSigner
from ansible.module_utils.vouch.notary.standing import StandingKeeper

from sim.portauthority import SimAuthority, SimGuest


def test_certificates_change_and_the_key_stays(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        guest = SimGuest("node1", "fd00::2", now_s=int(time.time()))
        authority = SimAuthority(guest, str(tmp_path / "a.sock"), time.time)
        await authority.start()
        signer = WorkSigner()
        keeper = StandingKeeper(AuthorityClient(authority.path), signer, lambda _: None)
        assert keeper.standing is None
        first = await keeper.refresh()
        guest.evidence = sha256(b"evidence")
        second = await keeper.refresh()
        assert second.endorsement == first.endorsement
        assert authority.asked.count("endorse") == 1
        assert second.run(5, 7).evidence == sha256(b"evidence")
        assert second.builder.package == guest.package
        guest.renew(int(time.time()))
        third = await keeper.refresh()
        assert third.run(5, 7).channel_certificate == sha256(guest.certificate)
        assert verify_work_key(third.endorsement, guest.owner).key == signer.public
        authority.stop()
        with pytest.raises(UnreachableError):
            await keeper.refresh()
        assert keeper.standing == third

    asyncio.run(scenario())


def test_a_clock_that_was_set_back(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        guest = SimGuest("node1", "fd00::2", now_s=int(time.time()))
        authority = SimAuthority(guest, str(tmp_path / "a.sock"), time.time)
        await authority.start()
        standing = await StandingKeeper(AuthorityClient(authority.path), WorkSigner(), lambda _: None).refresh()
        run = standing.run(100, 90)
        assert (run.started_s, run.finished_s) == (90, 90)
        authority.stop()

    asyncio.run(scenario())


def test_keeping_tells_each_trouble_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)

    async def scenario() -> None:
        guest = SimGuest("node1", "fd00::2", now_s=int(time.time()))
        authority = SimAuthority(guest, str(tmp_path / "a.sock"), time.time)
        said: list[str] = []
        keeper = StandingKeeper(AuthorityClient(authority.path), WorkSigner(), said.append)
        keeping = asyncio.create_task(keeper.keep(Bell(authority.path)))
        await asyncio.sleep(0.1)
        assert len(said) == 1
        assert "authority.unreachable" in said[0]
        await authority.start()
        async with asyncio.timeout(5):
            while keeper.standing is None:
                await asyncio.sleep(0.01)
        keeping.cancel()
        authority.stop()

    asyncio.run(scenario())


def test_a_new_certificate_is_endorsed_at_once(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        guest = SimGuest("node1", "fd00::2", now_s=int(time.time()))
        authority = SimAuthority(guest, str(tmp_path / "a.sock"), time.time)
        await authority.start()
        keeper = StandingKeeper(AuthorityClient(authority.path), WorkSigner(), lambda _: None)
        keeping = asyncio.create_task(keeper.keep(Bell(authority.path)))
        async with asyncio.timeout(5):
            while keeper.standing is None:
                await asyncio.sleep(0.01)
            asked = len(authority.asked)
            await asyncio.sleep(0.1)
            # Meanwhile nothing is asked.
            assert len(authority.asked) <= asked + 1
            guest.renew(int(time.time()))
            while keeper.standing.identity.certificate != guest.certificate:
                await asyncio.sleep(0.01)
        keeping.cancel()
        authority.stop()

    asyncio.run(scenario())

# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels of a host's guests: certified by card, stated, and over at once."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.check.channelcert import verify_channel_certificate
from ansible.module_utils.vouch.check.signature import verify_signature
from ansible.module_utils.vouch.daemon.channels import HostChannels, Notice
from ansible.module_utils.vouch.daemon.papers import HostPapers
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.guestaddress import derived_mac
from ansible.module_utils.vouch.model.gueststate import MAX_TOLD, NO_CHANNEL, GuestChannel, GuestRecord
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.revocation import RENEWED, STOP, VIOLATION, Revocation
from ansible.module_utils.vouch.parse.fields import decode_base64, encode_base64
from ansible.module_utils.vouch.port.libcrypto import Libcrypto

from channelparts import ADDRESS, HOST_ID, KEY, NOW_S, RECORD


class Host:
    def __init__(self, folder: pathlib.Path) -> None:
        self.records: list[GuestRecord] = [RECORD]
        self.notices: list[Notice] = []
        self.keys = 0
        self.channels = HostChannels(
            host_id=HOST_ID,
            records=lambda: tuple(self.records),
            papers=HostPapers(str(folder)),
            read_package=lambda digest: b"package " + digest,
            make_key=self.make_key,
            now_s=lambda: NOW_S,
            send=self.notices.append,
        )

    def make_key(self) -> Any:
        self.keys += 1
        return Libcrypto().generate_key()

    def stated(self) -> GuestChannel:
        (record,) = self.channels.stated()
        return record.channel


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_nothing_is_certified_before_somebody_asks(host: Host) -> None:
    assert (host.channels.authority, host.keys) == (b"", 0)
    assert host.stated() == GuestChannel(address=ADDRESS)


def test_what_is_certified_is_stated(host: Host) -> None:
    answer = host.channels.certify("web", KEY)
    made = decode_base64(answer["certificate"])
    assert made is not None
    channel = verify_channel_certificate(
        made, authority=host.channels.authority, host_id=HOST_ID, guest="web", now_s=NOW_S
    )
    assert (channel.spki, answer["expires_at"]) == (KEY, channel.not_after_s)
    assert host.stated() == GuestChannel(sha256(KEY), sha256(made), ADDRESS)
    assert host.keys == 1


def test_papers_are_those_of_the_guest_that_asks(host: Host) -> None:
    papers = host.channels.papers("web")
    assert (papers["guest"], papers["address"], papers["mac"]) == ("web", ADDRESS, derived_mac(HOST_ID, "web"))
    assert papers["package"] == encode_base64(b"package " + bytes(32))
    assert decode_base64(papers["channel_authority"]) == host.channels.authority
    assert (papers["credential"], papers["keys"]) == ("", [])


@pytest.mark.parametrize(("kind", "reason"), [("guest.violation", VIOLATION), ("guest.stop", STOP)])
def test_its_end_is_told_to_who_wants_to_know(host: Host, kind: str, reason: str) -> None:
    host.channels.certify("web", KEY)
    certificate = host.stated().certificate
    for address in ("fd00::2", "fd00::1", "fd00::2"):
        host.channels.tell("web", address)
    assert host.stated().told == ("fd00::1", "fd00::2")
    host.records = [RECORD._replace(state="violated", verdict="violated", violations=("guest.text.changed",))]
    host.channels.ended("web", kind)
    (notice,) = host.notices
    assert sorted(notice.addresses) == ["fd00::1", "fd00::2"]
    verify_signature(PublicKey.from_der(host.channels.authority), notice.statement, notice.signature)
    assert Revocation.from_bytes(notice.statement) == Revocation(HOST_ID, "web", certificate, reason, NOW_S)
    assert host.stated() == NO_CHANNEL
    host.channels.ended("web", kind)
    assert len(host.notices) == 1, "told once"


def test_another_certificate_ends_the_one_before(host: Host) -> None:
    host.channels.certify("web", KEY)
    before = host.stated().certificate
    host.channels.tell("web", "fd00::1")
    host.channels.certify("web", KEY)
    (notice,) = host.notices
    told = Revocation.from_bytes(notice.statement)
    assert (told.reason, told.certificate) == (RENEWED, before)
    assert host.stated().told == ("fd00::1",)


def test_a_guest_that_was_started_again_begins_with_nothing(host: Host) -> None:
    host.channels.certify("web", KEY)
    host.channels.tell("web", "fd00::1")
    host.records = [RECORD._replace(counter=6, domain_id=8)]
    assert host.stated() == GuestChannel(address=ADDRESS)


def test_the_oldest_are_no_longer_told(host: Host) -> None:
    for number in range(MAX_TOLD + 3):
        host.channels.tell("web", f"fd00::{number:x}")
    told = host.stated().told
    assert len(told) == MAX_TOLD
    assert "fd00::2" not in told
    assert "fd00::3" in told


@pytest.mark.parametrize(
    "record",
    [
        RECORD._replace(state="paused"),
        RECORD._replace(state="violated", verdict="violated", violations=("guest.gone",)),
        RECORD._replace(channel=NO_CHANNEL),
        RECORD._replace(id="other"),
    ],
)
def test_guests_that_may_have_no_channel(host: Host, record: GuestRecord) -> None:
    host.records = [record]
    for ask in (
        lambda: host.channels.certify("web", KEY),
        lambda: host.channels.papers("web"),
        lambda: host.channels.tell("web", "fd00::1"),
    ):
        with pytest.raises(VouchError) as caught:
            ask()
        assert caught.value.code == "channel.unavailable"
    assert host.channels.guest_of(7) is (record if record.state == "running" else None)


def test_a_key_of_another_kind(host: Host) -> None:
    with pytest.raises(VouchError) as caught:
        host.channels.certify("web", b"key")
    assert caught.value.code == "channel.key"
    assert host.stated().key == b""

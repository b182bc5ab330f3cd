# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-report`` from a real store: what is on the page was verified, and a store that was altered gives none."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import time
from collections.abc import Iterator

import pytest
import sqlalchemy
from ansible.module_utils.vouch.appraise.result import AttestationResult, unreachable_result
from ansible.module_utils.vouch.cli.report import DONE, FALSE, UNUSABLE, _fleet, _parser, main
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.fleet.recorder import Found, Recorder
from ansible.module_utils.vouch.make.sign import public_pem
from ansible.module_utils.vouch.report.standing import standing_of
from ansible.module_utils.vouch.store.claims import ClaimStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments

from sim.attester import RELEASE_KEY, SimAppraiser, SimHost
from standingparts import KEY


class Site:
    """A store with one appraised host in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/store.db"
        host = SimHost()
        result: AttestationResult = SimAppraiser(host=host).appraise(host.evidence()).result
        now_s = int(time.time())
        self.result = dataclasses.replace(result, issued_at_s=now_s, expires_at_s=now_s + 600)
        self.database = open_store(self.url, make=True)
        Recorder(self.database, KEY).record([Found(name="<b>h1</b>", result=self.result)], now_s=now_s)
        SqlEnrolments(self.database).add(host.enrolment)
        (folder / "key.pub").write_bytes(public_pem(KEY))
        (folder / "release.json").write_bytes(host.release.envelope)
        (folder / "release.pub").write_bytes(public_pem(RELEASE_KEY))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        always = [self.url, "--key", f"{self.folder}/key.pub", "--output", f"{self.folder}/page.html"]
        return main([*always, *arguments], out, err), out.getvalue(), err.getvalue()

    @property
    def page(self) -> pathlib.Path:
        return self.folder / "page.html"


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.database.close()


def test_a_page_of_the_store(site: Site) -> None:
    release = ("--release", f"{site.folder}/release.json", "--release-key", f"{site.folder}/release.pub")
    assert site.run(*release, "--title", "Night shift")[0] == DONE
    text = site.page.read_text()
    assert "Night shift" in text
    assert "affirming" in text
    assert "&lt;b&gt;h1&lt;/b&gt;" in text
    assert "<b>h1</b>" not in text
    assert site.result.release_name is not None
    assert site.result.release_name in text


def _word(site: Site) -> str:
    """Return the word that the page has for the host."""
    chosen = _parser().parse_args([site.url, "--key", f"{site.folder}/key.pub", "--output", "x"])
    (host,) = _fleet(chosen, int(time.time())).hosts
    assert site.run()[0] == DONE
    word = standing_of(host, int(time.time())).word
    assert word in site.page.read_text()
    return word


def _watched(site: Site, state: str, since_s: int | None = None) -> None:
    since_s = int(time.time()) if since_s is None else since_s
    claims = ClaimStore(site.database, "one", lease_s=60)
    claims.register([site.result.host_id], now_s=0)
    claims.take([site.result.host_id], limit=1, now_s=0)
    claims.note_all([(site.result.host_id, state, since_s, since_s)])


def _silent(site: Site) -> None:
    now_s = int(time.time())
    gone = unreachable_result(
        site.result.host_id,
        UnreachableError("no route", code="ssh.connect"),
        policy_digest=bytes(32),
        issued_at_s=now_s,
        ttl_s=60,
    )
    Recorder(site.database, KEY).record([Found(name="<b>h1</b>", result=gone)], now_s=now_s)


@pytest.mark.parametrize(
    ("state", "word"), [("fresh", "affirming"), ("rebooted", "rebooted"), ("failed", "affirming"), ("", "affirming")]
)
def test_how_the_watch_came_to_a_good_result(site: Site, state: str, word: str) -> None:
    _watched(site, state)
    assert _word(site) == word


@pytest.mark.parametrize(
    ("state", "until_s", "word"),
    [
        ("unreachable", 0, "unreachable"),
        ("updating", 0, "unreachable"),
        ("updating", 600, "updating"),
        ("failed", 600, "failed"),
        ("rebooted", 0, "unreachable"),
    ],
)
def test_how_a_host_came_to_be_silent(site: Site, state: str, until_s: int, word: str) -> None:
    enrolments = SqlEnrolments(site.database)
    known = enrolments.get(site.result.host_id)
    enrolments.update(known, known.expecting(b"\x09" * 32, until_s=int(time.time()) + until_s))
    _silent(site)
    _watched(site, state)
    assert _word(site) == word


def test_what_a_watch_that_ended_left_behind_says_nothing_about_what_came_since(site: Site) -> None:
    _watched(site, "rebooted", since_s=site.result.issued_at_s - 1)
    assert _word(site) == "affirming"
    enrolments = SqlEnrolments(site.database)
    known = enrolments.get(site.result.host_id)
    enrolments.update(known, dataclasses.replace(known, accepted_at_s=site.result.issued_at_s))
    _silent(site)
    _watched(site, "failed", since_s=site.result.issued_at_s - 1)
    assert _word(site) == "unreachable"


def test_only_some_hosts(site: Site) -> None:
    assert site.run("--host", "nobody")[0] == DONE
    assert "&lt;b&gt;h1" not in site.page.read_text()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE appraisals SET result = :x", "UPDATE standings SET standing = :x", "UPDATE seals SET envelope = :x"],
)
def test_an_altered_store_gives_no_page(site: Site, statement: str) -> None:
    with site.database.writing() as connection:
        connection.execute(sqlalchemy.text(statement), {"x": b"{}"})
    code, _, err = site.run()
    assert code == FALSE
    assert "store.tampered" in err
    assert not site.page.exists()


def test_what_cannot_be_used(site: Site) -> None:
    assert site.run("--release", f"{site.folder}/key.pub", "--release-key", f"{site.folder}/release.pub")[0] == FALSE
    code, _, err = site.run("--package", f"{site.folder}/none")
    assert code == UNUSABLE
    assert "files.missing" in err
    assert not site.page.exists()

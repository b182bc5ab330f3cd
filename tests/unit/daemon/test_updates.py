# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of a host's releases: what it says of each situation, what it allows, and what it refuses to read."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.daemon import updates
from ansible.module_utils.vouch.daemon.updates import Updates
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.install.slot import identity_bytes
from ansible.module_utils.vouch.model.hostorder import CONFIRM, STAGE, TRY
from ansible.module_utils.vouch.model.update import UpdateStatement
from ansible.module_utils.vouch.parse.fields import encode_base64

from hostparts import HOST
from sim.firmware import SimFirmware

OLD, NEW, OTHER, FOREIGN = (bytes([n]) * 32 for n in (1, 2, 3, 4))


def authenticode(release: bytes) -> bytes:
    return bytes([release[0] + 100]) * 32


def pcr4(release: bytes, attempts: int = 0) -> bytes:
    """Return PCR 4 after a release was started, as the firmware makes it."""
    machine = SimFirmware()
    machine.boot([authenticode(release)], failed_attempts=attempts)
    return machine.bank()[4]


def statement(before: bytes = OLD, after: bytes = NEW) -> UpdateStatement:
    return UpdateStatement(
        host_id=str(HOST),
        before=before,
        release_id=after,
        authenticode_sha256=authenticode(after),
        slot="b",
        xen_efi_sha256=bytes(32),
        root_img_sha256=bytes(32),
        root_bytes=8192,
        order=bytes(32),
        time_s=1,
    )


def proof(of: UpdateStatement) -> dict[str, Any]:
    return {"statement": encode_base64(of.to_bytes()), "attest": "AA==", "signature": "AA==", "pcrs": {}}


class Host:
    """A data partition, and the service that is started anew on it for each question."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        (folder / "identity.json").write_bytes(identity_bytes(HOST, OLD))
        self.boot(OLD)

    def book(self) -> Updates:
        identity = json.loads((self.folder / "identity.json").read_bytes())
        return Updates(
            str(self.folder),
            host_id=identity["host_id"],
            release_id=identity["release_id"],
            pcr4=lambda: self.pcr4,
        )

    def stage(self, after: bytes = NEW) -> None:
        of = statement(self.running, after)
        self.book().staged(of, proof(of))

    def try_(self) -> None:
        self.book().begin_trial(600)

    def boot(self, release: bytes, attempts: int = 0) -> None:
        self.running, self.pcr4 = release, pcr4(release, attempts)

    def confirm(self) -> None:
        book = self.book()
        book.end_trial()
        book.confirm()

    def update(self, after: bytes = NEW) -> None:
        self.stage(after)
        self.try_()
        self.boot(after)
        self.confirm()


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


SITUATIONS: dict[str, tuple[Callable[[Host], object], str, dict[str, bytes], dict[str, str]]] = {
    "installed": (lambda h: None, "current", {STAGE: NEW, CONFIRM: OLD}, {TRY: "update.not-staged"}),
    "staged": (
        lambda h: h.stage(),
        "staged",
        {STAGE: NEW, TRY: NEW},
        {CONFIRM: "update.not-running"},
    ),
    "staged, another one is to be": (lambda h: h.stage(), "staged", {STAGE: OTHER}, {}),
    "fell back": (
        lambda h: (h.stage(), h.try_()),
        "fallen-back",
        {STAGE: NEW, TRY: NEW},
        {CONFIRM: "update.not-running"},
    ),
    "on trial": (
        lambda h: (h.stage(), h.try_(), h.boot(NEW)),
        "trial",
        {TRY: NEW, CONFIRM: NEW},
        {},
    ),
    "confirmed": (lambda h: h.update(), "current", {STAGE: OTHER, CONFIRM: NEW}, {TRY: "update.not-staged"}),
    "the one before runs again": (
        lambda h: (h.update(), h.boot(OLD)),
        "other",
        {},
        {STAGE: "update.state", TRY: "update.state", CONFIRM: "update.state"},
    ),
    "cut between exchange and book": (
        lambda h: (h.stage(), h.try_(), h.boot(NEW), h.book().end_trial()),
        "trial",
        {CONFIRM: NEW},
        {},
    ),
    "updated twice": (lambda h: (h.update(), h.update(OTHER)), "current", {STAGE: NEW}, {}),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_said_and_allowed(host: Host, situation: str) -> None:
    make, state, allowed, refused = SITUATIONS[situation]
    make(host)
    book = host.book()
    assert book.status()["state"] == book.state == state
    assert book.running == host.running.hex()
    for action, release in allowed.items():
        book.begin(action, release)
    for action, code in refused.items():
        with pytest.raises(VouchError) as caught:
            book.begin(action, NEW)
        assert caught.value.code == code


def test_on_trial_nothing_else_is_staged(host: Host) -> None:
    SITUATIONS["on trial"][0](host)
    with pytest.raises(VouchError) as caught:
        host.book().begin(STAGE, OTHER)
    assert caught.value.code == "update.unconfirmed"


def test_what_is_done_already_is_done(host: Host) -> None:
    assert host.book().begin(STAGE, OLD).done
    assert host.book().begin(CONFIRM, OLD).done
    assert not host.book().begin(STAGE, NEW).done
    host.stage()
    assert not host.book().begin(TRY, NEW).done
    host.boot(NEW)
    assert host.book().begin(TRY, NEW).done
    assert not host.book().begin(CONFIRM, NEW).done


def test_the_chain_keeps_what_was_confirmed_and_drops_what_was_not(host: Host) -> None:
    host.update()
    host.stage(OTHER)
    host.stage(FOREIGN)
    steps = [UpdateStatement.from_bytes(s.to_bytes()) for s in host.book()._statements]
    assert [(step.before, step.release_id) for step in steps] == [(OLD, NEW), (NEW, FOREIGN)]
    assert len(host.book().proofs) == 2
    assert host.book().waiting == statement(NEW, FOREIGN)


def test_a_trial_names_the_release_before_and_its_time(host: Host) -> None:
    host.stage()
    host.try_()
    assert (host.folder / "trial").read_text() == f"{pcr4(OLD).hex()} 600\n"
    undo = host.book().end_trial()
    assert not (host.folder / "trial").exists()
    undo()
    assert (host.folder / "trial").read_text() == f"{pcr4(OLD).hex()} 600\n"


def test_a_confirmed_host_is_named_as_the_installer_names_it(host: Host) -> None:
    host.update()
    assert (host.folder / "identity.json").read_bytes() == identity_bytes(HOST, NEW)
    assert (host.folder / "identity.json").stat().st_mode & 0o777 == 0o644


def test_a_history_has_an_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "MAX_UPDATES", 1)
    host.update()
    with pytest.raises(VouchError) as caught:
        host.book().begin(STAGE, OTHER)
    assert caught.value.code == "update.many"


BOOKS: dict[str, bytes] = {
    "no JSON": b"{",
    "another version": b'{"updates":[],"version":2}',
    "no list": b'{"updates":{},"version":1}',
    "no proof": b'{"updates":[1],"version":1}',
    "a proof without a statement": b'{"updates":[{"attest":"","pcrs":{},"signature":"","statement":"x"}],"version":1}',
    "a member missing": b'{"updates":[{"statement":"e30="}],"version":1}',
    "no statement inside": b'{"updates":[{"attest":"","pcrs":{},"signature":"","statement":"e30="}],"version":1}',
}


@pytest.mark.parametrize("book", BOOKS)
def test_a_damaged_book_is_not_half_a_history(host: Host, book: str) -> None:
    (host.folder / "updates.json").write_bytes(BOOKS[book])
    with pytest.raises(UsageError) as caught:
        host.book()
    assert caught.value.code == "verifier.updates"


def test_a_folder_that_cannot_be_written(host: Host) -> None:
    (host.folder / "updates.json.new").mkdir()
    with pytest.raises(VouchError) as caught:
        host.stage()
    assert caught.value.code == "update.storage"


@pytest.mark.parametrize("attempts", [0, 1, 16])
def test_failed_boot_attempts_before_it_do_not_hide_what_runs(host: Host, attempts: int) -> None:
    host.stage()
    host.boot(NEW, attempts)
    assert host.book().state == "trial"


def test_a_host_that_was_never_updated_does_not_ask_the_tpm(host: Host) -> None:
    def absent() -> bytes:
        raise VouchError("no TPM", code="tpm.absent")

    book = Updates(str(host.folder), host_id=str(HOST), release_id=OLD.hex(), pcr4=absent)
    assert (book.running, book.state) == (OLD.hex(), "current")

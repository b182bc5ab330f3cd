# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal is bounded, finds a statement by its object, and says what it no longer has."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.check.provenance import verify_job
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary import journal as module
from ansible.module_utils.vouch.notary.journal import Entry, Journal

from provenanceparts import NOW_S, Worker
from sim.portauthority import accepted_with

WORKER = Worker("node1", "fd00::2")


def entry(number: int, **changes: Any) -> Entry:
    """Return a statement about an object of its own."""
    signed = WORKER.signer.seal(WORKER.job(**{"object": sha256(b"%d" % number), **changes}))
    return Entry(
        verified=verify_job(signed, WORKER.key()),
        statement=signed,
        endorsement=WORKER.endorsement,
        certificate=WORKER.guest.certificate,
        address=WORKER.guest.address,
    )


def known(journal: Journal, *numbers: int) -> list[bytes]:
    """Return the statements about objects."""
    return [found.verified.statement for found in journal.of_objects(sha256(b"%d" % number) for number in numbers)]


def unknown(journal: Journal, number: int) -> None:
    """Check that nothing is known of an object."""
    with pytest.raises(UsageError) as caught:
        known(journal, number)
    assert caught.value.code == "journal.unknown"


def test_statements_are_found_by_their_object() -> None:
    journal = Journal()
    entries = [entry(number) for number in range(3)]
    for item in [*entries, entries[0]]:
        journal.add(item)
    assert known(journal, 2, 0) == [entries[2].verified.statement, entries[0].verified.statement]
    assert len(journal) == 3
    unknown(journal, 3)


def test_the_latest_statement_about_an_object_counts() -> None:
    journal = Journal(max_statements=2)
    old, new = entry(0), entry(0, nonce=sha256(b"later"))
    journal.add(old)
    journal.add(new)
    assert known(journal, 0) == [new.verified.statement]
    # The old one goes, and takes nothing of the new one with it.
    journal.add(entry(1))
    assert known(journal, 0) == [new.verified.statement]
    assert journal.dropped == 1


def test_the_oldest_go_first() -> None:
    journal = Journal(max_statements=2)
    for number in range(4):
        journal.add(entry(number))
    assert (len(journal), journal.dropped) == (2, 2)
    unknown(journal, 1)
    assert len(known(journal, 2, 3)) == 2


def test_bytes_are_bounded() -> None:
    size = len(entry(0).statement)
    journal = Journal(max_bytes=size * 2 + size // 2)
    for number in range(5):
        journal.add(entry(number))
    assert len(journal) == 2


def test_jobs_that_failed_are_kept_and_are_no_object() -> None:
    journal = Journal()
    journal.add(entry(0, status=256, object=b""))
    assert len(journal) == 1
    with pytest.raises(UsageError):
        list(journal.of_objects([b""]))


def test_the_first_acceptance_of_a_certificate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    guests = [Worker(f"node{number}", f"fd00::{number}").guest for number in range(2, 5)]
    first, later = (accepted_with(guests[0], WORKER.guest, NOW_S + shift) for shift in (0, 30))
    journal.keep_accepted(first)
    journal.keep_accepted(later)
    assert journal.accepted(sha256(guests[0].certificate)) == first
    assert journal.accepted(sha256(b"another")) is None
    monkeypatch.setattr(module, "MAX_ACCEPTED", 2)
    for guest in guests[1:]:
        journal.keep_accepted(accepted_with(guest, WORKER.guest, NOW_S))
    assert journal.accepted(sha256(guests[0].certificate)) is None
    monkeypatch.setattr(module, "MAX_ACCEPTED_BYTES", 1)
    journal.keep_accepted(first)
    assert journal.accepted(sha256(guests[2].certificate)) is None
    assert journal.accepted(sha256(guests[0].certificate)) == first

# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolled hosts: private files, no duplicates, no lost updates."""

from __future__ import annotations

import fcntl
import os
import pathlib
import threading
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.ima import ImaResume
from ansible.module_utils.vouch.model.statement import TpmCounters
from ansible.module_utils.vouch.store.enrolments import LOCK_NAME, EnrolmentStore

from sim.attester import ssh_key


def enrolment(seed: int) -> Enrolment:
    """Return an enrolment; all of it follows from ``seed``."""
    return Enrolment(
        host_id=f"00000000-0000-4000-8000-{seed:012d}",
        ek_sha256=bytes([seed]) * 32,
        ak_public=bytes([seed]) * 90,
        ssh_host_key=ssh_key(seed),
        release_id=b"\x33" * 32,
        baseline={index: bytes([index]) * 32 for index in (0, 2, 3, 6, 7)},
        counters=TpmCounters(clock_ms=1, reset_count=2, restart_count=3),
        ima=None,
        enrolled_at_s=4,
    )


@pytest.fixture
def store(tmp_path: pathlib.Path) -> EnrolmentStore:
    """Return an empty store."""
    return EnrolmentStore(tmp_path / "enrolments")


def test_an_absent_folder_is_an_empty_store(store: EnrolmentStore) -> None:
    assert store.all() == ()
    assert store.find(enrolment(1).host_id) is None
    with pytest.raises(UsageError) as caught:
        store.get(enrolment(1).host_id)
    assert caught.value.code == "enrolment.missing"


def test_what_was_added_is_found(store: EnrolmentStore, tmp_path: pathlib.Path) -> None:
    assert store.add(enrolment(1))
    assert store.add(enrolment(2))
    assert not store.add(enrolment(1))
    assert store.all() == (enrolment(1), enrolment(2))
    assert store.get(enrolment(1).host_id) == enrolment(1)
    assert store.find_by_ek(enrolment(2).ek_sha256) == enrolment(2)
    files = sorted((tmp_path / "enrolments").glob("*.json"))
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    assert (tmp_path / "enrolments").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ek_sha256", "enrolment.ek.duplicate"),
        ("ak_public", "enrolment.ak.duplicate"),
        ("ssh_host_key", "enrolment.ssh-host-key.duplicate"),
    ],
)
def test_two_hosts_cannot_share(store: EnrolmentStore, name: str, code: str) -> None:
    store.add(enrolment(1))
    with pytest.raises(UsageError) as caught:
        store.add(replace(enrolment(2), **{name: getattr(enrolment(1), name)}))
    assert caught.value.code == code
    assert len(store.all()) == 1


def test_another_tpm_under_a_known_id(store: EnrolmentStore) -> None:
    store.add(enrolment(1))
    with pytest.raises(UsageError) as caught:
        store.add(replace(enrolment(2), host_id=enrolment(1).host_id))
    assert caught.value.code == "enrolment.ek.changed"


def test_a_host_that_was_installed_again_replaces_itself(store: EnrolmentStore) -> None:
    store.add(enrolment(1))
    again = replace(enrolment(1), ak_public=b"new key", ssh_host_key=ssh_key(9))
    assert store.add(again)
    assert store.all() == (again,)


def test_updates_do_not_overwrite_each_other(store: EnrolmentStore) -> None:
    old = enrolment(1)
    store.add(old)
    resume = ImaResume(offset_bytes=9, entries=1, pcr10=b"\x01" * 32, reset_count=2, restart_count=3)
    pinned = {1: b"\x0a" * 32, 5: b"\x0b" * 32, 0: b"\xff" * 32}
    new = old.advanced(counters=replace(old.counters, clock_ms=5), ima=resume, pinned=pinned, accepted_at_s=7)
    assert new.baseline[0] == old.baseline[0]
    assert new.unpinned == ()
    store.update(old, new)
    assert store.get(old.host_id) == new
    with pytest.raises(UsageError) as caught:
        store.update(old, replace(new, accepted_at_s=8))
    assert caught.value.code == "enrolment.changed"
    with pytest.raises(UsageError) as caught:
        store.update(new, replace(new, ak_public=b"other"))
    assert caught.value.code == "enrolment.identity"


def test_removed_hosts_are_gone(store: EnrolmentStore) -> None:
    store.add(enrolment(1))
    assert store.remove(enrolment(1).host_id)
    assert not store.remove(enrolment(1).host_id)
    assert store.all() == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 1000, b"x" * (65 << 10)])
def test_a_damaged_file_is_named(store: EnrolmentStore, tmp_path: pathlib.Path, content: bytes) -> None:
    store.add(enrolment(1))
    (path,) = (tmp_path / "enrolments").glob("*.json")
    path.write_bytes(content)
    with pytest.raises(UnreachableError) as caught:
        store.all()
    assert caught.value.code in {"enrolment.malformed", "files.too-large"}
    assert path.name in str(caught.value)


def test_a_file_under_another_hosts_name(store: EnrolmentStore, tmp_path: pathlib.Path) -> None:
    store.add(enrolment(1))
    (path,) = (tmp_path / "enrolments").glob("*.json")
    path.rename(path.with_name(f"{enrolment(2).host_id}.json"))
    with pytest.raises(UnreachableError) as caught:
        store.get(enrolment(2).host_id)
    assert caught.value.code == "enrolment.malformed"


@pytest.mark.parametrize("host_id", ["", "../../etc/passwd", "x", "00000000-0000-4000-8000-00000000000G"])
def test_a_host_id_is_no_path(store: EnrolmentStore, host_id: str) -> None:
    with pytest.raises(UsageError) as caught:
        store.find(host_id)
    assert caught.value.code == "enrolment.host-id"


def test_a_writer_that_does_not_end_is_reported(tmp_path: pathlib.Path) -> None:
    elapsed = [0.0]

    def sleep(seconds: float) -> None:
        elapsed[0] += seconds * 100

    store = EnrolmentStore(tmp_path, monotonic_s=lambda: elapsed[0], sleep=sleep)
    fd = os.open(tmp_path / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(UnreachableError) as caught:
            store.add(enrolment(1))
    finally:
        os.close(fd)
    assert caught.value.code == "enrolment.locked"
    assert store.add(enrolment(1))


def test_of_many_plays_that_enrol_one_tpm_one_wins(tmp_path: pathlib.Path) -> None:
    outcomes: list[str] = []

    def play(seed: int) -> None:
        try:
            EnrolmentStore(tmp_path).add(replace(enrolment(seed), ek_sha256=bytes(32)))
            outcomes.append("enrolled")
        except UsageError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["enrolled"] + ["enrolment.ek.duplicate"] * 7)
    assert len(EnrolmentStore(tmp_path).all()) == 1


def test_a_baseline_without_a_needed_register() -> None:
    with pytest.raises(UsageError) as caught:
        replace(enrolment(1), baseline={0: bytes(32)})
    assert caught.value.code == "enrolment.baseline"

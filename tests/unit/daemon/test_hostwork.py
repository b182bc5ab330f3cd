# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an update on a disk in a folder: complete, idempotent, and harmless when power fails at any write."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.check.signature import verify_signature
from ansible.module_utils.vouch.daemon import hostwork
from ansible.module_utils.vouch.daemon.machine import Machine
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.hostorder import CONFIRM, STAGE, TRY, HostOrder
from ansible.module_utils.vouch.model.verifierconfig import VerifierConfig
from ansible.module_utils.vouch.port.blobs import BlobStore

from guests_harness import Store
from hostrelease import RELEASE_KEY, NewRelease
from sim.slots import PowerCut, SimSlots

HOST = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
OLD = b"the xen.efi that runs"


class Host:
    """A host that runs one release, and an image store."""

    def __init__(self, folder: pathlib.Path, store: Store, **config: Any) -> None:
        self.folder, self.store = folder, store
        self.slots = SimSlots(folder / "disk")
        self.machine = Machine(
            domains=None,  # type: ignore[arg-type]
            firewall=None,  # type: ignore[arg-type]
            blobs=BlobStore(str(folder / "blobs"), marks=str(folder / "marks"), sleep=lambda _: None),
            measurer=None,  # type: ignore[arg-type]
            attach=None,  # type: ignore[arg-type]
            verify=verify_signature,
            slots=self.slots,
        )
        key = public_key(RELEASE_KEY)
        self.config = VerifierConfig((key,), (key,), release_keys=(key,))._replace(**config)

    def take(self, action: str, release: NewRelease, written: dict[str, Any] | None = None) -> dict[str, Any]:
        store = self.store.url if action == STAGE else None
        order = HostOrder(action, HOST, bytes(32), release.id, store=store)
        return hostwork.WORK[action](self.machine, self.config, order, written)

    def refused(self, action: str, release: NewRelease, written: dict[str, Any] | None = None) -> str:
        with pytest.raises(VouchError) as caught:
            self.take(action, release, written)
        return caught.value.code

    def publish(self, release: NewRelease) -> NewRelease:
        for blob in release.blobs:
            self.store.add(blob)
        return release

    def file(self, name: str) -> bytes:
        return (self.slots.folder / name).read_bytes()


@pytest.fixture(autouse=True)
def alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a step dies with its keeper; this one is the test's."""
    monkeypatch.setattr(hostwork, "die_with_parent", lambda: None)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


@pytest.fixture
def host(tmp_path: pathlib.Path, store: Store) -> Host:
    return Host(tmp_path, store)


def test_stage_try_confirm(host: Host) -> None:
    new = host.publish(NewRelease())
    written = host.take(STAGE, new)
    assert written.pop("changed") is True
    assert written == {
        "slot": "b",
        "authenticode_sha256": new.release.authenticode_sha256.hex(),
        "xen.efi": new.release.subjects["xen.efi"].hex(),
        "root.img": new.release.subjects["root.img"].hex(),
        "root_bytes": len(new.root),
    }
    assert host.file("root-b").startswith(new.root)
    assert (host.file("current.efi"), host.file("next.efi")) == (OLD, new.xen_efi)
    assert host.slots.power_on() == OLD
    host.take(TRY, new, written)
    assert host.slots.power_on() == new.xen_efi
    assert host.slots.power_on() == OLD
    host.take(CONFIRM, new, written)
    assert host.slots.power_on() == new.xen_efi
    assert host.file("next.efi") == OLD


def test_the_second_time_nothing_is_written_nor_fetched(host: Host) -> None:
    new = host.publish(NewRelease())
    written = host.take(STAGE, new)
    host.slots.cut_after = len(host.slots.writes)
    host.store.asked.clear()
    assert host.take(STAGE, new) == {**written, "changed": False}
    assert [path.rpartition("/")[2] for path, _ in host.store.asked] == [new.id.hex()]


def test_files_that_were_written_leave_the_data_partition(host: Host) -> None:
    new = host.publish(NewRelease())
    host.take(STAGE, new)
    assert [path.name for path in (host.folder / "blobs").iterdir()] == [new.id.hex()]


def test_a_download_that_was_cut_off_is_continued(host: Host) -> None:
    new = host.publish(NewRelease())
    cut: list[int] = []

    def fault(handler: Any, data: bytes) -> bool:
        if data != new.root or cut:
            return False
        cut.append(1)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:5000])
        handler.close_connection = True
        return True

    host.store.fault = fault
    host.take(STAGE, new)
    assert "bytes=5000-" in {wanted for _, wanted in host.store.asked}
    assert host.file("root-b").startswith(new.root)


def test_power_fails_before_any_write(tmp_path: pathlib.Path, store: Store) -> None:
    """Whatever was written until then, the old release starts, until the moment at which the new one is confirmed."""
    (tmp_path / "whole").mkdir()
    whole = Host(tmp_path / "whole", store)
    new = whole.publish(NewRelease())

    def update(host: Host) -> None:
        written = host.take(STAGE, new)
        host.take(TRY, new, written)
        host.slots.power_on()
        host.take(CONFIRM, new, written)

    update(whole)
    assert whole.slots.writes == ["root"] * 2 + ["next.efi"] * 3 + ["BootNext", "exchange"]
    for cut in range(len(whole.slots.writes)):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        host = Host(folder, store)
        host.slots.cut_after = cut
        with pytest.raises(PowerCut):
            update(host)
        host.slots.cut_after = None
        assert host.slots.power_on() == OLD
        assert host.file("current.efi") == OLD
        update(host)
        assert host.slots.power_on() == new.xen_efi


REFUSALS: dict[str, tuple[Callable[[Host], NewRelease], str]] = {
    "nobody's signature": (lambda h: h.publish(NewRelease(key=generate_private_key())), "envelope.signature.invalid"),
    "a debug release": (lambda h: h.publish(NewRelease(variant="debug")), "release.debug"),
    "a root too large": (lambda h: h.publish(NewRelease(blocks=512)), "update.size"),
    "nothing in the store": (lambda h: NewRelease(), "store.missing"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_is_not_staged(host: Host, fault: str) -> None:
    make, code = REFUSALS[fault]
    assert host.refused(STAGE, make(host)) == code
    assert host.slots.writes == []


def test_a_signed_package_is_no_release(host: Host) -> None:
    host.store.blobs[NewRelease().id.hex()] = b"{}"
    assert host.refused(STAGE, NewRelease()) == "store.digest"


def test_a_debug_release_where_it_is_allowed(tmp_path: pathlib.Path, store: Store) -> None:
    host = Host(tmp_path, store, allow_debug=True)
    assert host.take(STAGE, host.publish(NewRelease(variant="debug")))["changed"]


def test_a_disk_that_keeps_something_else(host: Host) -> None:
    host.slots.faulty = True
    assert host.refused(STAGE, host.publish(NewRelease())) == "update.readback"
    assert not (host.slots.folder / "next.efi").exists()


def test_one_file_under_both_names_is_never_written(host: Host) -> None:
    shutil.copy(host.slots.folder / "current.efi", host.slots.folder / "next.efi")
    assert host.refused(STAGE, host.publish(NewRelease())) == "update.esp"
    assert host.slots.writes == []


CHANGES: dict[str, Callable[[Host], object]] = {
    "the root image": lambda h: (h.slots.folder / "root-b").write_bytes(bytes(1 << 20)),
    "xen.efi": lambda h: (h.slots.folder / "next.efi").write_bytes(b"another"),
    "no xen.efi": lambda h: (h.slots.folder / "next.efi").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_since_is_not_tried(host: Host, change: str) -> None:
    new = host.publish(NewRelease())
    written = host.take(STAGE, new)
    CHANGES[change](host)
    assert host.refused(TRY, new, written) == "update.changed"
    assert host.slots.power_on() == OLD


def test_nothing_stated_nothing_tried_nor_confirmed(host: Host) -> None:
    assert host.refused(TRY, NewRelease()) == "update.changed"
    assert host.refused(CONFIRM, NewRelease()) == "update.changed"
    assert host.slots.writes == []


def test_confirm_of_a_file_that_is_another(host: Host) -> None:
    new = host.publish(NewRelease())
    written = host.take(STAGE, new)
    (host.slots.folder / "next.efi").write_bytes(b"another")
    assert host.refused(CONFIRM, new, written) == "update.changed"
    assert host.file("current.efi") == OLD


def test_confirm_twice(host: Host) -> None:
    new = host.publish(NewRelease())
    written = host.take(STAGE, new)
    for _ in range(2):
        host.take(CONFIRM, new, written)
    assert (host.file("current.efi"), host.file("next.efi")) == (new.xen_efi, OLD)


def test_the_restart_is_an_orderly_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostwork.time, "sleep", lambda _: None)
    hostwork.restart(host.machine)
    assert host.slots.writes == ["restart"]

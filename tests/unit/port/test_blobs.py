# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from stores that are slow, broken, hostile, or gone; what is on the partition may have been changed."""

from __future__ import annotations

import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.port import blobs as blobs_module
from ansible.module_utils.vouch.port import httpget
from ansible.module_utils.vouch.port.blobs import BlobStore

from guests_harness import Store

DATA = os.urandom(300_000)
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    store.add(DATA)
    yield store
    store.close()


@pytest.fixture
def blobs(tmp_path: pathlib.Path) -> BlobStore:
    blobs = BlobStore(str(tmp_path / "blobs"), marks=str(tmp_path / "marks"), sleep=lambda _: None)
    os.mkdir(blobs.folder)
    return blobs


def code_of(blobs: BlobStore, store: Store, size: int = len(DATA), **options: Any) -> str:
    with pytest.raises(UnreachableError) as caught:
        blobs.fetch(store.url, DIGEST, size, **options)
    return caught.value.code


def test_a_blob_is_fetched_once(blobs: BlobStore, store: Store) -> None:
    assert blobs.fetch(store.url, DIGEST, len(DATA)) == len(DATA)
    assert blobs.fetch(store.url, DIGEST, len(DATA), compare=True) == 0
    assert len(store.asked) == 1
    assert blobs.read(DIGEST, limit_bytes=len(DATA)) == DATA
    assert os.listdir(blobs.folder) == [DIGEST.hex()]


def cut_after(count: int) -> Any:
    def fault(handler: Any, data: bytes) -> bool:
        begin = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - begin))
        handler.end_headers()
        handler.wfile.write(data[begin : begin + count])
        handler.close_connection = True
        return True

    return fault


def test_a_broken_download_is_continued(blobs: BlobStore, store: Store) -> None:
    store.fault = cut_after(100_000)
    assert blobs.fetch(store.url, DIGEST, len(DATA)) == len(DATA)
    assert [ranged for _, ranged in store.asked] == ["", "bytes=100000-", "bytes=200000-"]


def test_a_download_is_continued_by_the_next_order(blobs: BlobStore, store: Store) -> None:
    store.fault = cut_after(10_000)
    assert code_of(blobs, store) == "store.unreachable"
    assert os.listdir(blobs.folder) == [f"{DIGEST.hex()}.part"]
    store.fault = None
    assert blobs.fetch(store.url, DIGEST, len(DATA)) == len(DATA) - 40_000
    assert os.listdir(blobs.folder) == [DIGEST.hex()]


def answer(status: int, headers: dict[str, str], body: bytes = b"") -> Any:
    def fault(handler: Any, data: bytes) -> bool:
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
        return True

    return fault


FAULTS: dict[str, tuple[str, Any]] = {
    "no length": ("store.unreachable", answer(200, {}, DATA)),
    "chunked": (
        "store.unreachable",
        answer(200, {"Transfer-Encoding": "chunked", "Content-Length": "5"}, b"0\r\n\r\n"),
    ),
    "negative length": ("store.unreachable", answer(200, {"Content-Length": "-1"})),
    "huge length": ("store.size", answer(200, {"Content-Length": str(2**40)}, DATA)),
    "shorter": ("store.size", answer(200, {"Content-Length": "5"}, DATA[:5])),
    "other content": ("store.digest", answer(200, {"Content-Length": str(len(DATA))}, bytes(len(DATA)))),
    "redirect": ("store.unreachable", answer(302, {"Location": "http://192.0.2.1/", "Content-Length": "0"})),
    "gone": ("store.missing", answer(410, {"Content-Length": "0"})),
    "another range": (
        "store.unreachable",
        answer(206, {"Content-Range": "bytes 7-9/10", "Content-Length": "3"}, b"abc"),
    ),
    "endless header": ("store.unreachable", answer(200, {"X": "x" * 60_000, "Content-Length": "5"})),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_store_that_lies_is_refused_and_nothing_stays(blobs: BlobStore, store: Store, fault: str) -> None:
    code, store.fault = FAULTS[fault]
    assert code_of(blobs, store) == code
    assert os.listdir(blobs.folder) == []


def test_a_store_that_is_too_slow_is_given_up(blobs: BlobStore, store: Store) -> None:
    times = iter(range(0, 10**9, 60))
    slow = BlobStore(blobs.folder, marks=blobs.folder + "-marks", monotonic_s=lambda: next(times), sleep=lambda _: None)

    def fault(handler: Any, data: bytes) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for at in range(0, 20_000, 1000):
            handler.wfile.write(data[at : at + 1000])
            handler.wfile.flush()
            threading.Event().wait(0.01)
        return True

    store.fault = fault
    assert code_of(slow, store) in ("store.slow", "store.unreachable")


def test_a_store_that_is_silent_is_given_up(blobs: BlobStore, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpget, "SILENCE_LIMIT_S", 0.1)
    store.fault = lambda handler, data: bool(threading.Event().wait(1)) or True
    assert code_of(blobs, store) == "store.unreachable"


def test_no_store_at_all(blobs: BlobStore, store: Store) -> None:
    store.close()
    assert code_of(blobs, store) == "store.unreachable"
    with pytest.raises(UsageError):
        blobs.fetch("ftp://127.0.0.1/", DIGEST, 5)


def test_a_file_of_unknown_length_is_bounded(blobs: BlobStore, store: Store) -> None:
    assert code_of(blobs, store, -1, limit_bytes=1000) == "store.size"
    assert blobs.fetch(store.url, DIGEST, -1, limit_bytes=len(DATA)) == len(DATA)


def test_a_file_that_was_changed_is_found(blobs: BlobStore, store: Store) -> None:
    blobs.fetch(store.url, DIGEST, len(DATA))
    path = pathlib.Path(blobs.path(DIGEST))
    path.write_bytes(bytes(len(DATA)))
    for look in (
        lambda: blobs.read(DIGEST, limit_bytes=1 << 20),
        lambda: blobs.sealed(DIGEST, "x", limit_bytes=1 << 20),
    ):
        with pytest.raises(UnreachableError) as caught:
            look()
        assert caught.value.code == "store.digest"
    assert blobs.fetch(store.url, DIGEST, len(DATA), compare=True) == len(DATA)
    assert path.read_bytes() == DATA


def test_a_sealed_copy_cannot_be_changed_any_more(blobs: BlobStore, store: Store) -> None:
    blobs.fetch(store.url, DIGEST, len(DATA))
    fd = blobs.sealed(DIGEST, "kernel", limit_bytes=len(DATA))
    try:
        pathlib.Path(blobs.path(DIGEST)).write_bytes(b"x")
        with open(f"/proc/self/fd/{fd}", "rb") as stream:
            assert stream.read() == DATA
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 1)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnreachableError):
        blobs.sealed(bytes(32), "kernel", limit_bytes=5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_compared_once_is_handed_out_again_whatever_became_of_the_disk(blobs: BlobStore, store: Store) -> None:
    blobs.fetch(store.url, DIGEST, len(DATA))
    os.close(blobs.sealed(DIGEST, "kernel", limit_bytes=len(DATA)))
    pathlib.Path(blobs.path(DIGEST)).write_bytes(b"x")
    fd = blobs.sealed(DIGEST, "kernel", limit_bytes=len(DATA))
    try:
        with open(f"/proc/self/fd/{fd}", "rb") as stream:
            assert stream.read() == DATA
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)


def test_a_large_blob_is_hashed_once_and_a_small_one_each_time(blobs: BlobStore, store: Store) -> None:
    for data, kept in ((os.urandom(blobs_module.KEPT_BYTES), True), (b"small", False)):
        digest = hashlib.sha256(data).digest()
        store.add(data)
        blobs.fetch(store.url, digest, len(data))
        assert blobs.read(digest, limit_bytes=len(data)) == data
        pathlib.Path(blobs.path(digest)).write_bytes(b"x")
        if kept:
            assert blobs.read(digest, limit_bytes=len(data)) == data
        else:
            with pytest.raises(UnreachableError):
                blobs.read(digest, limit_bytes=len(data))


def test_what_was_not_compared_is_not_kept(blobs: BlobStore, store: Store) -> None:
    blobs.fetch(store.url, DIGEST, len(DATA))
    pathlib.Path(blobs.path(DIGEST)).write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(UnreachableError):
            blobs.sealed(DIGEST, "kernel", limit_bytes=len(DATA))
    assert blobs.kept.get(DIGEST) is None


def test_room_is_made_by_what_nobody_needs_the_oldest_first(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [hashlib.sha256(b"%d" % at).digest() for at in range(4)]
    for at, digest in enumerate(digests):
        pathlib.Path(blobs.path(digest)).write_bytes(bytes(100))
        os.utime(blobs.path(digest), (at, at))
    (pathlib.Path(blobs.folder) / "other").write_bytes(b"")
    blobs.pin("g1", digests[:1])
    free = blobs_module.RESERVE_BYTES

    def free_bytes(_: BlobStore) -> int:
        return free + 100 * (4 - sum(os.path.exists(blobs.path(digest)) for digest in digests))

    monkeypatch.setattr(BlobStore, "_free_bytes", free_bytes)
    blobs.make_room(200)
    assert [os.path.exists(blobs.path(digest)) for digest in digests] == [True, False, False, True]
    with pytest.raises(UnreachableError) as caught:
        blobs.make_room(10_000)
    assert caught.value.code == "store.space"
    assert sorted(os.listdir(blobs.folder)) == sorted([digests[0].hex(), "other"])
    blobs.unpin("g1")
    blobs.make_room(400)
    assert os.listdir(blobs.folder) == ["other"]


def test_two_launches_that_want_one_blob_fetch_it_once(blobs: BlobStore, store: Store) -> None:
    store.fault = lambda handler, data: bool(threading.Event().wait(0.2))
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(blobs.fetch(store.url, DIGEST, len(DATA)))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 0, len(DATA)]
    assert len(store.asked) == 1

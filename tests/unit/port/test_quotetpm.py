# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM commands against a real software TPM, judged by tpm2-tools and by our own parser."""

from __future__ import annotations

import hashlib
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.port.quotetpm import QuoteTpm

from verifier_harness import PCRS, EnrolledTpm

pytestmark = pytest.mark.swtpm


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrolledTpm]:
    machine = EnrolledTpm(tmp_path_factory.mktemp("quotetpm"))
    yield machine
    machine.stop()


@pytest.fixture
def tpm(machine: EnrolledTpm) -> Iterator[QuoteTpm]:
    tpm = QuoteTpm(machine.tcti)
    yield tpm
    tpm.close()


def test_extend_and_read(tpm: QuoteTpm) -> None:
    digest = hashlib.sha256(b"event").digest()
    before = tpm.read_pcrs(PCRS)
    assert list(before) == PCRS, "twelve registers take two commands"
    tpm.extend(14, digest)
    after = tpm.read_pcrs(PCRS)
    assert after[14] == hashlib.sha256(before[14] + digest).digest()
    assert {i: v for i, v in after.items() if i != 14} == {i: v for i, v in before.items() if i != 14}


def test_a_quote_satisfies_tpm2_checkquote(tpm: QuoteTpm, machine: EnrolledTpm, tmp_path: pathlib.Path) -> None:
    nonce = hashlib.sha256(b"nonce").digest()
    attest, signature = tpm.quote(nonce, PCRS)
    values = tpm.read_pcrs(PCRS)
    public = tpm.ak_public()
    assert public == machine.ak_public
    tpm.close()
    for name, data in (("attest", attest), ("signature", signature), ("pcrs", b"".join(values.values()))):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "ak").write_bytes(len(public).to_bytes(2, "big") + public)
    machine.tool(
        *("tpm2_checkquote", "-u", str(tmp_path / "ak"), "-g", "sha256", "-q", nonce.hex()),
        *("-m", str(tmp_path / "attest"), "-s", str(tmp_path / "signature")),
    )
    assert attest.endswith(hashlib.sha256(b"".join(values.values())).digest())


def test_the_clock_moves_and_nothing_is_left_in_the_tpm(tpm: QuoteTpm, machine: EnrolledTpm) -> None:
    first = tpm.clock()
    for _ in range(20):
        tpm.quote(bytes(32), (0,))
    second = tpm.clock()
    assert second.clock_ms >= first.clock_ms
    assert (second.reset_count, second.restart_count) == (first.reset_count, first.restart_count)
    tpm.close()
    for kind in ("handles-transient", "handles-loaded-session", "handles-saved-session"):
        assert machine.tool("tpm2_getcap", kind).strip() == ""


def test_a_missing_key_is_named(tpm: QuoteTpm) -> None:
    for ask in (lambda: tpm.quote(bytes(32), (0,), 0x81010BFF), lambda: tpm.ak_public(0x81010BFF)):
        with pytest.raises(UnreachableError) as caught:
            ask()
        assert caught.value.code == "tpm.ak.missing"


@pytest.mark.parametrize("address", ["device:/nonexistent/tpm", "swtpm:host=127.0.0.1,port=1"])
def test_a_missing_tpm_is_named(address: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        QuoteTpm(address).clock()
    assert caught.value.code == "tpm.absent"


def test_an_unknown_address_is_our_mistake() -> None:
    with pytest.raises(UsageError):
        QuoteTpm("mssim:").clock()


REFUSED = {
    "lockout": (0x921, "tpm.lockout"),
    "no key": (0x18B, "tpm.ak.missing"),
    "bad parameter": (0x1C4, "tpm.failed"),
    "retry for ever": (0x922, "tpm.busy"),
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_response_codes_have_names(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, code = REFUSED[fault]
    monkeypatch.setattr("ansible.module_utils.vouch.port.quotetpm.RETRY_WAIT_S", 0)
    reply = b"\x80\x01" + (10).to_bytes(4, "big") + outcome.to_bytes(4, "big")
    with answering(reply) as address, pytest.raises(UnreachableError) as caught:
        QuoteTpm(address).quote(bytes(32), (0,))
    assert caught.value.code == code


@pytest.mark.parametrize("reply", [b"", b"\x80", b"\x80\x01" + (99).to_bytes(4, "big") + bytes(4)])
def test_a_cut_response_is_no_answer(reply: bytes) -> None:
    with answering(reply) as address, pytest.raises(UnreachableError) as caught:
        QuoteTpm(address).clock()
    assert caught.value.code == "tpm.absent"


class answering:  # noqa: N801
    """A TPM that says the same to everything, then hangs up."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._serve, daemon=True).start()
        return f"swtpm:host=127.0.0.1,port={self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while connection.recv(4096):
                connection.sendall(self._reply)
                if len(self._reply) != int.from_bytes(self._reply[2:6], "big") or not self._reply:
                    return


def test_the_counter_is_made_once_and_only_goes_up(tpm: QuoteTpm, machine: EnrolledTpm) -> None:
    with pytest.raises(UnreachableError) as caught:
        tpm.counter()
    assert caught.value.code == "tpm.counter.missing"
    first = tpm.increment()
    assert first > 0
    assert [tpm.increment(), tpm.counter(), tpm.increment()] == [first + 1, first + 1, first + 2]
    tpm.close()
    machine.stop()
    machine.start()
    again = QuoteTpm(machine.tcti)
    assert again.counter() == first + 2
    # Made anew, it begins behind where any counter of this TPM ever ended.
    again.close()
    machine.tool("tpm2_nvundefine", "-C", "o", "0x01810A00")
    assert again.increment() > first + 2
    again.close()

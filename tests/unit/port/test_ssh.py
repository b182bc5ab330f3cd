# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against a real sshd, the real relay and the real service; and against servers that misbehave."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
from collections.abc import Callable

import paramiko
import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.check.quote import verify_quote
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.model.digest import PcrSelection
from ansible.module_utils.vouch.model.evidence import Evidence
from ansible.module_utils.vouch.port.ssh import HostAnswerError, HostKeyMismatchError, Limits, SshVerifier

from sshd_harness import Sshd
from verifier_harness import HOST_ID, PCRS, RELEASE_ID, Verifier

pytestmark = pytest.mark.swtpm
NONCE = bytes(range(32))
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0QLnOWD2GSEHd1BkZYbrkJM2W1yRIqxWGKXyNbyMpF"


def connect(sshd: Sshd, **changes: object) -> SshVerifier:
    options: dict[str, object] = {"port": sshd.port, "user": sshd.user, "key_file": str(sshd.key_file)}
    options |= {"host_key": sshd.host_key, "limits": Limits(connect_s=10, banner_s=10, auth_s=10, answer_s=30)}
    return SshVerifier("127.0.0.1", **(options | changes))  # type: ignore[arg-type]


def test_the_whole_path_gives_evidence_that_verifies(sshd: Sshd, verifier: Verifier) -> None:
    with connect(sshd) as client:
        hello = client.hello()
        evidence = Evidence.from_bytes(client.evidence(NONCE, PCRS))
        later = Evidence.from_bytes(client.evidence(bytes(32), PCRS, ima_offset=len(evidence.ima_log)))
        assert client.host_key == sshd.host_key
    assert (hello.product, hello.protocol, hello.host_id, hello.release_id) == ("vouch", 1, HOST_ID, RELEASE_ID)
    assert set(hello.requests) >= {"hello", "evidence", "guest.list", "guest.order"}
    verified = verify_quote(
        ak=check_ak_public(verifier.ak_public),
        nonce=NONCE,
        selection=PcrSelection.of("sha256", PCRS),
        evidence=evidence,
    )
    assert verified.statement.host_id == HOST_ID
    assert evidence.ima_log == verifier.ima.read_bytes()
    assert later.ima_log == b""


def test_the_evidence_is_the_bytes_the_host_sent(sshd: Sshd, verifier: Verifier) -> None:
    with connect(sshd) as client:
        raw = client.evidence(NONCE, PCRS)
    assert Evidence.from_bytes(raw).to_bytes() == raw


def test_another_host_key_ends_it_before_anything_is_asked(sshd: Sshd) -> None:
    with pytest.raises(HostKeyMismatchError) as caught:
        connect(sshd, host_key=OTHER_KEY)
    assert caught.value.code == "channel.key.mismatch"
    assert (caught.value.expected, caught.value.observed) == (OTHER_KEY, sshd.host_key)


def test_a_comment_behind_the_expected_key_is_ignored(sshd: Sshd) -> None:
    with connect(sshd, host_key=f"{sshd.host_key} root@host") as client:
        assert client.host_key == sshd.host_key


def test_an_error_of_the_host_keeps_its_code(sshd: Sshd) -> None:
    with connect(sshd) as client:
        with pytest.raises(HostAnswerError) as caught:
            client.evidence(NONCE, PCRS, ima_offset=1)
        assert caught.value.code == "request.ima-offset"
        assert client.hello().product == "vouch", "the connection goes on"


def test_an_unknown_key_is_not_let_in(sshd: Sshd) -> None:
    with pytest.raises(UnreachableError) as caught:
        connect(sshd, key_file=str(sshd.make_key("stranger")))
    assert caught.value.code == "ssh.auth"


def test_a_service_that_is_down_is_said_with_the_relay_s_words(tmp_path: pathlib.Path, verifier: Verifier) -> None:
    sshd = Sshd(tmp_path, tmp_path / "nobody")
    try:
        with connect(sshd) as client, pytest.raises(UnreachableError) as caught:
            client.hello()
    finally:
        sshd.stop()
    assert caught.value.code == "ssh.closed"


def test_nobody_there(sshd: Sshd) -> None:
    with pytest.raises(UnreachableError) as caught:
        connect(sshd, port=1)
    assert caught.value.code == "ssh.connect"


@pytest.mark.parametrize("key", ["", "ssh-rsa AAAA", "ssh-ed25519"])
def test_the_expected_key_must_be_one(sshd: Sshd, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        connect(sshd, host_key=key)
    assert caught.value.code == "ssh.hostkey.unusable"


def test_the_private_key_must_be_usable(sshd: Sshd, tmp_path: pathlib.Path) -> None:
    (tmp_path / "text").write_text("hello")
    for path in (tmp_path / "missing", tmp_path / "text", tmp_path):
        with pytest.raises(UsageError) as caught:
            connect(sshd, key_file=str(path))
        assert caught.value.code == "ssh.key.unusable"


class Accepting(paramiko.ServerInterface):
    """Lets everybody in."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        return True


class Liar:
    """An SSH server whose subsystem answers with ``reply``."""

    def __init__(self, folder: pathlib.Path, reply: Callable[[paramiko.Channel], None]) -> None:
        self._key = _ed25519(folder)
        self.host_key = f"{self._key.get_name()} {self._key.get_base64()}"
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        self._transport = paramiko.Transport(connection)
        self._transport.add_server_key(self._key)
        self._transport.start_server(server=Accepting())
        # Kept: a channel nobody refers to is closed.
        self._channel = self._transport.accept(20)
        if self._channel is not None:
            self._reply(self._channel)

    def close(self) -> None:
        self._listener.close()
        self._transport.close()


def _ed25519(folder: pathlib.Path) -> paramiko.PKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = folder / "liar_key"
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def frame(members: object) -> bytes:
    body = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return len(body).to_bytes(4, "big") + body


OK = {"version": 1, "id": "1", "ok": True}
LIES: dict[str, tuple[bytes, str]] = {
    "answer of 4 GB": (b"\xff\xff\xff\xff", "ssh.answer"),
    "answer of zero bytes": (bytes(4), "ssh.answer"),
    "no json": (b"\0\0\0\x05hello", "ssh.answer"),
    "another version": (frame({**OK, "version": 2, "result": {}}), "ssh.answer"),
    "another id": (frame({**OK, "id": "2", "result": {}}), "ssh.answer"),
    "no result": (frame(OK), "ssh.answer"),
    "more members": (frame({**OK, "result": {}, "x": 1}), "ssh.answer"),
    "another nonce": (frame({**OK, "result": {"nonce": "00" * 32}}), "ssh.answer"),
    "result a list": (frame({**OK, "result": []}), "ssh.answer"),
    "hostile code": (
        frame({"version": 1, "id": "1", "ok": False, "error": {"code": "\x1b[2J", "message": ""}}),
        "ssh.answer",
    ),
    "its own code": (
        frame({"version": 1, "id": "1", "ok": False, "error": {"code": "tpm.lockout", "message": "\x1b[2J"}}),
        "tpm.lockout",
    ),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_lying_server_is_an_error_with_a_code(tmp_path: pathlib.Path, sshd: Sshd, lie: str) -> None:
    reply, code = LIES[lie]
    liar = Liar(tmp_path, lambda channel: channel.sendall(reply))
    try:
        client = connect(sshd, port=liar.port, host_key=liar.host_key)
        with client, pytest.raises(UnreachableError) as caught:
            client.evidence(NONCE, PCRS)
    finally:
        liar.close()
    assert caught.value.code == code
    assert "\x1b" not in str(caught.value)


def test_a_silent_server_is_left_after_the_limit(tmp_path: pathlib.Path, sshd: Sshd) -> None:
    liar = Liar(tmp_path, lambda channel: None)
    limits = Limits(connect_s=10, banner_s=10, auth_s=10, answer_s=0.2)
    try:
        client = connect(sshd, port=liar.port, host_key=liar.host_key, limits=limits)
        with client, pytest.raises(UnreachableError) as caught:
            client.hello()
    finally:
        liar.close()
    assert caught.value.code == "ssh.timeout"


def test_a_server_without_a_banner_is_left_after_the_limit(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        limits = Limits(connect_s=1, banner_s=0.3, auth_s=1, answer_s=1)
        with pytest.raises(UnreachableError) as caught:
            connect(sshd, port=listener.getsockname()[1], limits=limits)
    assert caught.value.code in {"ssh.handshake", "ssh.timeout"}


def test_whatever_paramiko_stumbles_over_is_the_peers_fault(
    tmp_path: pathlib.Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread hands on any exception that a peer's bytes caused, not only its own kinds."""

    def stumble(*_: object, **__: object) -> None:
        raise IndexError("index out of range")

    monkeypatch.setattr(paramiko.Transport, "start_client", stumble)
    with pytest.raises(UnreachableError) as caught:
        connect(sshd)
    assert caught.value.code == "ssh.handshake"

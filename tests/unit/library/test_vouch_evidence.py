# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, against a real sshd and a real service."""

from __future__ import annotations

import hashlib
import json
import pathlib
import stat
from typing import Any

import pytest
import vouch_evidence
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.evidence import Evidence
from ansible.module_utils.vouch.port.clock import ManualClock

from sshd_harness import Sshd
from verifier_harness import HOST_ID, Verifier

pytestmark = pytest.mark.swtpm
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0QLnOWD2GSEHd1BkZYbrkJM2W1yRIqxWGKXyNbyMpF"


class Run:
    """Runs the module in this process and returns what it printed."""

    def __init__(self, sshd: Sshd, dest: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._options = {
            "host": "127.0.0.1",
            "port": sshd.port,
            "user": sshd.user,
            "private_key_file": str(sshd.key_file),
            "host_key": sshd.host_key,
            "dest": str(dest),
        }
        self._capfd = capfd

    def __call__(self, **changes: Any) -> dict[str, Any]:
        with patch_module_args({**self._options, **changes}), pytest.raises(SystemExit):
            vouch_evidence.main()
        found: dict[str, Any] = json.loads(self._capfd.readouterr().out)
        return found


@pytest.fixture
def dest(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "evidence.json"


@pytest.fixture
def run(sshd: Sshd, dest: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return Run(sshd, dest, capfd)


@pytest.mark.parametrize("check_mode", [False, True])
def test_evidence_is_kept_as_it_came(run: Run, dest: pathlib.Path, sshd: Sshd, check_mode: bool) -> None:
    result = run(_ansible_check_mode=check_mode)
    assert (result["changed"], result["collected"]) == (False, True)
    raw = dest.read_bytes()
    evidence = Evidence.from_bytes(raw)
    assert evidence.nonce.hex() == result["nonce"]
    assert hashlib.sha256(raw).hexdigest() == result["evidence_digest"]
    assert len(raw) == result["evidence_bytes"]
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    assert result["hello"]["host_id"] == HOST_ID
    assert result["ssh_host_key"] == sshd.host_key
    assert [path.name for path in dest.parent.iterdir()] == [dest.name], "nothing half-written is left"


def test_every_run_has_a_nonce_of_its_own(run: Run) -> None:
    assert run()["nonce"] != run()["nonce"]


def test_only_what_is_new_in_the_list(run: Run, dest: pathlib.Path, verifier: Verifier) -> None:
    result = run(ima_offset=verifier.ima.stat().st_size, pcrs=[14, 10, 10])
    assert result["pcrs"] == [10, 14]
    evidence = Evidence.from_bytes(dest.read_bytes())
    assert (evidence.ima_log, list(evidence.pcrs)) == (b"", [10, 14])


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "nobody there": ({"port": 1}, "ssh.connect"),
    "another host key": ({"host_key": OTHER_KEY}, "channel.key.mismatch"),
    "offset inside an entry": ({"ima_offset": 1}, "request.ima-offset"),
    "register that does not exist": ({"pcrs": [24]}, "request.field"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("on_unreachable", ["fail", "report"])
def test_no_evidence(run: Run, dest: pathlib.Path, sshd: Sshd, fault: str, on_unreachable: str) -> None:
    changes, code = FAULTS[fault]
    dest.write_text("earlier")
    result = run(**changes, on_unreachable=on_unreachable)
    assert result.get("failed", False) is (on_unreachable == "fail")
    assert (result["collected"], result["code"]) == (False, code)
    assert f"[{code}]" in result["message"]
    assert result["ssh_host_key"] == (sshd.host_key if code == "channel.key.mismatch" else "")
    assert dest.read_text() == "earlier"


OURS: dict[str, tuple[dict[str, Any], str]] = {
    "no such key file": ({"private_key_file": "/nonexistent/key"}, "ssh.key.unusable"),
    "expected key is none": ({"host_key": "ssh-rsa AAAA"}, "ssh.hostkey.unusable"),
    "no such folder": ({"dest": "/nonexistent/evidence.json"}, "files.unwritable"),
}


@pytest.mark.parametrize("fault", sorted(OURS))
def test_a_mistake_of_ours_always_fails(run: Run, fault: str) -> None:
    changes, code = OURS[fault]
    result = run(**changes, on_unreachable="report")
    assert (result["failed"], result["code"]) == (True, code)


def _answers(monkeypatch: pytest.MonkeyPatch, codes: list[str]) -> list[bytes]:
    """Let ``collect`` fail with each of ``codes`` in turn, then succeed; return the nonces it was given."""
    seen: list[bytes] = []
    left = iter(codes)

    def collect(params: object, nonce: bytes, clock: object) -> dict[str, str]:
        seen.append(nonce)
        code = next(left, "")
        if code:
            raise UnreachableError("not yet", code=code)
        return {"dest": "x"}

    monkeypatch.setattr(vouch_evidence, "collect", collect)
    return seen


def test_a_host_that_comes_up_is_waited_for_with_a_new_nonce_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, result = ManualClock(), dict[str, object]()
    seen = _answers(monkeypatch, ["ssh.connect", "ssh.timeout", "ssh.subsystem"])
    vouch_evidence.collect_patiently({"patience": 60}, result, clock)
    assert result["collected"] is True
    assert len(set(seen)) == len(seen) == 4
    assert result["nonce"] == seen[-1].hex()
    assert result["requested_at"] == "2026-01-01T00:00:03Z"


@pytest.mark.parametrize(("code", "asked"), [("ssh.connect", 6), ("ssh.auth", 1), ("tpm.ak.missing", 1)])
def test_the_wait_ends(monkeypatch: pytest.MonkeyPatch, code: str, asked: int) -> None:
    clock = ManualClock()
    seen = _answers(monkeypatch, [code] * 100)
    with pytest.raises(UnreachableError) as caught:
        vouch_evidence.collect_patiently({"patience": 5}, {}, clock)
    assert caught.value.code == code
    assert len(seen) == asked

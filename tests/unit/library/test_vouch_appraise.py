# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, on evidence of a simulated host."""

from __future__ import annotations

import datetime
import io
import json
import pathlib
import tarfile
from typing import Any

import pytest
import vouch_appraise
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.appraise.ear import verify_ear
from ansible.module_utils.vouch.appraise.host import appraise_host
from ansible.module_utils.vouch.appraise.policy import AppraisalPolicy
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.fleet.register import read_register
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.gueststate import GuestRecord
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.port.clock import utc_text
from ansible.module_utils.vouch.store.bundles import BundleStore
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guestparts import Guest
from sim.attester import NONCE, NOW_S, RELEASE_KEY, SimAppraiser, SimHost


class Controller:
    """The controller's folders, and the module run in this process."""

    def __init__(self, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.host = folder, capsys, SimHost()
        self.store = EnrolmentStore(folder / "enrolments")
        self.store.add(self.host.enrolment)
        (folder / "store" / "sha256").mkdir(parents=True)
        (folder / "release.json").write_bytes(self.host.release.envelope)
        manifest = self.host.release.manifest
        (folder / "store" / "sha256" / sha256(manifest).hex()).write_bytes(manifest)
        (folder / "release.pub").write_bytes(public_pem(RELEASE_KEY))
        key = generate_private_key("ecdsa-p256-sha256")
        (folder / "ear.pem").write_bytes(private_pem(key))
        self.ear_public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.policy = {
            "name": "test",
            "release_keys": [str(folder / "release.pub")],
            "installer_pcr4": [item.hex() for item in SimAppraiser(host=self.host).policy.installer_pcr4],
        }

    def evidence(self, nonce: bytes = NONCE, *, age_s: int = 0) -> dict[str, Any]:
        """Return what vouch_evidence would have, ``age_s`` ago."""
        asked_at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)
        dest = self.folder / "evidence.json"
        dest.write_bytes(self.host.evidence(NONCE).to_bytes())
        return {
            "collected": True,
            "dest": str(dest),
            "nonce": nonce.hex(),
            "requested_at": utc_text(int(asked_at.timestamp())),
            "ssh_host_key": self.host.ssh_host_key,
        }

    def run(self, evidence: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        options = {
            "name": "h1",
            "host_id": self.host.host_id,
            "enrolments": str(self.folder / "enrolments"),
            "evidence": self.evidence() if evidence is None else evidence,
            "releases": [str(self.folder / "release.json")],
            "image_store": str(self.folder / "store"),
            "policy": self.policy,
            "ear_key": str(self.folder / "ear.pem"),
            "directory": str(self.folder / "results"),
            **changes,
        }
        with patch_module_args(options), pytest.raises(SystemExit):
            vouch_appraise.main()
        found: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return found


@pytest.fixture
def controller(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Controller:
    return Controller(tmp_path, capsys)


def test_a_good_host_is_affirmed_and_its_registers_pinned_once(controller: Controller) -> None:
    first = controller.run()
    assert (first["verdict"], first["stage"]) == ("affirming", "done")
    assert first["changed"]
    assert first["diff"]["before"] != first["diff"]["after"]
    enrolment = controller.store.get(controller.host.host_id)
    assert enrolment.unpinned == ()
    assert enrolment.accepted_at_s > 0
    second = controller.run()
    assert second["verdict"] == "affirming"
    assert not second["changed"]
    assert second["row"]["pcr4_expected"] == second["row"]["pcr4_found"] != ""
    assert second["ansible_facts"]["attestation"]["verdict"] == "affirming"


def test_the_signed_result_is_the_result(controller: Controller) -> None:
    done = controller.run()
    ear = verify_ear(done["ear"], controller.ear_public)
    assert ear.submodules["host"].status.value == "affirming"
    assert (controller.folder / "results" / "h1.result.jwt").read_text() == done["ear"]
    assert controller.run(ear_key=None)["ear"] == ""


def test_the_bundle_is_enough_to_come_to_the_same_result(controller: Controller) -> None:
    done = controller.run()
    with tarfile.open(fileobj=io.BytesIO(pathlib.Path(done["bundle"]).read_bytes())) as archive:
        parts = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]
    index = json.loads(parts.pop("bundle.json"))
    assert {name: sha256(data).hex() for name, data in parts.items()} == {
        name: part["sha256"] for name, part in index["parts"].items()
    }
    context = json.loads(parts["context.json"])
    policy = AppraisalPolicy.from_bytes(parts["policy.json"])
    again = appraise_host(
        parts["evidence.json"],
        host_id=context["host_id"],
        nonce=bytes.fromhex(context["nonce"]),
        channel_key=context["channel_key"],
        enrolment=Enrolment.from_bytes(parts["enrolment.json"]),
        references=References(policy, [(parts["release.json"], parts["manifest"])]),
        now_s=context["now"],
        asked_at_s=context["asked_at"],
    )
    assert again.result.to_bytes() == parts["result.json"] == pathlib.Path(done["result_file"]).read_bytes()


def test_evidence_put_aside_does_not_become_fresh(controller: Controller) -> None:
    done = controller.run(controller.evidence(age_s=3600))
    assert done["verdict"] != "affirming"
    assert "quote.nonce.stale" in done["row"]["reasons"]


def test_a_name_that_leaves_the_folder_is_refused(controller: Controller) -> None:
    done = controller.run(name="../h1")
    assert done["failed"]
    assert "file name" in done["msg"]
    assert not (controller.folder / "h1.result.json").exists()


def test_a_bad_verdict_is_a_result(controller: Controller) -> None:
    before = controller.store.get(controller.host.host_id)
    done = controller.run(controller.evidence(nonce=bytes(32)))
    assert not done.get("failed")
    assert done["verdict"] == "contraindicated"
    assert done["row"]["reasons"]
    assert not done["changed"]
    assert controller.store.get(controller.host.host_id) == before
    assert json.loads(pathlib.Path(done["result_file"]).read_text())["verdict"] == "contraindicated"


def test_no_evidence_is_no_verdict(controller: Controller) -> None:
    done = controller.run({"collected": False, "code": "ssh.connect", "message": "Connection refused"})
    assert (done["verdict"], done["stage"]) == ("none", "unreached")
    assert done["row"]["reasons"] == ["ssh.connect"]
    assert done["evidence_digest"] == ""


def test_an_unknown_host_is_refused(controller: Controller) -> None:
    controller.store.remove(controller.host.host_id)
    done = controller.run()
    assert done["verdict"] == "contraindicated"
    assert done["row"]["reasons"] == ["ak.unknown"]


def test_check_mode_judges_and_writes_nothing(controller: Controller) -> None:
    before = controller.store.get(controller.host.host_id)
    done = controller.run(_ansible_check_mode=True)
    assert done["verdict"] == "affirming"
    assert done["changed"]
    assert controller.store.get(controller.host.host_id) == before
    assert not (controller.folder / "results").exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy": {"name": "p", "release_keys": [], "installer_pcr4": ["00" * 32]}}, "policy.invalid"),
        ({"image_store": "/nonexistent"}, "files.missing"),
        ({"evidence": {"collected": True}}, "usage.invalid"),
        ({"host_id": "no uuid"}, "enrolment.host-id"),
    ],
)
def test_our_own_mistakes_fail(controller: Controller, changes: dict[str, Any], code: str) -> None:
    failed = controller.run(**changes)
    assert failed["failed"]
    assert failed["code"] == code
    assert not (controller.folder / "results").exists()


def test_a_policy_with_an_unknown_key_fails(controller: Controller) -> None:
    failed = controller.run(policy={**controller.policy, "ttl": 5})
    assert failed["failed"]
    assert "ttl" in failed["msg"]


def test_guests_have_lines_of_their_own(controller: Controller) -> None:
    key, package = generate_private_key(), Guest().package()
    signed = sign_guest_package(package, key)
    (controller.folder / "base.dsse.json").write_bytes(signed)
    (controller.folder / "other.dsse.json").write_bytes(sign_guest_package(Guest(name="other").package(), key))
    (controller.folder / "package.pub").write_bytes(public_pem(key))
    record = GuestRecord(
        id="web",
        name=package.name,
        variant=package.variant,
        domain_id=3,
        kind="pv",
        package=package_id(signed),
        verity_root=package.verity.root_hash,
        policy=package.policy.sha256,
        state="running",
        phase="running",
        verdict="holds",
        checked_at_s=NOW_S,
        rounds=9,
        counter=1,
    )
    launch = {"package": record.package.hex(), "kind": "pv", "order": "00" * 32, "counter": 1}
    controller.host.log_event({"event": "guest.launch", "time": NOW_S, "guest": "web", **launch})
    controller.host.statement_changes["guests"] = (record,)
    known = {
        "packages": [str(controller.folder / f"{name}.dsse.json") for name in ("base", "other")],
        "policy": {**controller.policy, "package_keys": [str(controller.folder / "package.pub")]},
    }
    done = controller.run(**known)
    assert [(row["machine"], row["status"]) for row in done["guests"]] == [("h1/web", "affirming")]
    assert done["ansible_facts"]["attestation"]["guests"] == {"web": {"verdict": "affirming", "reasons": []}}
    with tarfile.open(done["bundle"]) as bundle:
        parts = [name for name in bundle.getnames() if name.startswith("packages/")]
    assert parts == [f"packages/{record.package.hex()}.json"]
    controller.host.statement_changes["guests"] = ()
    lost = controller.run(**known)
    assert lost["verdict"] == "affirming"
    assert [(row["status"], row["reasons"]) for row in lost["guests"]] == [
        ("contraindicated", ["guest.statement.missing"])
    ]


def test_the_store_gets_what_the_module_found(controller: Controller) -> None:
    url = f"sqlite:///{controller.folder}/store.db"
    bundles = controller.folder / "bundles"
    done = controller.run(store=url, bundles=str(bundles), _ansible_check_mode=True)
    assert done["verdict"] == "affirming"
    assert not (controller.folder / "store.db").exists(), "check mode writes nothing"
    done = controller.run(store=url, bundles=str(bundles))
    key = PublicKey.from_pem(controller.ear_public)
    store = ResultStore(open_store(url))
    found = read_register(store, [key]).host("h1")
    assert found is not None
    assert (found.verdict.value, found.host_id) == ("affirming", controller.host.host_id)
    kept = store.last_appraisal(controller.host.host_id)
    assert kept is not None
    assert json.loads(kept.result) == done["result"]
    assert BundleStore(bundles).read(kept.bundle) == pathlib.Path(done["bundle"]).read_bytes()


def test_a_store_needs_the_key_that_seals(controller: Controller) -> None:
    done = controller.run(store=f"sqlite:///{controller.folder}/store.db", ear_key=None)
    assert done["failed"]
    assert "ear_key" in done["msg"]


def test_enrolments_may_be_in_the_store(controller: Controller) -> None:
    url = f"sqlite:///{controller.folder}/store.db"
    SqlEnrolments(open_store(url, make=True)).add(controller.host.enrolment)
    assert controller.run(enrolments=url)["changed"]
    assert not controller.run(enrolments=url)["changed"]
    assert SqlEnrolments(open_store(url)).get(controller.host.host_id).unpinned == ()


def test_check_mode_makes_no_store(controller: Controller) -> None:
    url = f"sqlite:///{controller.folder}/none/store.db"
    done = controller.run(enrolments=url, store=url, _ansible_check_mode=True)
    assert done["row"]["reasons"] == ["ak.unknown"]
    assert not (controller.folder / "none").exists()

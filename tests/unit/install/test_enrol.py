# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole installation with a software TPM: challenge, slot, proof, enrolment; and who must not get through."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.check.signature import VerifiedRelease
from ansible.module_utils.vouch.errors import EvidenceError, UnreachableError, UsageError
from ansible.module_utils.vouch.install.enrol import Candidate, Challenge, Enroller, split_ca
from ansible.module_utils.vouch.install.proof import ProofMaker, ProofOutcome
from ansible.module_utils.vouch.install.slot import SlotInstaller, SlotWish
from ansible.module_utils.vouch.model.digest import PcrSelection
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.evidence import Roti
from ansible.module_utils.vouch.parse.tcglog import EV_NO_ACTION, parse_event_log
from ansible.module_utils.vouch.port.clock import ManualClock
from ansible.module_utils.vouch.port.tpm import Tpm
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore
from ansible.module_utils.vouch.store.pending import MAX_AGE_S, PendingStore

from hostparts import HOST, WISH, fetch, release
from sim.firmware import SimFirmware
from sim.machine import SimDisk, SimEfi
from swtpm_fixture import SoftwareTpm, need_swtpm

pytestmark = pytest.mark.swtpm
BOOT = PcrSelection("sha256", tuple(range(10)))


class Quotes:
    """``ProofTpm`` over the connection that is open: swtpm serves one client."""

    def __init__(self, tpm: Tpm) -> None:
        self.tpm = tpm

    def read_pcrs(self, indices: Sequence[int]) -> Mapping[int, bytes]:
        return self.tpm.read_pcrs(PcrSelection("sha256", tuple(indices))).values

    def quote(self, qualifying: bytes, indices: Sequence[int]) -> tuple[bytes, bytes]:
        return self.tpm.quote(qualifying, PcrSelection("sha256", tuple(indices)))

    def ak_public(self) -> bytes:
        return self.tpm.ak_public()


class Machine:
    """A machine in the installer: software TPM with a firmware's events in it, disk and variables in memory."""

    def __init__(self, folder: pathlib.Path, tpm: SoftwareTpm) -> None:
        folder.mkdir()
        self.hardware = tpm
        self.tpm = Tpm(tpm.tcti)
        self.disk = SimDisk(folder)
        self.efi = SimEfi(self.disk)
        firmware = SimFirmware()
        firmware.boot([b"\x0e" * 32])
        self.event_log = firmware.log
        for event in parse_event_log(firmware.log).events:
            if event.event_type != EV_NO_ACTION:
                self.tpm.extend(event.pcr, event.digests["sha256"])
        self.pcr4 = firmware.bank()[4]

    def candidate(self) -> Candidate:
        return Candidate(
            host_id=str(HOST),
            ek_certificates=self.tpm.ek_certificates(),
            ek_chain=self.hardware.intermediates,
            ak_public=self.tpm.ak_public(),
            event_log=self.event_log,
            pcrs=self.tpm.read_pcrs(BOOT),
        )

    def answer(self, challenge: Challenge) -> bytes:
        return self.tpm.activate(challenge.credential_blob, challenge.encrypted_secret, kind=challenge.ek.kind)

    def install(self, wish: SlotWish = WISH) -> str:
        return SlotInstaller(self.disk, self.efi, fetch, wish).run().ssh_host_key

    def prove(self, wish: SlotWish = WISH, *, rehearse: bool = False) -> ProofOutcome:
        maker = ProofMaker(
            disk=self.disk,
            efi=self.efi,
            tpm=Quotes(self.tpm),
            event_log=self.event_log,
            wish=wish,
            now_s=lambda: 1_750_000_000,
        )
        return maker.run(rehearse=rehearse)


class Desk:
    """The controller."""

    def __init__(self, folder: pathlib.Path, roots: tuple[bytes, ...]) -> None:
        self.clock = ManualClock(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
        self.store = EnrolmentStore(folder)
        self.enroller = Enroller(self.store, PendingStore(folder), ca_certificates=roots, clock=self.clock)

    def conclude(self, machine: Machine, roti: Roti, key: str, *, rehearse: bool = False) -> tuple[Enrolment, bool]:
        verified = VerifiedRelease(release_id=WISH.release_id, release=release(), keyid="k")
        return self.enroller.conclude(
            str(HOST), roti, release=verified, ssh_host_key=key, installer_pcr4=[machine.pcr4], rehearse=rehearse
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    need_swtpm()
    folder = tmp_path_factory.mktemp("machine")
    with SoftwareTpm(folder / "tpm") as tpm:
        machine = Machine(folder / "disk", tpm)
        machine.tpm.create_ak()
        yield machine
        machine.tpm.close()


@pytest.fixture
def desk(machine: Machine, tmp_path: pathlib.Path) -> Desk:
    return Desk(tmp_path / "enrolments", machine.hardware.roots)


def activated(desk: Desk, machine: Machine) -> None:
    challenge = desk.enroller.begin(machine.candidate())
    desk.enroller.answer(str(HOST), machine.answer(challenge))


def proof(machine: Machine) -> Roti:
    roti = machine.prove().roti
    assert roti is not None
    return roti


def test_from_challenge_to_enrolment_and_again(desk: Desk, machine: Machine) -> None:
    challenge = desk.enroller.begin(machine.candidate())
    assert challenge.open
    desk.enroller.answer(str(HOST), machine.answer(challenge))
    assert not desk.enroller.begin(machine.candidate()).open
    key = machine.install()
    roti = proof(machine)
    enrolment, new = desk.conclude(machine, roti, key)
    assert new
    assert enrolment.unpinned == (1, 5)
    assert desk.store.find(str(HOST)) == enrolment
    # Again, as a second run does it: nothing is open, nothing is made, nothing is recorded.
    assert not desk.enroller.begin(machine.candidate()).open
    assert machine.prove().deltas == ()
    assert desk.conclude(machine, roti, key) == (enrolment, False)


def test_a_rehearsal_leaves_no_trace(desk: Desk, machine: Machine, tmp_path: pathlib.Path) -> None:
    assert desk.enroller.begin(machine.candidate(), rehearse=True).open
    assert desk.enroller.begin(replace(machine.candidate(), ak_public=b""), rehearse=True).ek.kind
    assert not (tmp_path / "enrolments").exists()
    activated(desk, machine)
    key = machine.install()
    assert desk.conclude(machine, proof(machine), key, rehearse=True)[1]
    assert desk.store.find(str(HOST)) is None


def test_a_wrong_answer_spends_the_challenge(desk: Desk, machine: Machine) -> None:
    challenge = desk.enroller.begin(machine.candidate())
    right = machine.answer(challenge)
    with pytest.raises(UsageError) as caught:
        desk.enroller.answer(str(HOST), bytes(32))
    assert caught.value.code == "challenge.wrong"
    with pytest.raises(UsageError) as caught:
        desk.enroller.answer(str(HOST), right)
    assert caught.value.code == "challenge.missing"


def test_a_challenge_grows_old(desk: Desk, machine: Machine) -> None:
    challenge = desk.enroller.begin(machine.candidate())
    desk.clock.advance(MAX_AGE_S + 1)
    with pytest.raises(UsageError) as caught:
        desk.enroller.answer(str(HOST), machine.answer(challenge))
    assert caught.value.code == "challenge.missing"


def test_without_an_answer_no_proof_counts(desk: Desk, machine: Machine) -> None:
    desk.enroller.begin(machine.candidate())
    key = machine.install()
    with pytest.raises(UsageError) as caught:
        desk.conclude(machine, proof(machine), key)
    assert caught.value.code == "challenge.missing"


FAULTS: dict[str, tuple[Callable[[Candidate], Candidate], str]] = {
    "no certificate": (lambda c: replace(c, ek_certificates={}), "tpm.ek.certificate-missing"),
    "no chain": (lambda c: replace(c, ek_chain=()), "ek.chain.untrusted"),
    "another key": (lambda c: replace(c, ak_public=b"\x00" * 32), "ak.malformed"),
    "another boot's log": (lambda c: replace(c, event_log=SimFirmware().log), "eventlog.replay.mismatch"),
    "no log": (lambda c: replace(c, event_log=b"log"), "eventlog.malformed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_machine_shows_is_checked(fault: str, desk: Desk, machine: Machine) -> None:
    change, code = FAULTS[fault]
    with pytest.raises(EvidenceError) as caught:
        desk.enroller.begin(change(machine.candidate()))
    assert caught.value.code == code


def test_a_pinned_endorsement_key_is_the_only_one(desk: Desk, machine: Machine, tmp_path: pathlib.Path) -> None:
    found = desk.enroller.begin(machine.candidate()).ek_sha256
    roots = machine.hardware.roots
    for pin, code in ((found, None), (bytes(32), "ek.pinned.mismatch")):
        enroller = Enroller(desk.store, PendingStore(tmp_path), ca_certificates=roots, clock=desk.clock, ek_sha256=pin)
        if code is None:
            assert enroller.begin(machine.candidate()).open
            continue
        with pytest.raises(EvidenceError) as caught:
            enroller.begin(machine.candidate())
        assert caught.value.code == code


def test_one_tpm_is_one_host(desk: Desk, machine: Machine) -> None:
    activated(desk, machine)
    desk.conclude(machine, proof(machine), machine.install())
    with pytest.raises(UsageError) as caught:
        desk.enroller.begin(replace(machine.candidate(), host_id="0" * 8 + str(HOST)[8:]))
    assert caught.value.code == "enrolment.ek.duplicate"


def test_no_authority_no_trust(desk: Desk, machine: Machine, tmp_path: pathlib.Path) -> None:
    for certificates, code in (((), "ek.roots.none"), ((b"x",), "ek.ca.malformed")):
        enroller = Enroller(desk.store, PendingStore(tmp_path), ca_certificates=certificates, clock=desk.clock)
        with pytest.raises(UsageError) as caught:
            enroller.begin(machine.candidate())
        assert caught.value.code == code


def test_only_self_issued_certificates_are_roots(machine: Machine) -> None:
    roots, others = split_ca([*machine.hardware.intermediates, *machine.hardware.roots])
    assert (roots, others) == (machine.hardware.roots, machine.hardware.intermediates)


def test_another_channel_key_is_refused(desk: Desk, machine: Machine) -> None:
    activated(desk, machine)
    machine.install()
    with pytest.raises(EvidenceError) as caught:
        desk.conclude(machine, proof(machine), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43)
    assert caught.value.code == "roti.channel"


def damage_image(machine: Machine) -> None:
    with machine.disk.partition(2).open("r+b") as stream:
        stream.seek(4097)
        stream.write(b"X")


def damage_hypervisor(machine: Machine) -> None:
    (machine.disk.folder / "fs1/EFI/vouch/current.efi").write_bytes(b"other")


def damage_order(machine: Machine) -> None:
    machine.efi.variables["BootOrder"] = b"\0\0"


def damage_identity(machine: Machine) -> None:
    (machine.disk.folder / "fs4/identity.json").unlink()


@pytest.mark.parametrize("damage", [damage_image, damage_hypervisor, damage_order, damage_identity])
def test_what_is_not_on_the_disk_is_not_proven(damage: Callable[[Machine], None], machine: Machine) -> None:
    machine.install()
    damage(machine)
    with pytest.raises(UnreachableError) as caught:
        machine.prove()
    assert caught.value.code == "install.incomplete"
    machine.install()
    assert machine.prove().roti is not None


def test_a_stale_or_broken_proof_is_made_again(machine: Machine) -> None:
    machine.install()
    first = proof(machine)
    path = machine.disk.folder / "fs4/roti.json"
    for content in (b"{}", replace(first, statement=first.statement + b" ").to_bytes()):
        path.write_bytes(content)
        assert machine.prove(rehearse=True).roti is None
        assert path.read_bytes() == content
        assert machine.prove().deltas
    assert machine.prove().deltas == ()

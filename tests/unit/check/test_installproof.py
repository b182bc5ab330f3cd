# SPDX-License-Identifier: GPL-3.0-or-later
"""The ROTI proof: a good one, and one fault for every step."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from typing import Any

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.check.installproof import ROTI_SELECTION, VerifiedInstall, verify_install_proof
from ansible.module_utils.vouch.check.signature import VerifiedRelease
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.evidence import Roti
from ansible.module_utils.vouch.model.image import Verity
from ansible.module_utils.vouch.model.release import HostRelease, InstallStatement
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sim.firmware import SimFirmware

PRIVATE = ec.derive_private_key(11, ec.SECP256R1())
NUMBERS = PRIVATE.public_key().public_numbers()
AK = check_ak_public(
    bytes.fromhex("0023 000b 00050472 0000 0010 0018 000b 0003 0010")
    + b"".join(b"\x00\x20" + n.to_bytes(32, "big") for n in (NUMBERS.x, NUMBERS.y))
)
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
HOST = "11111111-2222-3333-4444-555555555555"
FIRMWARE = SimFirmware()
FIRMWARE.boot([b"\x0e" * 32])
BANK = FIRMWARE.bank()
RELEASE = VerifiedRelease(
    release_id=b"\x21" * 32,
    keyid="k",
    release=HostRelease(
        subjects={"xen.efi": b"\x01" * 32, "root.img": b"\x02" * 32},
        name="r",
        variant="production",
        authenticode_sha256=bytes(32),
        pcr4=bytes(32),
        verity=Verity(root_hash=bytes(32), salt=b"\0", data_blocks=1),
        manifest_sha256=bytes(32),
        manifest_files=1,
        ssh_user="vouch",
        packages=(),
        xen="4.20",
        kernel="6.12",
        source_date_epoch=0,
    ),
)
STATEMENT = InstallStatement(
    host_id=HOST,
    release_id=RELEASE.release_id,
    slot="a",
    disk_id="disk",
    disk_bytes=1,
    xen_efi_sha256=b"\x01" * 32,
    root_img_sha256=b"\x02" * 32,
    boot_entry="vouch a",
    ssh_host_key=SSH_KEY,
    ak_name=AK.name,
    installer_pcr4=BANK[4],
    time_s=1,
)


def roti(statement: InstallStatement | bytes = STATEMENT, selection: bytes = b"\xff\x03\x00", **change: Any) -> Roti:
    data = statement if isinstance(statement, bytes) else statement.to_bytes()
    signer = b"\x00\x0b" + hashlib.sha256(bytes.fromhex("40000001") + AK.name).digest()
    attest = (
        bytes.fromhex("ff544347 8018 0022")
        + signer
        + b"\x00\x20"
        + sha256(data)
        + struct.pack(">QIIBQ", 1, 1, 0, 1, 1)
        + b"\x00\x00\x00\x01\x00\x0b\x03"
        + selection
        + b"\x00\x20"
        + sha256(BANK.composite(ROTI_SELECTION))
    )
    r, s = decode_dss_signature(PRIVATE.sign(attest, ec.ECDSA(hashes.SHA256())))
    signature = b"\x00\x18\x00\x0b" + b"".join(b"\x00\x20" + n.to_bytes(32, "big") for n in (r, s))
    parts: dict[str, Any] = {"attest": attest, "signature": signature, "pcrs": BANK, "event_log": FIRMWARE.log}
    return Roti(**{"statement": data, **parts, **change})


def verify(proof: Roti, **change: Any) -> VerifiedInstall:
    arguments: dict[str, Any] = {
        "ak": AK,
        "release": RELEASE,
        "host_id": HOST,
        "ssh_host_key": SSH_KEY,
        "installer_pcr4": {BANK[4]},
        **change,
    }
    return verify_install_proof(roti=proof, **arguments)


def test_a_good_proof() -> None:
    verified = verify(roti())
    assert verified.statement == STATEMENT
    assert verified.bank == BANK
    assert verified.log.events
    assert verified.findings == ()


def other(**change: Any) -> Roti:
    return roti(dataclasses.replace(STATEMENT, **change))


SHORT_LOG = SimFirmware()
SHORT_LOG.boot([b"\x0f" * 32])
FAULTS: dict[str, tuple[Roti, str]] = {
    "1 signature": (roti(signature=roti(b"other").signature), "roti.quote"),
    "2 selection": (roti(selection=b"\xff\x01\x00"), "roti.quote"),
    "3 values": (roti(pcrs=BANK.extended(4, bytes(32))), "roti.quote"),
    "4 log of another boot": (roti(event_log=SHORT_LOG.log), "eventlog.replay.mismatch"),
    "4 no log": (roti(event_log=b"x"), "eventlog.malformed"),
    "5 installer named wrongly": (other(installer_pcr4=bytes(32)), "roti.installer"),
    "6 another key": (other(ak_name=b"\x00\x0b" + bytes(32)), "roti.ak"),
    "6 another host": (other(host_id="0" * 8 + HOST[8:]), "roti.host"),
    "6 another channel": (other(ssh_host_key=SSH_KEY[:-1] + "B"), "roti.channel"),
    "6 another release": (other(release_id=bytes(32)), "roti.release"),
    "6 another xen.efi": (other(xen_efi_sha256=bytes(32)), "roti.files"),
    "6 another root": (other(root_img_sha256=bytes(32)), "roti.files"),
    "6 no statement": (roti(b"{}"), "roti.statement.malformed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_step_refuses(fault: str) -> None:
    proof, code = FAULTS[fault]
    with pytest.raises(EvidenceError) as error:
        verify(proof)
    assert error.value.code == code


def test_the_statement_is_bound_by_its_digest() -> None:
    signed = roti()
    with pytest.raises(EvidenceError) as error:
        verify(dataclasses.replace(signed, statement=dataclasses.replace(STATEMENT, slot="b").to_bytes()))
    assert error.value.code == "roti.statement.digest"


def test_an_installer_we_do_not_allow() -> None:
    with pytest.raises(EvidenceError) as error:
        verify(roti(), installer_pcr4={bytes(32)})
    assert error.value.code == "roti.installer"
    with pytest.raises(UsageError) as usage:
        verify(roti(), installer_pcr4=())
    assert usage.value.code == "roti.installers.none"

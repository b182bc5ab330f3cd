# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody between build and host alters a guest: its package, a file, its command line, its policy."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.guestpackage import PackageReport, inspect_package
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.package import GuestPackage

from guestparts import BLOCK, Guest

KEY = generate_private_key()
KEYS = [public_key(KEY)]
DEBUG_TYPES = ("kernel_t", "daemon_t", "debug_t")


def judged(envelope: bytes, files: dict[str, bytes], **options: Any) -> PackageReport:
    """Return what a host that trusts ``KEY`` makes of a package and the files it got."""
    return inspect_package(
        envelope, KEYS, lambda _: {name: io.BytesIO(data) for name, data in files.items()}, **options
    )


def codes(report: PackageReport) -> list[str]:
    assert report.verdict is Verdict.CONTRAINDICATED
    return [finding.code for finding in report.findings]


def with_payload(envelope: bytes, payload: bytes) -> bytes:
    """Return the envelope with its signatures and another payload."""
    return json.dumps({**json.loads(envelope), "payload": base64.b64encode(payload).decode()}).encode()


def test_a_package_signed_by_somebody_else() -> None:
    guest = Guest()
    forged = sign_guest_package(guest.package(), generate_private_key())
    assert codes(judged(forged, guest.files)) == ["envelope.signature.invalid"]


def test_a_forged_package_that_names_the_trusted_key() -> None:
    guest = Guest()
    forged = json.loads(sign_guest_package(guest.package(), generate_private_key()))
    forged["signatures"][0]["keyid"] = KEYS[0].keyid
    assert codes(judged(json.dumps(forged).encode(), guest.files)) == ["envelope.signature.invalid"]


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.img", "root.img", "policy", "proof.json", "profile"])
def test_a_swapped_file(name: str) -> None:
    guest, other = Guest(), Guest(blocks=300, types=("kernel_t", "daemon_t", "lint_t"))
    other.files.update({"vmlinuz": b"kernle", "initrd.img": b"initdr", "profile": other.files["profile"][:-1] + b"\1"})
    other.files["root.img"] = other.files["root.img"][:-BLOCK] + b"\1" * BLOCK
    swapped = {**guest.files, name: other.files[name]}
    signed = sign_guest_package(guest.package(), KEY)
    assert codes(judged(signed, swapped))[0] in ("package.part.digest", "package.part.size")


def test_an_altered_command_line() -> None:
    guest = Guest()
    signed = sign_guest_package(guest.package(), KEY)
    payload = guest.package().to_bytes().replace(b"enforcing=1", b"enforcing=0")
    assert GuestPackage.from_bytes(payload) != guest.package()
    assert codes(judged(with_payload(signed, payload), guest.files)) == ["envelope.signature.invalid"]


def test_a_command_line_that_was_signed_by_mistake() -> None:
    guest = Guest()
    line = guest.image.cmdline
    for bad, code in (
        (line.replace("enforcing=1", "enforcing=0"), "package.cmdline.required"),
        (line + " init=/bin/sh", "package.cmdline.refused"),
        (line.replace("vouch.verity=", "vouch.verity=0"), "package.cmdline.verity"),
        (line + " systemd.debug-shell=1", "package.cmdline.refused"),
    ):
        signed = sign_guest_package(guest.package(cmdline=bad), KEY)
        assert codes(judged(signed, guest.files)) == [code]


def test_a_debug_package_in_the_place_of_a_production_one() -> None:
    guest = Guest(variant="debug", types=DEBUG_TYPES)
    signed = sign_guest_package(guest.package(name="base"), KEY)
    assert codes(judged(signed, guest.files, name="base")) == ["package.debug"]


def test_a_debug_image_signed_as_production() -> None:
    guest = Guest(variant="production", types=DEBUG_TYPES)
    signed = sign_guest_package(guest.package(), KEY)
    assert codes(judged(signed, guest.files)) == ["package.policy.debug"]


@pytest.mark.parametrize("block", [0, 150, 299, 300, 302])
def test_one_byte_of_the_root_image(block: int) -> None:
    guest = Guest()
    signed = sign_guest_package(guest.package(), KEY)
    data = bytearray(guest.files["root.img"])
    data[block * BLOCK + 7] ^= 0x80
    found = judged(signed, {**guest.files, "root.img": bytes(data)}, full=True)
    told = codes(found)
    assert told[0] == "package.part.digest"
    assert found.findings[-1].code == "package.verity.block" or "package.verity.root" in told


def test_one_byte_of_the_root_image_with_a_digest_to_match() -> None:
    """A builder that signs what it did not build: the tree still tells."""
    guest = Guest()
    data = bytearray(guest.files["root.img"])
    data[7] ^= 0x80
    guest.files["root.img"] = bytes(data)
    signed = sign_guest_package(guest.package(), KEY)
    found = judged(signed, guest.files, full=True)
    assert codes(found) == ["package.verity.block"]
    assert found.findings[0].where is not None
    assert found.findings[0].where.entry == 0


def test_a_proof_of_another_policy() -> None:
    guest, other = Guest(), Guest(types=("kernel_t", "daemon_t", "cc_t", "more_t"))
    guest.proof = guest.files["proof.json"] = other.proof
    assert codes(judged(sign_guest_package(guest.package(), KEY), guest.files)) == ["proof.policy"]


def test_a_policy_that_allows_more_than_was_proven() -> None:
    """Signed with its digest, and with a proof that was made to name it."""

    class Wider(Guest):
        @property
        def sim(self) -> Any:
            policy = super().sim
            policy.rules.append(type(policy.rules[0])("cc_t", "daemon_t", "process", ("ptrace",)))
            return policy

    guest = Wider()
    (code,) = codes(judged(sign_guest_package(guest.package(), KEY), guest.files))
    assert code.startswith("proof.")


def test_another_package_under_this_name() -> None:
    guest = Guest(name="distcc_node")
    signed = sign_guest_package(guest.package(), KEY)
    assert codes(judged(signed, guest.files, name="base")) == ["package.name"]

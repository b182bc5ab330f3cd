# SPDX-License-Identifier: GPL-3.0-or-later
"""One verdict on a package, its files and its proof, with every reason."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.guestpackage import inspect_package, report_json
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, sign_envelope
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.finding import Verdict

from guestparts import Guest

KEY = generate_private_key()
KEYS = [public_key(KEY)]
GUEST = Guest()
SIGNED = sign_guest_package(GUEST.package(), KEY)


def find(_: Any) -> Any:
    return GUEST.open()


def test_all_of_it_holds() -> None:
    report = inspect_package(SIGNED, KEYS, find, name="base", full=True)
    assert (report.verdict, report.findings) == (Verdict.AFFIRMING, ())
    assert (report.package, report.package_id, report.keyid) == (GUEST.package(), sha256(SIGNED), KEYS[0].keyid)
    assert report.proof is not None
    told = report_json(report)
    assert (told["verdict"], told["signed"], told["proven"]) == ("affirming", True, True)
    assert [item["reason"] for item in told["filters"]] == ["the daemon checks each request"]
    assert told["statement"]["predicate"]["name"] == "base"


def test_what_was_not_looked_at_makes_none() -> None:
    assert inspect_package(SIGNED, KEYS).verdict is Verdict.NONE
    looked = inspect_package(SIGNED, [], find)
    assert (looked.verdict, looked.keyid, looked.findings) == (Verdict.NONE, "", ())
    assert looked.package == GUEST.package()
    assert report_json(looked)["signed"] is False


def test_what_nobody_signed_is_not_read() -> None:
    def never(_: Any) -> Any:
        raise AssertionError("its files were asked for")

    report = inspect_package(SIGNED, [public_key(generate_private_key())], never)
    assert (report.verdict, report.package, report.keyid) == (Verdict.CONTRAINDICATED, None, "")
    assert [finding.code for finding in report.findings] == ["envelope.signature.invalid"]
    assert report_json(report)["statement"] == {}


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (b"{}", "envelope.malformed"),
        (sign_envelope("text/plain", GUEST.package().to_bytes(), KEY), "envelope.type"),
        (sign_envelope("application/vnd.in-toto+json", b"{}", KEY), "package.malformed"),
    ],
)
@pytest.mark.parametrize("keys", [KEYS, []])
def test_what_is_no_package(envelope: bytes, code: str, keys: Any) -> None:
    report = inspect_package(envelope, keys)
    assert (report.verdict, [finding.code for finding in report.findings]) == (Verdict.CONTRAINDICATED, [code])


def test_another_name() -> None:
    report = inspect_package(SIGNED, KEYS, find, name="distcc_node")
    assert [finding.code for finding in report.findings] == ["package.name"]


def test_a_debug_package() -> None:
    guest = Guest(variant="debug", types=("kernel_t", "daemon_t", "debug_t"))
    signed = sign_guest_package(guest.package(), KEY)
    refused = inspect_package(signed, KEYS, lambda _: guest.open())
    assert refused.verdict is Verdict.CONTRAINDICATED
    allowed = inspect_package(signed, KEYS, lambda _: guest.open(), allow_debug=True)
    assert (allowed.verdict, [item.code for item in allowed.findings]) == (Verdict.WARNING, ["package.debug"])


def test_every_reason_is_told() -> None:
    files = GUEST.open()
    del files["policy"], files["vmlinuz"]
    report = inspect_package(SIGNED, KEYS, lambda _: files, name="other")
    codes = [finding.code for finding in report.findings]
    assert codes == ["package.name", "package.part.missing", "package.part.missing"]
    assert report.proof is None


def test_keys_are_needed_to_verify() -> None:
    from ansible.module_utils.vouch.check.signature import verify_guest_package

    with pytest.raises(UsageError):
        verify_guest_package(SIGNED, [])

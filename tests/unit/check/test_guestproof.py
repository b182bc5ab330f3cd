# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy and proof of a guest against its package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.check.guestproof import check_proof, verify_policy
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.model.finding import Finding
from ansible.module_utils.vouch.model.grant import Network
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from guestparts import SERVICES, Guest

TCP, UDP = SERVICES


def refused(guest: Guest, **wanted: Any) -> tuple[Finding, ...]:
    with pytest.raises(EvidenceError) as caught:
        verify_policy(guest.package(**wanted), policy=guest.policy, proof=guest.proof)
    found: tuple[Finding, ...] = caught.value.findings
    return found


def test_what_is_built_is_proven() -> None:
    guest = Guest()
    proven = verify_policy(guest.package(network=Network(services=(TCP,))), policy=guest.policy, proof=guest.proof)
    assert proven.intent == guest.intent
    assert proven.intent.filters[0].reason == "the daemon checks each request"


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("semantic_sha256", b"\x01" * 32, "digest of the policy's meaning"),
        ("version", 32, "policy version 32"),
        ("boolean_mode", "current", "boolean mode current"),
        ("flow_map", b"\x01" * 32, "digest of the flow map"),
        ("intent_sha256", b"\x01" * 32, "digest of the intent"),
        ("filters", 0, "filters 0"),
        ("entries", 1, "entries 1"),
    ],
)
def test_the_package_may_not_say_otherwise(member: str, value: Any, told: str) -> None:
    (finding,) = refused(Guest(facts={member: value}))
    assert finding.code == "package.policy.mismatch"
    assert finding.expected is not None
    assert finding.expected.startswith(told)


def test_a_service_needs_a_filter_of_its_protocol() -> None:
    (finding,) = refused(Guest(), network=Network(services=(TCP, UDP)))
    assert (finding.code, finding.actual) == ("package.service.unfiltered", "filters for tcp_socket")


def test_a_filter_that_reads_every_protocol_is_enough() -> None:
    guest = Guest()
    proven = verify_policy(guest.package(), policy=guest.policy, proof=guest.proof)
    (reads,) = guest.intent.filters
    intent = replace(guest.intent, filters=(replace(reads, class_name="packet_socket"),))
    package = Guest(facts={"intent_sha256": intent.digest()}).package(network=Network(services=SERVICES))
    assert list(check_proof(package, replace(proven, intent=intent), parse_policy(guest.policy))) == []


def test_a_production_guest_has_no_domain_for_a_shell() -> None:
    guest = Guest(types=("kernel_t", "daemon_t", "debug_t"))
    (finding,) = refused(guest)
    assert finding.code == "package.policy.debug"
    verify_policy(guest.package(variant="debug"), policy=guest.policy, proof=guest.proof)

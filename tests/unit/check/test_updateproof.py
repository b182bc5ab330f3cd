# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of update proofs: whole ones, and one fault for every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.check.signature import VerifiedRelease, verify_release
from ansible.module_utils.vouch.check.updateproof import verify_updates
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.model.finding import deny

from sim.attester import SimRelease, release_key, sha256
from sim.updates import UpdatedHost

FIRST, SECOND, THIRD = (
    SimRelease(name=f"dom0-{n}", xen_efi=b"xen.efi %d" % n, root_img=b"root %d" % n) for n in (1, 2, 3)
)
RELEASES = {
    item.release_id: item for item in (verify_release(r.envelope, [release_key()]) for r in (FIRST, SECOND, THIRD))
}
IDS = tuple(RELEASES)


def release_of(wanted: bytes) -> VerifiedRelease:
    if wanted not in RELEASES:
        raise deny("release.unknown", "host")
    return RELEASES[wanted]


def verify(host: UpdatedHost, running: bytes, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "ak": check_ak_public(host.tpm.public),
        "host_id": host.host_id,
        "installed": IDS[0],
        "running": running,
        "release_of": release_of,
        "max_failed_attempts": 0,
        **changes,
    }
    verify_updates(host.updates, **arguments)


def updated_twice() -> UpdatedHost:
    host = UpdatedHost(FIRST)
    host.update(SECOND)
    host.update(THIRD)
    return host


def test_an_installed_host_has_no_chain() -> None:
    verify(UpdatedHost(FIRST), IDS[0])


def test_every_step_is_made_by_the_release_before_it() -> None:
    verify(updated_twice(), IDS[2])


def test_while_an_update_waits_the_release_before_it_runs() -> None:
    host = UpdatedHost(FIRST)
    host.stage(SECOND)
    verify(host, IDS[0])
    verify(host, IDS[1])
    host.run(SECOND)
    host.stage(THIRD)
    verify(host, IDS[1])


def test_what_ran_two_steps_ago_is_not_where_the_chain_leads() -> None:
    with pytest.raises(EvidenceError) as caught:
        verify(updated_twice(), IDS[0])
    assert caught.value.code == "update.chain"


def test_failed_boot_attempts_are_those_of_the_policy() -> None:
    host = UpdatedHost(FIRST)
    host.failed_attempts = 1
    host.boot()
    host.stage(SECOND)
    verify(host, IDS[1], max_failed_attempts=1)
    with pytest.raises(EvidenceError) as caught:
        verify(host, IDS[1])
    assert caught.value.code == "update.boot"


def forged(host: UpdatedHost, **changes: Any) -> None:
    """Replace the last step by a statement with other members, quoted as the running release would."""
    statement = host.statement_of(SECOND)._replace(**changes)
    host.updates[-1:] = [host.prove(statement)]


def staged() -> UpdatedHost:
    host = UpdatedHost(FIRST)
    host.stage(SECOND)
    return host


def by_another_tpm(host: UpdatedHost) -> None:
    host.updates[-1] = UpdatedHost(FIRST, seed=1).prove(host.statement_of(SECOND))


def by_another_boot(host: UpdatedHost) -> None:
    host.boot(b"\x01" * 32)
    host.updates[-1] = host.prove(host.statement_of(SECOND))


def in_the_installer(host: UpdatedHost) -> None:
    statement = host.statement_of(SECOND)
    host.install()
    host.updates[-1] = host.prove(statement)


def other_values(host: UpdatedHost) -> None:
    last = host.updates[-1]
    host.updates[-1] = replace(last, pcrs=last.pcrs.extended(4, bytes(32)))


def other_statement(host: UpdatedHost) -> None:
    last = host.updates[-1]
    host.updates[-1] = replace(last, statement=host.statement_of(SECOND)._replace(slot="a").to_bytes())


def a_proof_of_evidence(host: UpdatedHost) -> None:
    evidence = host.evidence()
    last = host.updates[-1]
    host.updates[-1] = replace(last, attest=evidence.attest, signature=evidence.signature, pcrs=evidence.pcrs)


def no_statement(host: UpdatedHost) -> None:
    data = b"{}"
    attest, signature = host.tpm.quote(sha256(data), range(10))
    host.updates[-1] = replace(host.updates[-1], statement=data, attest=attest, signature=signature)


FAULTS: dict[str, tuple[Callable[[UpdatedHost], object], str]] = {
    "1 by another TPM": (by_another_tpm, "update.quote"),
    "1 other values": (other_values, "update.quote"),
    "1 a quote of evidence": (a_proof_of_evidence, "update.quote"),
    "1 another statement": (other_statement, "update.statement.digest"),
    "1 no statement": (no_statement, "update.statement.malformed"),
    "2 another host": (lambda h: forged(h, host_id=UpdatedHost(seed=2).host_id), "update.host"),
    "2 a release that did not run": (lambda h: forged(h, before=IDS[2]), "update.chain"),
    "2 a step left out": (lambda h: (h.run(SECOND), h.updates.pop(), h.stage(THIRD)), "update.chain"),
    "2 a step twice": (lambda h: h.updates.append(h.updates[0]), "update.chain"),
    "2 no step": (lambda h: h.updates.clear(), "update.chain"),
    "3 another image ran": (by_another_boot, "update.boot"),
    "3 made in the installer": (in_the_installer, "update.boot"),
    "4 a release we do not have": (lambda h: forged(h, release_id=bytes(32)), "release.unknown"),
    "4 another xen.efi": (lambda h: forged(h, xen_efi_sha256=bytes(32)), "update.files"),
    "4 another root image": (lambda h: forged(h, root_img_sha256=bytes(32)), "update.files"),
    "4 another boot file": (lambda h: forged(h, authenticode_sha256=bytes(32)), "update.files"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_step_refuses(fault: str) -> None:
    change, code = FAULTS[fault]
    host = staged()
    change(host)
    with pytest.raises(EvidenceError) as caught:
        verify(host, IDS[1])
    assert caught.value.code == code

# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the host takes to check the proof of a guest's policy: of the guests in the image store, not of a toy."""

from __future__ import annotations

import time
from pathlib import Path

from .harness import REPEATS, Measured, NotMeasuredError, at_most, row
from .rows_image import store


def shipped() -> dict[str, tuple[bytes, bytes]]:
    """Return policy and proof of each guest package in the image store, the newest of each name.

    Raises:
        NotMeasuredError: when there is none.
    """
    from vouch.errors import ParseError
    from vouch.model.package import POLICY, PROOF, GuestPackage
    from vouch.parse.envelope import parse_envelope

    found: dict[str, tuple[bytes, bytes]] = {}
    files: list[Path] = sorted(store().rglob("*.dsse.json"), key=lambda path: path.stat().st_mtime)
    for file in files:
        try:
            package = GuestPackage.from_bytes(parse_envelope(file.read_bytes()).payload)
        except ParseError:
            continue  # Releases lie in the same store and are of other types.
        blobs = [store() / "sha256" / package.parts[name].sha256.hex() for name in (POLICY, PROOF)]
        if all(blob.is_file() for blob in blobs):
            found[package.name] = blobs[0].read_bytes(), blobs[1].read_bytes()
    if not found:
        raise NotMeasuredError(f"no guest package in {store()}; playbooks/build_guests.yml builds them")
    return found


@row("policy.proof", "s", target=at_most(0.2))
def policy_proof() -> Measured:
    """Measure the slowest proof check of the shipped guests, the policy's parsing and digests included."""
    from vouch.check.flowproof import verify_proof

    slowest, notes = 0.0, []
    for name, (policy, proof) in sorted(shipped().items()):
        best = float("inf")
        for _ in range(REPEATS):
            began = time.process_time()
            verified = verify_proof(proof, policy=policy)
            best = min(best, time.process_time() - began)
        slowest = max(slowest, best)
        notes.append(f"{name} {best:.3f} s, {len(verified.intent.filters)} filters, {len(policy):,} bytes of policy")
    return Measured(value=slowest, note="; ".join(notes))

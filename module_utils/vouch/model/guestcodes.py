# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of findings about guests: their packages, their policies, and the proofs about those. Part of ``codes.py``."""

from __future__ import annotations

from .finding import Severity

DENY = Severity.DENY

_FETCH_GUEST = "fetch it again from the image store; if it stays, build the guest image again"
_REBUILD_GUEST = "build the guest image and sign its package again"
_CHANGED = "keep the guest paused and look at it; only a new start from its package is to be trusted"
_PROOF = "check the policy with vouch-cwlite and make the proof again"

GUEST_CODES: tuple[tuple[str, Severity, str, str], ...] = (
    # What a guest policy is checked for.
    (
        "intent.booleans",
        DENY,
        "The intent's boolean mode is neither all nor current.",
        "write all, unless the policy needs one setting",
    ),
    ("intent.duplicate", DENY, "A type, filter or entry of the intent stands twice.", "join the two"),
    ("intent.entry.source", DENY, "An entry begins at a trusted type, which needs none.", "take the entry out"),
    ("intent.entry.target", DENY, "An entry leads to a type that is not trusted.", "correct the type's name"),
    ("intent.filter.subject", DENY, "A filter is of a type that is not trusted.", "correct the type's name"),
    ("intent.overlap", DENY, "A type is of the TCB and an application.", "keep it in one of the two"),
    ("intent.tcb.empty", DENY, "The intent trusts no type.", "name at least the kernel's and init's"),
    # Guest packages.
    (
        "package.cmdline.refused",
        DENY,
        "The kernel's command line holds a word that opens a shell, starts another program or weakens the guest.",
        _REBUILD_GUEST,
    ),
    ("package.cmdline.repeated", DENY, "A parameter stands twice on the kernel's command line.", _REBUILD_GUEST),
    (
        "package.cmdline.required",
        DENY,
        "The kernel's command line lacks a word that a vouched guest needs, or gives it another value.",
        _REBUILD_GUEST,
    ),
    ("package.cmdline.verity", DENY, "The kernel's command line names another root than the package.", _REBUILD_GUEST),
    ("package.malformed", DENY, "A signed file holds no guest package.", "build and sign the package again"),
    ("package.name", DENY, "The package has another name than the one that was asked for.", "look who renamed it"),
    ("package.part.digest", DENY, "A file of the guest is another than the package names.", _FETCH_GUEST),
    ("package.part.missing", DENY, "A file of the guest is not there.", _FETCH_GUEST),
    ("package.part.size", DENY, "A file of the guest is longer or shorter than the package says.", _FETCH_GUEST),
    (
        "package.policy.debug",
        DENY,
        "A production package has the policy of a debug guest, with a domain for a root shell.",
        _REBUILD_GUEST,
    ),
    (
        "package.policy.mismatch",
        DENY,
        "The package says something else of the policy or its proof than they are.",
        _REBUILD_GUEST,
    ),
    (
        "package.profile.kernel",
        DENY,
        "The profile for introspection is not the one that the package's kernel gives.",
        _REBUILD_GUEST,
    ),
    ("package.profile.malformed", DENY, "The profile for introspection cannot be read.", _REBUILD_GUEST),
    (
        "package.profile.mismatch",
        DENY,
        "The package says something else of the profile for introspection than it does itself.",
        _REBUILD_GUEST,
    ),
    (
        "package.service.unfiltered",
        DENY,
        "A port may be reached without IPsec, and no filter of the policy's intent reads such sockets.",
        "declare the filter with its reason, or take the service out",
    ),
    (
        "package.verity.block",
        DENY,
        "A block of the root image does not hash to what the tree says.",
        _REBUILD_GUEST,
    ),
    (
        "package.verity.root",
        DENY,
        "The topmost block of the root image's tree does not hash to the root hash.",
        _REBUILD_GUEST,
    ),
    ("package.verity.size", DENY, "The root image is not as long as its data and their tree.", _REBUILD_GUEST),
    # The memory of a running guest's kernel.
    (
        "guest.rodata.changed",
        DENY,
        "Read-only data of the guest's kernel are other than in its file.",
        _CHANGED,
    ),
    (
        "guest.text.changed",
        DENY,
        "Code of the guest's kernel is other than in its file, and not what the kernel may write there itself.",
        _CHANGED,
    ),
    # The proof that a guest policy keeps to its intent.
    ("proof.entry", DENY, "An untrusted subject may start or become a trusted one, and no entry says so.", _PROOF),
    ("proof.intent", DENY, "The proof is for another intent than the one asked for.", _PROOF),
    ("proof.kernel", DENY, "An untrusted subject may change the kernel or the policy.", _PROOF),
    ("proof.labelling", DENY, "The labelling of a proof is not what untrusted subjects may write.", _PROOF),
    ("proof.malformed", DENY, "The proof cannot be read.", _PROOF),
    ("proof.map", DENY, "The proof was made with another map from permissions to flows.", "build with this release"),
    ("proof.name", DENY, "The intent or the labelling names what the policy does not have.", "correct the name"),
    ("proof.permissive", DENY, "A type of the policy is permissive: nothing is enforced for it.", _PROOF),
    ("proof.policy", DENY, "The proof is for another policy.", _PROOF),
    ("proof.policy.malformed", DENY, "The policy of a guest cannot be read.", _PROOF),
    (
        "proof.read",
        DENY,
        "A trusted subject reads what an untrusted one may have written, without a filter.",
        _PROOF,
    ),
    ("proof.relabel", DENY, "A trusted subject may give a written object a clean type, without a filter.", _PROOF),
    ("proof.semantic", DENY, "The digest of the policy's rules in a proof is another one.", _PROOF),
    ("proof.unknown", DENY, "The policy allows what it does not know.", "compile it with handle_unknown deny"),
    ("proof.uses", DENY, "The proof says something else about what its filters and entries are needed for.", _PROOF),
    ("proof.write", DENY, "An untrusted subject acts on a trusted one, and no filter allows it.", _PROOF),
    ("proof.intent.digest", DENY, "The digest in a proof is not that of its intent.", "make the proof again"),
    ("proof.intent.form", DENY, "The intent in a proof is not in its one form.", "make the proof again"),
    # A guest's SELinux policy.
    (
        "policy.permissive",
        DENY,
        "What a permissive type does is only logged, never denied.",
        "take the type off the list",
    ),
    (
        "policy.unknown-allowed",
        DENY,
        "The policy lets through every permission that the kernel knows and the policy does not.",
        "build it with handle_unknown deny",
    ),
)
"""Code, severity, meaning, and what a person does about it."""

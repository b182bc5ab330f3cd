# SPDX-License-Identifier: GPL-3.0-or-later
"""What a package has to say of itself: the command line word by word, its tree's size, its variant."""

from __future__ import annotations

import pathlib
import re
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.check.packagerules import check_statement, read_verified, verify_statement
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.model.finding import Severity
from ansible.module_utils.vouch.model.image import IN_TOTO_PAYLOAD_TYPE
from ansible.module_utils.vouch.model.package import Part

from guestparts import WORDS, Guest

ROOT = pathlib.Path(__file__).resolve().parents[3]
GUEST = Guest()
VERITY = GUEST.tree.verity.word


def codes(*words: str, verity: str = VERITY) -> set[str]:
    """Return the codes of a command line of these words."""
    package = GUEST.package(cmdline=" ".join([*words, verity] if verity else words))
    return {finding.code for finding in check_statement(package)}


def test_what_is_built_holds() -> None:
    assert check_statement(GUEST.package()) == ()
    verify_statement(GUEST.package())


@pytest.mark.parametrize(
    "word",
    [
        "console=ttyS0",
        "panic=10",
        "loglevel=4",
        "audit=0",
        "lsm=lockdown,yama,selinux,integrity",
        "nokaslr",
        "printk.time=1",
    ],
)
def test_other_words_are_the_owners_choice(word: str) -> None:
    assert codes(*WORDS, word) == set()


def test_the_last_word_may_end_the_line() -> None:
    assert codes(*WORDS, VERITY, "--", verity="") == set()
    assert codes(*WORDS, VERITY, "--", "quieter", verity="") == {"package.cmdline.refused"}


@pytest.mark.parametrize("word", [word for word in WORDS if word not in ("console=hvc0", "quiet")])
def test_each_required_word_is_needed(word: str) -> None:
    assert codes(*(item for item in WORDS if item != word)) == {"package.cmdline.required"}
    assert "package.cmdline.required" in codes(*(item if item != word else f"{word}0" for item in WORDS))


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("enforcing=0", "package.cmdline.required"),
        ("selinux=0", "package.cmdline.required"),
        ("security=apparmor", "package.cmdline.required"),
        ("lockdown=none", "package.cmdline.required"),
        ("module.sig-enforce=0", "package.cmdline.required"),
        ("lsm=yama,selinux", "package.cmdline.required"),
        ("loglevel=4 log-level=4 log_level=4", "package.cmdline.repeated"),
        ("vouch.verity=00,00,1", "package.cmdline.verity"),
    ],
)
def test_what_contradicts(word: str, code: str) -> None:
    assert codes(*WORDS, *word.split()) - {"package.cmdline.repeated"} <= {code}
    assert code in codes(*WORDS, *word.split())


REFUSED = (
    *("init=/bin/sh", "rdinit=/bin/sh", "rdinit", "single", "emergency", "rescue", "1", "S", "s", "-b", "break=mount"),
    *("systemd.debug-shell", "systemd.debug_shell=1", "systemd.debug_shell=hvc0", "rd.systemd.debug_shell", "rd.break"),
    *("systemd.unit=rescue.target", "systemd.wants=x", "systemd.run=/x", "systemd.run-success-action=exit"),
    *("systemd.setenv=LD_PRELOAD=/x", "systemd.set_credential=a:b", "systemd.mask=nftables.service", "kgdboc=hvc0"),
    *("apparmor=1", "ima=off", "ima-appraise=off", "initcall_blacklist=init_ima", "checkreqprot=1", "rodata=off"),
    *("mitigations=off", "nosmep", "root=/dev/xvda", "mount.usr=/dev/xvda", "initrd=/x", "strict-devmem=0"),
    *("sysctl.kernel.core_pattern=|/x", "sysctl.kernel.modprobe=/x", "noinitrd", "clearcpuid=smep"),
)


@pytest.mark.parametrize("word", REFUSED)
def test_refused_words(word: str) -> None:
    assert codes(*WORDS, word) == {"package.cmdline.refused"}


def test_the_document_names_words_as_the_rules_do() -> None:
    text = (ROOT / "docs" / "guests.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (must be there|refused)[^|]*\|(.*)\|$", text, re.MULTILINE)
    assert [kind for kind, _ in rows].count("refused") == 4
    for kind, row in rows:
        for word in re.findall(r"`([^`]+)`", row):
            if kind == "refused" and word != "console":
                assert codes(*WORDS, word) == {"package.cmdline.refused"}, word
            elif kind == "must be there" and "=" in word and not word.endswith("="):
                assert word in WORDS, word


def test_every_fault_is_named() -> None:
    package = GUEST.package(cmdline="init=/bin/sh enforcing=0")
    with pytest.raises(EvidenceError) as caught:
        verify_statement(package)
    told = [(finding.code, finding.expected) for finding in caught.value.findings]
    assert len(told) == 9
    assert ("package.cmdline.required", "lockdown=integrity or confidentiality, once") in told
    assert {finding.subject for finding in caught.value.findings} == {"package:base"}


def test_the_tree_has_the_size_of_the_image() -> None:
    package = GUEST.package()
    parts = {**package.parts, "root.img": replace(package.parts["root.img"], size_bytes=4096)}
    (finding,) = check_statement(replace(package, parts=parts))
    assert finding.code == "package.verity.size"
    assert isinstance(package.parts["root.img"], Part)


def test_debug_is_a_denial_unless_allowed() -> None:
    package = GUEST.package(variant="debug")
    (finding,) = check_statement(package)
    assert (finding.code, finding.severity) == ("package.debug", Severity.DENY)
    (finding,) = check_statement(package, allow_debug=True)
    assert finding.severity is Severity.WARN
    verify_statement(package, allow_debug=True)


def test_only_a_package_becomes_one() -> None:
    payload = GUEST.package().to_bytes()
    assert read_verified(b"file", IN_TOTO_PAYLOAD_TYPE, payload, "key").package == GUEST.package()
    for kind, data, code in (
        ("text/plain", payload, "envelope.type"),
        (IN_TOTO_PAYLOAD_TYPE, b"{}", "package.malformed"),
    ):
        with pytest.raises(EvidenceError) as caught:
            read_verified(b"file", kind, data, "key")
        assert caught.value.code == code

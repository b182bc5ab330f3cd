# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest policy of role ``guest_image``: rendered from its description, compiled, and held to what it promises."""

from __future__ import annotations

import functools
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import jinja2
import pytest
import yaml
from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.model.integrity import Intent
from ansible.module_utils.vouch.parse.sepolicy import PolicyDb, parse_policy

ROLE = pathlib.Path(__file__).resolve().parents[3] / "roles" / "guest_image"
DESCRIPTION: dict[str, Any] = yaml.safe_load((ROLE / "vars" / "policy.yml").read_text(encoding="utf-8"))[
    "__guest_image_policy"
]
IMAGES = list(itertools.product(DESCRIPTION["guests"], DESCRIPTION["variants"]))
POLICY_VERSION = 33
"""What Linux 6.12 writes."""

MAX_FILTERS = {"production": 8, "debug": 16}
MAX_TYPES = 100
CHANGES = ["append", "create", "execmod", "link", "relabelto", "rename", "setattr", "unlink", "write"]
RUNS = ["entrypoint", "execmod", "execute", "execute_no_trans"]


def render(template: str, guest: str, variant: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["to_json"] = json.dumps
    return environment.get_template(f"policy/{template}.j2").render(
        policy=DESCRIPTION, policy_guest=guest, policy_variant=variant
    )


def domains(guest: str, variant: str) -> list[str]:
    return [*DESCRIPTION["guests"][guest], *DESCRIPTION["variants"][variant]]


def intent(guest: str, variant: str) -> Intent:
    return Intent.from_json(yaml.safe_load(render("intent.yml", guest, variant)))


def run_compiler(text: str) -> tuple[bytes, str]:
    """Return the policy and what the compiler said; no policy when it refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "vouch.cil").write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["secilc", "-c", str(POLICY_VERSION), "-o", "policy", "-f", os.devnull, "vouch.cil"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        policy = (folder / "policy").read_bytes() if done.returncode == 0 else b""
        return policy, done.stdout + done.stderr


def need_compiler() -> None:
    if not shutil.which("secilc"):
        reason = "secilc is not installed (package secilc)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@functools.cache
def compiled(guest: str, variant: str) -> PolicyDb:
    policy, said = run_compiler(render("vouch.cil", guest, variant))
    assert policy, said
    return parse_policy(policy)


@pytest.fixture(params=IMAGES, ids="-".join)
def image(request: pytest.FixtureRequest) -> tuple[str, str]:
    guest, variant = request.param
    return guest, variant


@pytest.fixture
def policy(image: tuple[str, str]) -> PolicyDb:
    need_compiler()
    return compiled(*image)


def types_with(policy: PolicyDb, class_name: str, permissions: list[str]) -> dict[str, set[str]]:
    """Return object type to the domains that may use one of ``permissions`` on it."""
    tclass = policy.classes[class_name]
    mask = sum(1 << tclass.permissions[name] for name in permissions if name in tclass.permissions)
    found: dict[str, set[str]] = {}
    for _, (source, target, value, _, data) in policy.rules.allows():
        if value == tclass.value and data & mask:
            for item in names(policy, target):
                found.setdefault(item, set()).update(names(policy, source))
    return found


def names(policy: PolicyDb, symbol: int) -> Iterator[str]:
    members = policy.members(symbol)
    return (name for value, name in policy.types.items() if members >> value & 1)


@pytest.mark.parametrize("name", DESCRIPTION["domains"])
def test_domain_is_described(name: str) -> None:
    domain = DESCRIPTION["domains"][name]
    assert set(domain) <= {"about", "level", "programs", "started_by", "logs", "places", "rules", "filters"}
    assert domain["about"].strip()
    assert domain["level"] in ("tcb", "application", "low")
    assert set(domain.get("started_by", [])) <= set(DESCRIPTION["domains"])
    assert not domain.get("logs") or domain["level"] != "low", "an untrusted domain must not write to the journal"
    for item in domain.get("filters", []):
        assert set(item) <= {"subject", "object", "class", "permissions", "reason"}
        assert len(item["reason"].split()) >= 10, "a reviewer has to know why"


def test_every_rule_file_is_used() -> None:
    shared = {"base", "classes", "domains", "files", "vouch"}
    there = {path.name.removesuffix(".cil.j2") for path in (ROLE / "templates" / "policy").glob("*.cil.j2")}
    assert there == shared | {item["rules"] for item in DESCRIPTION["domains"].values() if "rules" in item}


def test_intent_has_the_levels_and_few_filters(image: tuple[str, str]) -> None:
    found = intent(*image)
    levels = {f"{name}_t": DESCRIPTION["domains"][name]["level"] for name in domains(*image)}
    assert found.tcb == {name for name, level in levels.items() if level == "tcb"}
    assert found.applications == {name for name, level in levels.items() if level == "application"}
    assert found.boolean_mode == "all"
    assert not found.entries
    assert 0 < len(found.filters) <= MAX_FILTERS[image[1]]


def test_policy_passes_and_every_filter_is_needed(image: tuple[str, str], policy: PolicyDb) -> None:
    verdict = check_policy(policy, intent(*image))
    assert [str(item) for item in verdict.conflicts()] == []
    assert verdict.faults == ()
    assert verdict.passed
    for item, used in zip(verdict.intent.filters, verdict.filter_uses, strict=True):
        assert used == item.permissions, f"{item.place}: the policy uses {used}"


def test_policy_is_compact_and_closed(image: tuple[str, str], policy: PolicyDb) -> None:
    assert policy.version == POLICY_VERSION
    assert policy.handle_unknown == "deny"
    assert policy.permissive == ()
    assert not policy.booleans
    assert not policy.mls
    assert set(policy.users) == {"system_u"}
    assert len(policy.types) <= MAX_TYPES
    high = {f"{name}_t" for name in domains(*image) if DESCRIPTION["domains"][name]["level"] != "low"}
    started = types_with(policy, "process", ["transition", "dyntransition"])
    assert not {target for target, sources in started.items() if target in high and sources - high}


def test_nothing_writable_is_executable(policy: PolicyDb) -> None:
    written = types_with(policy, "file", CHANGES)
    run = types_with(policy, "file", RUNS)
    assert {"lib_t", "init_exec_t"} <= set(run)
    assert {"run_t", "journal_t"} <= set(written)
    assert not set(written) & set(run)
    assert not types_with(policy, "process", ["execmem", "execstack", "execheap"])


def test_only_named_programs_run_the_interpreter(policy: PolicyDb) -> None:
    """Python runs in the domain of the script it is started for; without one nobody can start it."""
    run = types_with(policy, "file", ["execute", "execmod"]).get("python_t", set())
    assert {"authority_t", "init_t"} <= run <= {"authority_t", "builder_t", "dispatcher_t", "init_t", "notary_t"}
    # A host has to find it named as their program; to enter by it, somebody would have to choose the domain.
    assert types_with(policy, "file", ["entrypoint"])["python_t"] == run - {"init_t"}
    assert "python_t" not in types_with(policy, "file", ["execute_no_trans"])
    assert not types_with(policy, "process", ["setexec"])


def test_policy_cannot_be_switched_off(policy: PolicyDb) -> None:
    assert not types_with(policy, "security", ["load_policy", "setenforce", "setbool", "setsecparam"])
    assert not types_with(policy, "system", ["module_load"])
    assert not types_with(policy, "capability", ["sys_module", "sys_rawio"])
    assert not types_with(policy, "capability2", ["mac_admin", "mac_override"])


def test_file_contexts_name_types_of_the_policy(image: tuple[str, str], policy: PolicyDb) -> None:
    seen = []
    for line in render("file_contexts", *image).splitlines():
        path, *kind, label = line.split()
        re.compile(path)
        assert kind in ([], ["--"], ["-d"], ["-c"], ["-b"])
        assert label == "<<none>>" or label.removeprefix("system_u:object_r:") in policy.types.values()
        seen.append((path, *kind))
    assert len(seen) == len(set(seen))


MUTATIONS = {
    "writable library": "(allow cc_t lib_t (file (write)))",
    "program in a writable place": "(allow cc_t jobs_t (file (execute)))",
    "generated code": "(allow cc_t self (process (execmem)))",
    "enforcing switched off": "(allow init_t security_t (security (setenforce)))",
    "another policy": "(allow init_t security_t (security (load_policy)))",
    "module after the initrd": "(allow init_t usr_t (system (module_load)))",
    "untrusted domain starts a trusted one": "(allow cc_t charon_t (process (transition)))",
    "untrusted domain with a capability": "(allow cc_t self (capability (net_admin)))",
}


@pytest.mark.parametrize("rule", MUTATIONS.values(), ids=MUTATIONS)
def test_compiler_refuses(rule: str) -> None:
    need_compiler()
    policy, said = run_compiler(render("vouch.cil", "distcc_node", "production") + rule)
    assert not policy
    assert "neverallow" in said


CONFLICTS = {
    "compiler logs": ("(allow cc_t journald_t (unix_dgram_socket (sendto)))", "C2"),
    "compiler writes what init reads": ("(allow cc_t run_t (file (write)))", "C1"),
    "compiler takes over a link": ("(allow cc_t usr_t (lnk_file (create)))", "C1"),
    "compiler asks the port authority": ("(allow cc_t authority_t (unix_stream_socket (connectto)))", "C2"),
    "journald on the network": ("(allow journald_t self (udp_socket (read)))", "C1"),
}


@pytest.mark.parametrize(("rule", "kind"), CONFLICTS.values(), ids=CONFLICTS)
def test_check_finds_one_rule_too_many(rule: str, kind: str) -> None:
    need_compiler()
    policy, said = run_compiler(render("vouch.cil", "distcc_node", "production") + rule)
    assert policy, said
    verdict = check_policy(parse_policy(policy), intent("distcc_node", "production"))
    assert not verdict.passed
    assert kind in {item.kind for item in verdict.conflicts()}

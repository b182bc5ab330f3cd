# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin as Ansible runs it: groups by worth, errors that stop, hosts that cannot talk themselves in."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import pytest
import sqlalchemy
import yaml
from ansible.module_utils.vouch.make.sign import public_pem
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import Standing
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store

from standingparts import KEY, OTHER_KEY, host_id, sealed, standing
from thorough import some

ROOT = pathlib.Path(__file__).resolve().parents[3]
NOW_S = int(time.time())


def fresh(number: int, guest: str = "", **changes: Any) -> Standing:
    """Return an affirming standing of this moment."""
    return standing(number, guest, **{"issued_at_s": NOW_S, "expires_at_s": NOW_S + 600, **changes})


class Site:
    """An inventory folder with a store beside it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        (folder / "inventory").mkdir()
        (folder / "appraiser.pub").write_bytes(public_pem(KEY))
        (folder / "ansible.cfg").write_text(
            f"[defaults]\ninventory_plugins = {ROOT}/inventory_plugins\nroles_path = {ROOT}/roles\n"
            "inject_facts_as_vars = False\n[inventory]\nany_unparsed_is_failed = True\n"
        )
        self.hosts({"h1": {}, "h2": {}}, {})
        self.source()

    def hosts(self, measured: dict[str, Any], guests: dict[str, Any], **others: Any) -> None:
        children = {"measured_hosts": {"hosts": measured}, "guests": {"hosts": guests}, **others}
        (self.folder / "inventory/hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}))

    def source(self, **options: Any) -> None:
        options = {
            "plugin": "attestation",
            "store": "sqlite:///../store.db",
            "appraiser_keys": ["../appraiser.pub"],
            **options,
        }
        (self.folder / "inventory/verdicts.attestation.yml").write_text(yaml.safe_dump(options))

    def put(self, *standings: Standing, key: Any = KEY) -> None:
        database = open_store(f"sqlite:///{self.folder}/store.db", make=True)
        ResultStore(database).put(sealed(*standings, key=key))
        database.close()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        program = pathlib.Path(sys.executable).parent / command[0]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return subprocess.run(
            [str(program), "-i", str(self.folder / "inventory"), *command[1:]],
            env={**environment, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder)},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def list(self) -> dict[str, Any]:
        done = self.run("ansible-inventory", "--list")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def groups(self) -> dict[str, str]:
        """Return host to its one group."""
        return groups_of(self.list())


def groups_of(listed: dict[str, Any]) -> dict[str, str]:
    """Return host to its one group, of an inventory's listing."""
    found: dict[str, str] = {}
    for group, content in listed.items():
        if group.startswith("attestation_"):
            for host in content.get("hosts", []):
                assert host not in found, f"{host} is in two groups"
                found[host] = group.removeprefix("attestation_")
    return found


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


def test_each_host_is_in_the_one_group_of_its_worth(site: Site) -> None:
    site.hosts(
        {f"h{number}": {} for number in range(1, 8)},
        {"web": {"guest_on": "h1"}, "other": {"guest_on": "h1", "guest_name": "db"}, "lost": {"guest_on": "h7"}},
    )
    site.put(
        fresh(1),
        fresh(1, "web"),
        fresh(1, "db", verdict=Verdict.CONTRAINDICATED, reasons=("guest.log.violation",)),
        fresh(2, verdict=Verdict.WARNING),
        fresh(3, verdict=Verdict.CONTRAINDICATED),
        fresh(4, issued_at_s=NOW_S - 700, expires_at_s=NOW_S - 100),
        fresh(5, verdict=Verdict.NONE, stage="unreached", reasons=("ssh.unreachable",)),
        fresh(6, issued_at_s=NOW_S + 4000, expires_at_s=NOW_S + 5000),
        fresh(99),
    )
    assert site.groups() == {
        "h1": "affirming",
        "web": "affirming",
        "other": "contraindicated",
        "lost": "none",
        "h2": "warning",
        "h3": "contraindicated",
        "h4": "expired",
        "h5": "none",
        "h6": "none",
        "h7": "none",
    }


def test_a_host_cannot_name_a_target(site: Site) -> None:
    site.hosts({"h1": {}}, {"web": {"guest_on": "h1"}}, controllers={"hosts": {"boss": {}}})
    site.put(fresh(1), fresh(1, "h2"), fresh(1, "boss"), fresh(1, "made-up"))
    found = site.list()
    assert "made-up" not in json.dumps(found)
    assert groups_of(found) == {"h1": "affirming", "web": "none"}


def test_another_machine_under_a_known_name_counts_for_nothing(site: Site) -> None:
    site.hosts({"h1": {"measured_host_id": host_id(1)}, "h2": {"measured_host_id": host_id(7)}}, {})
    site.put(fresh(1), fresh(2))
    assert site.groups() == {"h1": "affirming", "h2": "none"}


def test_hostile_text_stays_text(site: Site) -> None:
    evil = "{{ lookup('pipe', 'touch pwned') }}\x1b[31m<script>"
    site.put(fresh(1, verdict=Verdict.CONTRAINDICATED, reasons=(evil,)))
    play = [{"hosts": "h1", "gather_facts": False, "tasks": [{"debug": {"msg": "{{ attestation.reasons }}"}}]}]
    (site.folder / "play.yml").write_text(yaml.safe_dump(play))
    done = site.run("ansible-playbook", "-c", "local", "play.yml")
    assert done.returncode == 0, done.stdout
    assert "lookup(" in done.stdout
    assert not (site.folder / "pwned").exists()


def test_more_groups_of_what_is_shown(site: Site) -> None:
    site.source(
        keyed_groups=[{"key": "attestation.stage", "prefix": "stage"}], compose={"left": "attestation.expires_in_s"}
    )
    site.put(fresh(1), fresh(2, stage="boot", verdict=Verdict.CONTRAINDICATED))
    found = site.list()
    assert found["stage_done"]["hosts"] == ["h1"]
    assert found["stage_boot"]["hosts"] == ["h2"]
    assert found["_meta"]["hostvars"]["h1"]["left"] > 0


def _tampered(site: Site) -> None:
    database = open_store(f"sqlite:///{site.folder}/store.db")
    with database.writing() as connection:
        better = fresh(2).to_bytes()
        connection.execute(
            sqlalchemy.text("UPDATE standings SET standing=:s WHERE host_id=:h"), {"s": better, "h": host_id(2)}
        )
    database.close()


def _half(site: Site) -> None:
    database = open_store(f"sqlite:///{site.folder}/store.db")
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE heads"))
    database.close()


@pytest.mark.parametrize(
    ("code", "spoil"),
    some(
        [
            ("store.tampered", _tampered),
            ("store.damaged", lambda site: (site.folder / "store.db").write_bytes(b"x" * 9000)),
            ("store.missing", lambda site: (site.folder / "store.db").unlink()),
            ("store.unreachable", lambda site: site.source(store="postgresql://nobody@127.0.0.1:1/none")),
            ("store.schema.half", _half),
            ("store.tampered", lambda site: site.put(fresh(3), key=OTHER_KEY)),
            ("key.none", lambda site: site.source(appraiser_keys=[])),
            ("store.url", lambda site: site.source(store="mysql://host/x")),
            ("files.missing", lambda site: site.source(appraiser_keys=["none.pub"])),
        ]
    ),
)
def test_a_store_that_cannot_be_believed_is_an_error(site: Site, code: str, spoil: Any) -> None:
    site.put(fresh(1), fresh(2, verdict=Verdict.CONTRAINDICATED))
    spoil(site)
    done = site.run("ansible-inventory", "--list")
    assert done.returncode != 0
    assert code in done.stderr
    assert "attestation_affirming" not in done.stdout


def test_absence_may_be_declared_to_mean_none(site: Site) -> None:
    site.source(absent="none")
    assert site.groups() == {"h1": "none", "h2": "none"}


FORGER = """#!/bin/sh
echo '{"changed": false, "ansible_facts": {"attestation": {"status": "affirming", "verdict": "affirming"},
 "group_names": ["attestation_affirming"], "inventory_hostname": "h1"}, "ping": "pong"}'
"""


def test_a_host_that_forges_its_facts_stays_out(site: Site) -> None:
    forger = site.folder / "python"
    forger.write_text(FORGER)
    forger.chmod(0o755)
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    site.hosts({"h1": local, "h2": {**local, "ansible_python_interpreter": str(forger)}}, {})
    site.put(fresh(1), fresh(2, verdict=Verdict.CONTRAINDICATED))
    (site.folder / "secret.yml").write_text("word: open sesame\n")
    (site.folder / "hand_over.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "copy": {
                        "content": "{{ attestation_secret.word }}",
                        "dest": f"{site.folder}/got.{{{{ inventory_hostname }}}}",
                    },
                    "delegate_to": "localhost",
                    "vars": {"ansible_python_interpreter": sys.executable},
                }
            ]
        )
    )
    release = {"include_role": {"name": "attestation", "tasks_from": "release"}}
    (site.folder / "play.yml").write_text(
        yaml.safe_dump(
            [
                {"hosts": "all", "gather_facts": False, "tasks": [{"ping": None}]},
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "tasks": [{"include_role": {"name": "attestation", "tasks_from": "refresh"}}],
                },
                {"hosts": "attestation_affirming", "gather_facts": False, "tasks": [release]},
                {"hosts": "h2", "gather_facts": False, "tasks": [release]},
            ]
        )
    )
    done = site.run(
        "ansible-playbook",
        "play.yml",
        "-e",
        f"attestation_secret_file={site.folder}/secret.yml",
        "-e",
        f"attestation_release_tasks={site.folder}/hand_over.yml",
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "h2 is" in done.stdout, done.stdout + done.stderr
    assert (site.folder / "got.h1").read_text() == "open sesame"
    assert not (site.folder / "got.h2").exists()
    assert "sesame" not in done.stdout


def test_the_next_play_of_the_same_run_sees_what_was_found(site: Site) -> None:
    site.put(fresh(1), fresh(2))
    script = site.folder / "appraise.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(ROOT / 'tests')!r}]\n"
        "import ansible.module_utils as mu\n"
        f"mu.__path__.append({str(ROOT / 'module_utils')!r})\n"
        "from ansible.module_utils.vouch.model.finding import Verdict\n"
        "from ansible.module_utils.vouch.store.results import ResultStore\n"
        "from ansible.module_utils.vouch.store.schema import open_store\n"
        "from standingparts import sealed, standing\n"
        f"worse = standing(2, issued_at_s={NOW_S}, expires_at_s={NOW_S + 600}, verdict=Verdict.CONTRAINDICATED)\n"
        f"ResultStore(open_store('sqlite:///{site.folder}/store.db')).put(sealed(worse))\n"
    )
    show = {"debug": {"msg": "reached {{ inventory_hostname }}"}}
    (site.folder / "play.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "attestation_affirming",
                    "gather_facts": False,
                    "tasks": [{"debug": {"msg": "first {{ inventory_hostname }}"}}],
                },
                {
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "tasks": [
                        {"command": {"argv": [sys.executable, str(script)]}},
                        {"include_role": {"name": "attestation", "tasks_from": "refresh"}},
                    ],
                },
                {"hosts": "attestation_affirming", "gather_facts": False, "tasks": [show]},
            ]
        )
    )
    done = site.run("ansible-playbook", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first h2" in done.stdout
    assert "reached h1" in done.stdout
    assert "reached h2" not in done.stdout


def test_without_the_source_the_gate_does_not_open_silently(site: Site) -> None:
    (site.folder / "inventory/verdicts.attestation.yml").unlink()
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [{"include_role": {"name": "attestation", "tasks_from": "refresh"}}],
        }
    ]
    (site.folder / "play.yml").write_text(yaml.safe_dump(play))
    done = site.run("ansible-playbook", "play.yml")
    assert done.returncode == 2
    assert "No source of plugin attestation" in done.stdout


def test_facts_may_not_stand_in_front_of_the_inventory(site: Site) -> None:
    site.put(fresh(1), fresh(2))
    config = site.folder / "ansible.cfg"
    config.write_text(config.read_text().replace("inject_facts_as_vars = False", "inject_facts_as_vars = True"))
    done = site.run("ansible-inventory", "--list")
    assert done.returncode != 0
    assert "inject_facts_as_vars" in done.stderr

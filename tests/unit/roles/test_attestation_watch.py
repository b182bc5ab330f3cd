# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ``attestation_watch``: the files it writes are what the service reads; a second run changes nothing."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml
from ansible.module_utils.vouch.watch.config import read_config
from ansible.module_utils.vouch.watch.metrics import Metrics
from prometheus_client import generate_latest

from thorough import some

ROOT = pathlib.Path(__file__).resolve().parents[3]
HOST_ID = "5b0f2c1e-0d38-4c57-9a51-0c1f6a3d7701"


class Site:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        shared = {
            "measured_host_store": f"sqlite:///{folder}/state/store.db",
            "measured_host_enrolments": f"{folder}/enrolments",
            "measured_host_bundles": f"{folder}/bundles",
            "measured_host_ear_key": f"{folder}/ear.pem",
            "measured_host_private_key": f"{folder}/ssh",
            "measured_host_image_store": f"{folder}/images",
            "measured_host_release": f"{folder}/release.json",
            "measured_host_release_keys": [f"{folder}/release.pub"],
            "measured_host_installer_pcr4": ["ab" * 32],
        }
        hosts = {"h1": {"measured_host_id": HOST_ID, "measured_host_port": 2222}, "h2": {"ansible_host": "192.0.2.2"}}
        group = {"hosts": hosts, "vars": shared}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"measured_hosts": group}}}))
        self.variables: dict[str, Any] = {
            "attestation_watch_manage_service": False,
            "attestation_watch_config_dir": f"{folder}/etc",
            "attestation_watch_unit_dir": f"{folder}/units",
            "attestation_watch_python": sys.executable,
            "attestation_watch_source": str(ROOT),
        }
        (folder / "units").mkdir()

    def run(self, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["attestation_watch"]}]
        (self.folder / "play.yml").write_text(yaml.safe_dump(play))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        program = pathlib.Path(sys.executable).parent / "ansible-playbook"
        extra = json.dumps({**self.variables, "ansible_python_interpreter": sys.executable, **changes})
        return subprocess.run(
            [str(program), "-i", str(self.folder / "hosts.yml"), "-e", extra, *options, str(self.folder / "play.yml")],
            env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"localhost .*changed=(\d+)", done.stdout)
    assert found is not None
    return int(found[1])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """What one run of the role wrote."""
    site = Site(tmp_path_factory.mktemp("site"))
    assert changed(site.run()) == 3
    return site


def test_what_it_writes_is_what_the_service_reads(written: Site) -> None:
    path = written.folder / "etc/vouch-watch.json"
    assert path.stat().st_mode & 0o777 == 0o600
    config = read_config(path.read_bytes())
    assert [(host.name, host.address, host.port) for host in config.hosts] == [
        ("h1", "h1", 2222),
        ("h2", "192.0.2.2", 22),
    ]
    assert config.hosts[0].host_id == HOST_ID
    assert config.policy["ttl_s"] == 600
    assert config.releases == (f"{written.folder}/release.json",)
    unit = (written.folder / "units/vouch-watch.service").read_text()
    assert f"ReadWritePaths={written.folder}/state\n" in unit


def test_the_unit_is_one(written: Site) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("not installed: systemd-analyze")
    unit = written.folder / "units/vouch-watch.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "vouch-watch.service" not in done.stderr, done.stderr


@pytest.mark.thorough
def test_only_what_is_different_is_changed(site: Site) -> None:
    assert changed(site.run("--check", "--diff")) > 0
    assert not (site.folder / "etc").exists(), "check mode writes nothing"
    assert changed(site.run()) == 3
    assert changed(site.run()) == 0, "a second run changes nothing"
    assert changed(site.run(attestation_watch_interval=30)) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    some(
        [
            ({"attestation_watch_group": "nobody"}, "group nobody"),
            ({"measured_host_store": ""}, "measured_host_store"),
            ({"attestation_watch_interval": 600}, "interval"),
            ({"attestation_watch_jitter": 60}, "jitter"),
            ({"attestation_watch_hooks": [{"kind": "shell", "timeout_s": 1}]}, "shell"),
        ]
    ),
)
def test_what_cannot_end_well_is_refused(site: Site, change: dict[str, Any], word: str) -> None:
    done = site.run(**change)
    assert done.returncode != 0
    assert word in done.stdout
    assert not (site.folder / "etc").exists()


def test_alerts_and_dashboard_name_metrics_that_exist() -> None:
    known = set(re.findall(r"^# HELP (\w+)", generate_latest(Metrics().registry).decode(), re.MULTILINE))
    known |= {f"{name}_bucket" for name in known} | {f"{name}_created" for name in known}
    folder = ROOT / "docs" / "monitoring"
    alerts = yaml.safe_load((folder / "alerts.yml").read_text())
    dashboard = json.loads((folder / "dashboard.json").read_text())
    expressions = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 8
    for expression in expressions:
        used = set(re.findall(r"\bvouch_\w+", expression))
        assert used, expression
        assert used <= known, f"{expression}: no metric {used - known}"

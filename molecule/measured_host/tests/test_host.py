# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed hosts as they are: what they offer to the network, and, through the debug image, how dom0 is set up."""

from __future__ import annotations

import json
import subprocess

import pytest
from outcomes import KEY, OUTPUT, PORTS, STATE
from testinfra.host import Host

SSH_TIMEOUT_S = 180
LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp (Linux net/tcp_states.h)."""


def ssh(user: str, *options: str, machine: str = "mh1") -> subprocess.CompletedProcess[str]:
    """Return how a session at ``machine`` ended; its standard input is empty."""
    argv = ["ssh", "-F/dev/null", "-oBatchMode=yes", "-oIdentitiesOnly=yes", f"-oHostKeyAlias={machine}"]
    argv += [f"-oUserKnownHostsFile={OUTPUT / f'{machine}.known_hosts'}", "-oStrictHostKeyChecking=yes", f"-i{KEY}"]
    argv += [f"-p{PORTS[machine]}", *options, f"{user}@127.0.0.1"]
    return subprocess.run(
        [*argv, "id"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SSH_TIMEOUT_S, check=False
    )


@pytest.mark.parametrize(("machine", "verdict"), [("mh1", "affirming"), ("mh2", "warning")])
def test_last_result(machine: str, verdict: str) -> None:
    """After all attacks on its clones the host boots once more and is what it was."""
    result = json.loads((STATE / "results" / f"{machine}.result.json").read_text())
    assert result["verdict"] == verdict
    assert result["pcr4"]["found"] == result["pcr4"]["expected"]


def test_nobody_gets_a_shell() -> None:
    assert "uid=" not in ssh("vouch").stdout
    assert "uid=" not in ssh("vouch", "-tt").stdout


@pytest.mark.parametrize("user", ["root", "daemon", "nobody"])
def test_no_other_user_gets_in(user: str) -> None:
    done = ssh(user)
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_passwords_are_not_even_asked_for() -> None:
    done = ssh("vouch", "-oPubkeyAuthentication=no", "-oPreferredAuthentications=password,keyboard-interactive")
    assert "Permission denied (publickey)" in done.stderr


def test_the_shell_of_the_debug_image_would_have_been_seen() -> None:
    """Without this the tests above could pass for a wrong reason."""
    assert "uid=0(root)" in ssh("root", machine="mh2").stdout


def test_dom0_runs_under_xen(dom0: Host) -> None:
    assert dom0.file("/sys/hypervisor/type").content_string.strip() == "xen"
    assert "control_d" in dom0.file("/proc/xen/capabilities").content_string


def test_root_file_system_is_verified_and_read_only(dom0: Host) -> None:
    kind, options = mounts(dom0)["/"]
    assert kind == "erofs"
    assert "ro" in options
    assert dom0.file("/sys/block/dm-0/ro").content_string.strip() == "1"
    assert dom0.check_output("dmsetup table").split()[3] == "verity"
    assert "panic_on_corruption" in dom0.check_output("dmsetup table")
    assert dom0.run("touch /usr/lib/vouch/x").rc != 0


@pytest.mark.parametrize("place", ["/var", "/tmp", "/var/lib/vouch"])
def test_nothing_runs_from_writable_places(dom0: Host, place: str) -> None:
    assert {"nosuid", "nodev", "noexec"} <= mounts(dom0)[place][1]


def test_data_partition(dom0: Host) -> None:
    assert mounts(dom0)["/var/lib/vouch"][0] == "ext4"
    key = dom0.file("/var/lib/vouch/ssh/ssh_host_ed25519_key")
    assert (key.mode, key.user) == (0o600, "root")
    identity = json.loads(dom0.file("/var/lib/vouch/identity.json").content_string)
    (enrolment,) = [
        record
        for record in (json.loads(path.read_text()) for path in (STATE / "enrolments").glob("*.json"))
        if record["host_id"] == identity["host_id"]
    ]
    assert identity["release_id"] == enrolment["release_id"]


def test_only_ssh_listens(dom0: Host) -> None:
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in dom0.file(f"/proc/net/{table}").content_string.splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    assert ports == {22}
    assert "policy drop" in dom0.check_output("nft list chain inet vouch input")


def test_no_program_gives_rights_away(dom0: Host) -> None:
    assert dom0.check_output("find / -xdev -perm /6000 -type f") == ""


def test_nobody_has_a_password(dom0: Host) -> None:
    for line in dom0.file("/etc/shadow").content_string.splitlines():
        assert line.split(":")[1][:1] in ("!", "*"), line.split(":")[0]


@pytest.mark.parametrize("unit", ["vouch-verifier", "ssh", "xenstored", "xenconsoled"])
def test_services(dom0: Host, unit: str) -> None:
    assert dom0.check_output(f"systemctl is-active {unit}.service") == "active"


def test_no_service_failed(dom0: Host) -> None:
    assert dom0.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_xen_answers(dom0: Host) -> None:
    assert "Domain-0" in dom0.check_output("timeout 60 xl list")


def test_ima_measures_into_pcr_10(dom0: Host) -> None:
    first = dom0.check_output("head -n 1 /sys/kernel/security/ima/ascii_runtime_measurements").split()
    assert first[0] == "10"
    assert first[-1] == "boot_aggregate"


def mounts(host: Host) -> dict[str, tuple[str, set[str]]]:
    """Return place to type and options, the last mount of a place winning."""
    lines = (line.split() for line in host.file("/proc/mounts").content_string.splitlines())
    return {fields[1]: (fields[2], set(fields[3].split(","))) for fields in lines}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that takes an unconfirmed release back, run by a shell with everything it touches in a folder."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from conftest import ROOT

SCRIPTS = ROOT / "roles" / "host_image" / "files"
BEFORE = "ab" * 32


class Host:
    """What the script sees, and a trace of what it does."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.note = folder / "note"
        (folder / "register").write_text("CD" * 32 + "\n")
        (folder / "uptime").write_text("100.25 50.00\n")
        (folder / "console").write_text("")
        (folder / "sysrq").write_text("")
        (folder / "log").write_text("")

    def run(self, *, confirmed_while_asleep: bool = False) -> list[str]:
        script = (SCRIPTS / "trial").read_text()
        gone = f"rm -f {self.note};" if confirmed_while_asleep else ""
        stubs = f"""
            sleep() {{ echo sleep $1 >> {self.folder}/log; {gone} }}
            busybox() {{ "$@"; }}
            systemctl() {{ echo systemctl "$@" >> {self.folder}/log; }}
        """
        for place, ours in {
            "/var/lib/vouch/trial": "note",
            "/sys/class/tpm/tpm0/pcr-sha256/4": "register",
            "/proc/uptime": "uptime",
            "/dev/console": "console",
            "/proc/sysrq-trigger": "sysrq",
        }.items():
            assert place in script
            script = script.replace(place, str(self.folder / ours))
        script = script.replace("/usr/bin/systemctl", "systemctl").replace("b=/bin/busybox", "b=busybox")
        done = subprocess.run(
            ["sh", "-c", stubs + script],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        return (self.folder / "log").read_text().splitlines()


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


GOES_BACK = [
    "systemctl start --no-block --job-mode=replace-irreversibly reboot.target",
    "sleep 120",
]


def test_without_a_note_nothing_happens(host: Host) -> None:
    assert host.run() == []


def test_the_release_before_does_not_restart(host: Host) -> None:
    host.note.write_text(f"{BEFORE} 600\n")
    (host.folder / "register").write_text(BEFORE.upper() + "\n")
    assert host.run() == []


def test_an_unconfirmed_release_goes_back_when_its_time_is_over(host: Host) -> None:
    host.note.write_text(f"{BEFORE} 600\n")
    assert host.run() == ["sleep 500", *GOES_BACK]
    assert (host.folder / "sysrq").read_text() == "b\n"
    assert "not confirmed within 600 s" in (host.folder / "console").read_text()


def test_a_confirmed_release_stays(host: Host) -> None:
    host.note.write_text(f"{BEFORE} 600\n")
    assert host.run(confirmed_while_asleep=True) == ["sleep 500"]
    assert (host.folder / "sysrq").read_text() == ""


def test_time_that_is_over_is_not_waited_for(host: Host) -> None:
    host.note.write_text(f"{BEFORE} 60\n")
    assert host.run() == GOES_BACK


@pytest.mark.parametrize("note", [f"{BEFORE}\n", f"{BEFORE} soon\n", f"{BEFORE} -1\n"])
def test_a_damaged_note_has_its_time_too(host: Host, note: str) -> None:
    host.note.write_text(note)
    assert host.run() == ["sleep 500", *GOES_BACK]


def test_a_register_that_cannot_be_read_is_not_the_one_before(host: Host) -> None:
    host.note.write_text(f"{BEFORE} 600\n")
    (host.folder / "register").unlink()
    assert host.run() == ["sleep 500", *GOES_BACK]


@pytest.mark.parametrize("name", ["trial", "esp", "network", "dhcp", "init"])
def test_a_shell_reads_the_scripts(name: str) -> None:
    assert subprocess.run(["sh", "-n", SCRIPTS / name], capture_output=True, timeout=10, check=False).returncode == 0

# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the guest ``base`` is, and how long it takes from ``xl create`` until it is ready."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import untrimmed_guest
from .harness import ROOT, Measured, NotMeasuredError, at_most, row
from .rows_image import store

if TYPE_CHECKING:
    from xen_guests import Domain, XenHost

GUEST = "base"
HOST = "bench"
BUILD_LIMIT_S = 1800
HOST_LIMIT_S = 600
BOOT_LIMIT_S = 600
DISK_MB, MEMORY_MB = 8192, 3072


@row("guest.disk", "MB", target=at_most(120))
def disk() -> Measured:
    """Everything that a start of ``base`` needs: root image with its hash tree, kernel and initrd."""
    from vouch.model.package import INITRD, KERNEL, ROOT_IMAGE, GuestPackage
    from vouch.parse.envelope import parse_envelope

    file = store() / "packages" / f"{GUEST}.dsse.json"
    if not file.is_file():
        raise NotMeasuredError(f"no package in {store()}; `ansible-playbook playbooks/build_guests.yml` builds it")
    package = GuestPackage.from_bytes(parse_envelope(file.read_bytes()).payload)
    sizes = {name: package.parts[name].size_bytes / 1e6 for name in (ROOT_IMAGE, KERNEL, INITRD)}
    note = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
    return Measured(value=sum(sizes.values()), note=f"{note}; {len(package.packages)} Debian packages")


@row(
    "guest.boot",
    "s",
    baseline="untrimmed Debian 13 guest, PV, SELinux enforcing, xl create to login prompt",
    slow=True,
)
def boot() -> Measured:
    """Both as PV on one debug host of the lab, one after the other."""
    from xen_guests import GUESTS, Domain

    ordinary = untrimmed_guest.files()
    with tempfile.TemporaryDirectory(prefix="vouch-") as name:
        state = pathlib.Path(name)
        build(state, "guest_boot.yml", GUEST)
        output = state / "vouch" / "output"
        ours = domain_of(state, GUEST)
        theirs = Domain(
            name="untrimmed",
            kind="pv",
            kernel=f"{GUESTS}/{ordinary.name}/vmlinuz",
            initrd=f"{GUESTS}/{ordinary.name}/initrd.img",
            image=f"{GUESTS}/{ordinary.name}/root.img",
            cmdline=untrimmed_guest.CMDLINE,
            memory_mb=untrimmed_guest.MEMORY_MB,
            mac="00:16:3e:00:00:02",
            writable=True,
        )
        with host(state, [output / GUEST, ordinary]) as dom0:
            value = seconds(dom0, ours, f"vouch-guest: ready {GUEST}")
            baseline = seconds(dom0, theirs, untrimmed_guest.LOGIN_PROMPT)
    return Measured(
        value=value, baseline_value=baseline, target=at_most(baseline / 2), note="PV; target: half the baseline"
    )


def build(state: pathlib.Path, playbook: str, *guests: str) -> None:
    """Build host and guests below ``state``, from the cache where they did not change."""
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", str(ROOT / "inventories/lab")]
    argv += [f"--limit={','.join(('localhost', *guests))}", str(ROOT / "tests/bench" / playbook)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "XDG_STATE_HOME": str(state)}
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the images were not built: {(done.stdout + done.stderr)[-1500:]}")


def domain_of(state: pathlib.Path, image: str, name: str = "") -> Domain:
    """Return what is started of a guest: what its package says."""
    from xen_guests import GUESTS, Domain

    from vouch.model.package import GuestPackage
    from vouch.parse.envelope import parse_envelope

    envelope = (state / "vouch" / "packages" / f"{image}.dsse.json").read_bytes()
    package = GuestPackage.from_bytes(parse_envelope(envelope).payload)
    return Domain(
        name=name or image,
        kind="pv",
        kernel=f"{GUESTS}/{image}/vmlinuz",
        initrd=f"{GUESTS}/{image}/initrd.img",
        image=f"{GUESTS}/{image}/root.img",
        cmdline=package.cmdline,
        memory_mb=package.resources.memory_mb,
        mac="00:16:3e:00:00:01",
    )


def seconds(dom0: XenHost, domain: Domain, text: str) -> float:
    """Return the seconds from the beginning of ``xl create`` until the console shows ``text``."""
    with dom0.guest(domain) as guest:
        return guest.wait_for(text, BOOT_LIMIT_S)


@contextlib.contextmanager
def host(state: pathlib.Path, guests: list[pathlib.Path], memory_mb: int = MEMORY_MB) -> Iterator[XenHost]:
    """Boot the debug host with ``guests`` on its disk, on a machine of the lab's kind; it is gone afterwards."""
    from lab_hostdisk import write_host
    from xen_guests import XenHost

    from vouch.lab.control import Machine
    from vouch.lab.machine import Forward, MachinePaths, MachineSpec

    lab = state / "lab"
    paths = MachinePaths(directory=lab, name=HOST)
    port = free_port()
    spec = MachineSpec(
        name=HOST,
        disk_mb=DISK_MB,
        memory_mb=memory_mb,
        cpus=1,
        forwards=(Forward(host_port=port, guest_port=22),),
    )
    control = Machine(paths)
    with control.locked():
        control.make(spec)
    image = state / "vouch" / "output" / "vouch-host-debug"
    host_key = write_host(paths.disk, image, uuid.uuid5(uuid.NAMESPACE_DNS, HOST), guests)
    known_hosts = state / "known_hosts"
    known_hosts.write_text(f"{HOST} {host_key}\n")
    dom0 = XenHost(name=HOST, port=port, key=state / "vouch" / "keys" / "controller", known_hosts=known_hosts)
    try:
        control.start()
        dom0.wait_until_up(HOST_LIMIT_S)
        yield dom0
    finally:
        dom0.close()
        control.remove()


def free_port() -> int:
    """Return a port of the loopback address that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

# SPDX-License-Identifier: GPL-3.0-or-later
"""swtpm's tools are kept inside the lab directory."""

from __future__ import annotations

import pathlib

from ansible.module_utils.vouch.lab.swtpm import ca_certificates, config_files, setup_argv, socket_argv

LAB = pathlib.Path("/lab")


def test_every_path_of_the_configuration_is_in_the_lab() -> None:
    for path, text in config_files(LAB).items():
        assert path.is_relative_to(LAB / "ca")
        for line in text.splitlines():
            _, equals, value = line.partition("=")
            if equals and value.startswith("/"):
                assert pathlib.Path(value).is_relative_to("/lab/ca") or value == "/usr/bin/swtpm_localca"


def test_one_bank_and_our_configuration() -> None:
    argv = setup_argv(LAB, LAB / "m1/tpm")
    assert argv[argv.index("--pcr-banks") + 1] == "sha256"
    assert argv[argv.index("--config") + 1] == "/lab/ca/swtpm_setup.conf"
    assert "--create-ek-cert" in argv


def test_socket_is_private_and_ends_with_the_machine() -> None:
    argv = socket_argv(LAB / "m1/tpm", LAB / "m1/run/tpm.sock")
    assert "type=unixio,path=/lab/m1/run/tpm.sock,mode=0600" in argv
    assert "--terminate" in argv


def test_certificates_above_the_ek() -> None:
    assert [path.name for path in ca_certificates(LAB)] == ["issuercert.pem", "swtpm-localca-rootca-cert.pem"]

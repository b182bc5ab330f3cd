# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM of a lab machine: swtpm, with EK certificates from a certificate authority of the lab's own.

The authority lives in ``DIRECTORY/ca`` and nowhere else: the lab neither reads nor writes ``/var/lib/swtpm-localca``.
Only the SHA-256 bank is active, because firmware measures everything once per active bank.

Source: swtpm(8), swtpm_setup(8), swtpm_setup.conf(5), swtpm-localca.conf(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PCR_BANKS = "sha256"
CA_FOLDER = "ca"
LOCALCA = "/usr/bin/swtpm_localca"
STATE_FILE = "tpm2-00.permall"


def ca_folder(directory: Path) -> Path:
    """Return the folder of the lab's certificate authority."""
    return directory / CA_FOLDER


def config_files(directory: Path) -> Mapping[Path, str]:
    """Return the configuration files, path to content, that keep swtpm's tools inside ``directory``."""
    folder = ca_folder(directory)
    return {
        folder / "swtpm_setup.conf": (
            f"create_certs_tool={LOCALCA}\n"
            f"create_certs_tool_config={folder}/swtpm-localca.conf\n"
            f"create_certs_tool_options={folder}/swtpm-localca.options\n"
            f"active_pcr_banks={PCR_BANKS}\n"
        ),
        folder / "swtpm-localca.conf": (
            f"statedir={folder}\n"
            f"signingkey={folder}/signkey.pem\n"
            f"issuercert={folder}/issuercert.pem\n"
            f"certserial={folder}/certserial\n"
        ),
        folder / "swtpm-localca.options": (
            "--platform-manufacturer Vouch\n--platform-version 1\n--platform-model lab\n"
        ),
    }


def ca_certificates(directory: Path) -> tuple[Path, ...]:
    """Return the certificates above an EK certificate, issuer first; they exist once a TPM was made."""
    folder = ca_folder(directory)
    return (folder / "issuercert.pem", folder / "swtpm-localca-rootca-cert.pem")


def setup_argv(directory: Path, state: Path) -> list[str]:
    """Return the command that makes a new TPM with EK certificates in ``state``."""
    return [
        "swtpm_setup",
        "--tpm2",
        "--tpmstate",
        str(state),
        "--create-ek-cert",
        "--create-platform-cert",
        "--lock-nvram",
        "--overwrite",
        "--pcr-banks",
        PCR_BANKS,
        "--config",
        str(ca_folder(directory) / "swtpm_setup.conf"),
    ]


def socket_argv(state: Path, socket: Path) -> list[str]:
    """Return the command that serves the TPM in the foreground until its machine closes the connection."""
    return [
        "swtpm",
        "socket",
        "--tpm2",
        "--tpmstate",
        f"dir={state},mode=0600",
        "--ctrl",
        f"type=unixio,path={socket},mode=0600",
        "--terminate",
    ]

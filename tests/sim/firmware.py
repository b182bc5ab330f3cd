# SPDX-License-Identifier: GPL-3.0-or-later
"""A firmware in memory: it logs and extends as UEFI does, and knows its registers without our replay."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Sequence

from ansible.module_utils.vouch.model.digest import PcrBank
from ansible.module_utils.vouch.parse import tcglog

ALGORITHM_IDS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
CALLING = b"Calling EFI Application from Boot Option"
RETURNING = b"Returning from EFI Application from Boot Option"
EFI_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
OWNER = uuid.UUID("11111111-2222-3333-4444-555555555555")


class SimFirmware:
    """Appends events and extends registers at once.

    Args:
        algorithms: Banks, in the order the Spec ID event declares them; empty for the SHA-1 form of the log.
        locality: Where TPM2_Startup came from; logged when not 0.
        extra_algorithms: Declared as well, TPM_ALG_ID and size; the firmware fills in noise for them.
    """

    def __init__(
        self,
        algorithms: Sequence[str] = ("sha1", "sha256"),
        *,
        locality: int = 0,
        extra_algorithms: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.legacy = not algorithms
        self.algorithms = tuple(algorithms) or ("sha1",)
        self.extra = tuple(extra_algorithms)
        self.registers: dict[str, dict[int, bytes]] = {name: {} for name in self.algorithms}
        self.locality = locality
        self.records: list[bytes] = []
        if not self.legacy:
            self.records.append(self._spec_id())
        if locality:
            self.note(0, b"StartupLocality\0" + bytes([locality]))

    @property
    def log(self) -> bytes:
        """The log as the firmware leaves it."""
        return b"".join(self.records)

    def bank(self, algorithm: str = "sha256") -> PcrBank:
        """Return the registers as a TPM would quote them, 0 to 9."""
        values = {i: self._start(i, algorithm) for i in range(10)}
        return PcrBank(algorithm, {**values, **self.registers[algorithm]})

    def measure(
        self, pcr: int, event_type: int, data: bytes, *, measured: bytes | None = None, digest: bytes = b""
    ) -> None:
        """Log an event; extend the hash of ``measured`` (``data`` when None), or ``digest`` as it is (SHA-256 bank)."""
        digests = {}
        for name in self.algorithms:
            digests[name] = hashlib.new(name, data if measured is None else measured).digest()
            if digest and name == "sha256":
                digests[name] = digest
            before = self.registers[name].get(pcr, self._start(pcr, name))
            self.registers[name][pcr] = hashlib.new(name, before + digests[name]).digest()
        self.records.append(self._record(pcr, event_type, digests, data))

    def note(self, pcr: int, data: bytes) -> None:
        """Log an EV_NO_ACTION event; nothing is extended."""
        zeros = {name: bytes(hashlib.new(name).digest_size) for name in self.algorithms}
        self.records.append(self._record(pcr, tcglog.EV_NO_ACTION, zeros, data))

    def variable(
        self, name: str, data: bytes, *, pcr: int = 7, event_type: int = tcglog.EV_EFI_VARIABLE_DRIVER_CONFIG
    ) -> None:
        """Log a UEFI variable."""
        vendor = SECURITY_DATABASE if name in {"db", "dbx", "dbt"} else EFI_GLOBAL
        self.measure(pcr, event_type, variable_data(vendor, name, data))

    def application(self, digest: bytes, path: bytes = b"") -> None:
        """Log and measure a boot application with this Authenticode digest."""
        event = struct.pack("<QQQQ", 0x1000, 0x2000, 0, len(path)) + path
        self.measure(4, tcglog.EV_EFI_BOOT_SERVICES_APPLICATION, event, digest=digest)

    def boot(self, applications: Sequence[bytes], *, failed_attempts: int = 0, secure_boot: bool = False) -> None:
        """Run a whole boot: firmware, Secure Boot variables, separators, boot options, applications."""
        self.measure(0, tcglog.EV_S_CRTM_VERSION, "1.0".encode("utf-16-le") + b"\0\0")
        self.secure_boot(enabled=secure_boot)
        self.measure(4, tcglog.EV_EFI_ACTION, CALLING)
        for pcr in range(7):
            self.measure(pcr, tcglog.EV_SEPARATOR, bytes(4))
        for _ in range(failed_attempts):
            self.measure(4, tcglog.EV_EFI_ACTION, RETURNING)
            self.measure(4, tcglog.EV_EFI_ACTION, CALLING)
        for digest in applications:
            self.application(digest, file_path("\\EFI\\BOOT\\BOOTX64.EFI"))
        self.measure(5, tcglog.EV_EFI_ACTION, b"Exit Boot Services Invocation")
        self.measure(5, tcglog.EV_EFI_ACTION, b"Exit Boot Services Returned with Success")

    def secure_boot(self, *, enabled: bool, certificate: bytes = b"certificate", separator: bytes = bytes(4)) -> None:
        """Measure what PCR 7 holds, up to and with its separator."""
        self.variable("SecureBoot", b"\x01" if enabled else b"\x00")
        self.variable("PK", signature_list(b"platform key"))
        self.variable("KEK", signature_list(b"exchange key"))
        self.variable("db", signature_list(certificate))
        self.variable("dbx", b"")
        self.measure(7, tcglog.EV_SEPARATOR, separator)

    def _start(self, pcr: int, algorithm: str) -> bytes:
        size = hashlib.new(algorithm).digest_size
        return bytes(size - 1) + bytes([self.locality if pcr == 0 else 0])

    def _record(self, pcr: int, event_type: int, digests: dict[str, bytes], data: bytes) -> bytes:
        if self.legacy:
            return struct.pack("<II", pcr, event_type) + digests["sha1"] + struct.pack("<I", len(data)) + data
        out = struct.pack("<III", pcr, event_type, len(digests) + len(self.extra))
        out += b"".join(struct.pack("<H", ALGORITHM_IDS[name]) + digest for name, digest in digests.items())
        out += b"".join(struct.pack("<H", algorithm) + b"\xaa" * size for algorithm, size in self.extra)
        return out + struct.pack("<I", len(data)) + data

    def _spec_id(self) -> bytes:
        sizes = [(ALGORITHM_IDS[name], hashlib.new(name).digest_size) for name in self.algorithms] + list(self.extra)
        data = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(sizes))
        data += b"".join(struct.pack("<HH", *size) for size in sizes) + b"\0"
        return struct.pack("<II20sI", 0, tcglog.EV_NO_ACTION, b"", len(data)) + data


def variable_data(vendor: uuid.UUID, name: str, data: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA."""
    return vendor.bytes_le + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def signature_list(data: bytes, *, kind: uuid.UUID = X509) -> bytes:
    """Return an EFI_SIGNATURE_LIST with one entry."""
    entry = OWNER.bytes_le + data
    return kind.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def file_path(name: str) -> bytes:
    """Return a device path of one file node and its end."""
    text = name.encode("utf-16-le") + b"\0\0"
    return struct.pack("<BBH", 4, 4, 4 + len(text)) + text + b"\x7f\xff\x04\0"
